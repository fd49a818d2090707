"""Dice on phantoms of a person whose label map a model did not learn from, in several sizes and in one.

    MULTIPHASE_ATLASES=~/atlases python benchmarks/unseen_person.py --model runs/abdomen-wide-four-s1/model [...]

Two-phase phantoms of the map of totalsegmentator_example, deformed as in training, half of them with HU of any
contrast; their labels are exact, so unlike `real_ct.py` this tells differences of a few thousandths, though in phantoms
only. Several --model are compared on the same phantoms. A model that learnt from that map is refused. Writes
benchmarks/results/unseen_person.json.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_ct import REFERENCE_IDS, REFERENCE_STUDY

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import UserError
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import IDS_BY_NAME, IGNORE, ids_of_group
from napari_multiphase.metrics.overlap import Overlap
from napari_multiphase.model import Model
from napari_multiphase.phantom import AtlasSpec, make_atlas_phantom
from napari_multiphase.study import Study
from napari_multiphase.training.phantoms import ATLASES
from napari_multiphase.volume import Phase

RESULT = Path(__file__).parent / "results" / "unseen_person.json"
FIRST_SEED = 91_000
SHAPE, SPACING_MM = (96, 112, 136), (3.0, 3.0, 3.0)
LEAST_VOX = 50
"""Of a structure in the scan; below, it is cut off."""


def phantom(folder: Path, number: int) -> tuple[Study, np.ndarray]:
    """One phase of the phantom `number`, and its labels."""
    phase, wide = list(Phase)[number % 2], number % 4 > 1
    files = {"atlas": folder / "labels.nii.gz", "names": folder / "labels.json"}
    lesions = ("none", "liver")[number % 3 == 2]
    made = make_atlas_phantom(AtlasSpec(SHAPE, SPACING_MM, FIRST_SEED + number, lesions, 8.0, wide=wide, **files))
    return Study("unseen", {phase: made.volumes[phase]}), np.asarray(made.labels[phase])


def dice(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Per structure that the truth holds, where it is known."""
    known, scores = truth != IGNORE, {}
    for name in REFERENCE_IDS:
        ids = ids_of_group(IDS_BY_NAME[name])
        p, g = np.isin(found, ids) & known, np.isin(truth, ids)
        if g.sum() >= LEAST_VOX:
            scores[name] = Overlap.of(p, g).dice
    return scores


@dataclass(frozen=True)
class Way:
    """A model, and the sizes that it looks at beside its own."""

    model: Model
    sizes: tuple[float, ...]


def judge(ways: Sequence[Way], cases: int) -> list[list[dict[str, float]]]:
    """Dice of each way on each phantom, per structure; a line per phantom is printed.

    Raises UserError where a model learnt from that person.
    """
    for way in ways:
        if REFERENCE_STUDY in way.model.card.training_data:
            raise UserError(f"{way.model.card.name} learnt from {REFERENCE_STUDY}: give a model that did not")
    folder = Path(os.environ.get(ATLASES, ".")) / REFERENCE_STUDY
    told: list[list[dict[str, float]]] = [[] for _ in ways]
    for number in range(cases):
        study, truth = phantom(folder, number)
        for scores, way in zip(told, ways, strict=True):
            result = segment(study, way.model, SegmentOptions(further_sizes=way.sizes))
            scores.append(dice(np.asarray(result.fused_labels), truth))
        print(number, *(f"{np.mean(list(scores[-1].values())):.3f}" for scores in told), flush=True)
    return told


def mean_dice(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Per structure, over the phantoms that show it."""
    return {s: round(float(np.mean([row[s] for row in scores if s in row])), 4) for s in REFERENCE_IDS}


def main() -> None:
    """All models on all phantoms, a line each, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--cases", type=int, default=10)
    arguments = parser.parse_args()
    # In one size; or in the sizes that `abdomen` is looked at in, whatever the card says.
    several = find_model("abdomen").card.further_sizes
    named = [(name, sizes) for name in arguments.model for sizes in ((), several)]
    rows = []
    for (name, sizes), scores in zip(
        named, judge([Way(find_model(n), s) for n, s in named], arguments.cases), strict=True
    ):
        mean = mean_dice(scores)
        whole = round(float(np.mean(list(mean.values()))), 4)
        each = [round(float(np.mean(list(row.values()))), 4) for row in scores]
        rows.append({"model": name, "sizes": "several" if sizes else "one", "mean": whole, "dice": mean, "each": each})
        print(f"{name} {rows[-1]['sizes']}: {whole}", mean)
    command = "python benchmarks/unseen_person.py " + " ".join(f"--model {name}" for name in arguments.model)
    RESULT.write_text(json.dumps({"command": command, "cases": arguments.cases, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
