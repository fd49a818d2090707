"""HU of a synthetic phase beside those of the real one, structure by structure, on ten phantoms never seen in training.

    python benchmarks/synthetic_hu.py --model csgan-phantom
    python benchmarks/synthetic_hu.py --model runs/csgan-phantom-s1/model --cases 3

Each phantom's scan is translated as `multiphase translate` does. A structure's mean HU in the synthetic image is taken
where the source's labels have it, in the real scan where that phase's own have it; both over the voxels whose 26
neighbours belong to it too, where there are any (borders are mixtures of two structures). The error is the difference
of the means over the cases in which it is present. Beside it, what the source shows untranslated. Writes
benchmarks/results/synthetic_hu-<model>.json.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phantom_dice import TRAINING, spec
from scipy import ndimage

from napari_multiphase.inference.translate import translate
from napari_multiphase.io.models import find_translator
from napari_multiphase.labels import name_of
from napari_multiphase.phantom import make_phantom
from napari_multiphase.study import Study
from napari_multiphase.training.report import machine
from napari_multiphase.volume import Phase

RESULTS = Path(__file__).parent / "results"
WANTED_HU = 15.0


def mean_hu(image: NDArray[Any], labels: NDArray[Any], structure: int) -> float:
    """Mean of the voxels inside a structure, of all its voxels where none is inside."""
    mask = labels == structure
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    mask, values = mask[box], image[box]
    inside = ndimage.binary_erosion(mask, np.ones((3, 3, 3)))
    return float(values[inside if inside.any() else mask].mean())


def measure(model_name: str, cases: int) -> dict[str, Any]:
    """Mean HU by synthetic phase and structure: real, synthetic, source; and the error of the synthetic ones."""
    model = find_translator(model_name)
    found: dict[Phase, dict[int, list[tuple[float, float, float]]]] = {p: defaultdict(list) for p in Phase}
    for seed in range(cases):
        phantom = make_phantom(spec(seed, TRAINING.pathologies))
        study = Study(f"phantom-{seed}", phantom.volumes)
        for to in Phase:
            made = np.asarray(translate(study, model, to).image)
            real, source = phantom.volumes[to].data, phantom.volumes[to.other].data
            theirs, own = phantom.labels[to], phantom.labels[to.other]
            for i in sorted(set(np.unique(theirs)) & set(np.unique(own)) & set(model.card.labels) - {0}):
                values = mean_hu(real, theirs, i), mean_hu(made, own, i), mean_hu(source, own, i)
                found[to][int(i)].append(values)
        print(f"phantom {seed}", flush=True)
    result: dict[str, Any] = {}
    for to, structures in found.items():
        rows = {}
        for i, values in sorted(structures.items()):
            real_hu, made_hu, source_hu = np.mean(values, axis=0)
            rows[name_of(i)] = {
                "real": round(real_hu, 1),
                "synthetic": round(made_hu, 1),
                "source": round(source_hu, 1),
                "error": round(made_hu - real_hu, 1),
                "cases": len(values),
            }
        errors = [abs(row["error"]) for row in rows.values()]
        result[to.value] = {
            "structures": rows,
            "mean_absolute_error": round(float(np.mean(errors)), 1),
            "untranslated": round(float(np.mean([abs(row["source"] - row["real"]) for row in rows.values()])), 1),
            "within_15_hu": f"{sum(error <= WANTED_HU for error in errors)} of {len(errors)}",
        }
    return {
        "command": f"python benchmarks/synthetic_hu.py --model {model.card.name}",
        "model": model.card.name,
        "weights_sha256": model.card.weights_sha256,
        "cases": cases,
        "machine": machine(),
        "by_synthetic_phase": result,
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    result = measure(arguments.model, arguments.cases)
    for phase, of in result["by_synthetic_phase"].items():
        print(
            f"{phase}: error {of['mean_absolute_error']} HU (untranslated {of['untranslated']}), {of['within_15_hu']}"
        )
        for name, row in of["structures"].items():
            print(f"  {name}: real {row['real']}, synthetic {row['synthetic']}, source {row['source']}")
    out = arguments.out or RESULTS / f"synthetic_hu-{result['model']}.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
