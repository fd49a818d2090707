"""How much of the gut that is full of contrast medium is found, in the two contrast scans, which have no reference.

    python benchmarks/gut_contrast.py --model abdomen [--model runs/another/model ...]

Such gut is bright in the arterial scan and needs no expert: what is above 140 HU, cut where it is narrow, around
voxels that were picked by hand in stomach, colon and loops of small bowel. Per stretch, the share of it that each label
of the arterial scan has. Writes benchmarks/results/gut_contrast.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_ct import DATA, STUDIES, run_study
from scipy import ndimage

from napari_multiphase.io.images import read_labels
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.studies.open import open_study
from napari_multiphase.volume import Phase, Volume

RESULT = Path(__file__).parent / "results" / "gut_contrast.json"
BRIGHT_HU = 140.0
PICKED = {
    "hcc_015": {
        "stomach": ("stomach", (44, 246, 322)),
        "ascending colon": ("colon", (5, 162, 181)),
        "transverse colon": ("colon", (3, 129, 329)),
        "descending colon": ("colon", (12, 203, 371)),
    },
    "hcc_002": {
        "stomach": ("stomach", (78, 281, 335)),
        "right flexure": ("colon", (20, 182, 170)),
        "transverse colon": ("colon", (29, 151, 297)),
        "left flexure": ("colon", (60, 271, 395)),
        "jejunum in front": ("small bowel", (16, 151, 435)),
        "jejunum behind": ("small bowel", (19, 211, 415)),
    },
}
"""Per scan and stretch its organ and a voxel (z, y, x) of the arterial scan."""


def stretch(volume: Volume, picked: tuple[int, int, int]) -> NDArray[np.bool_]:
    """(D, H, W): what is bright around a picked voxel."""
    bright = ndimage.gaussian_filter(np.asarray(volume.data, np.float32), (0.5, 1, 1)) > BRIGHT_HU
    parts, _ = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if not parts[picked]:
        raise SystemExit(f"nothing is bright at {picked}")
    return np.asarray(parts == parts[picked])


def shares(labels: NDArray[np.integer], where: NDArray[np.bool_]) -> dict[str, float]:
    """Of `where`, the share of each label, largest first; under 1 % left out."""
    ids, counts = np.unique(labels[where], return_counts=True)
    told = sorted(zip(counts / counts.sum(), ids.tolist(), strict=True), reverse=True)
    return {STRUCTURES[i].name if i else "unlabelled": round(float(share), 3) for share, i in told if share >= 0.01}


def main() -> None:
    """Both scans with each model, a table, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True)
    models = {model: find_model(model).card for model in parser.parse_args().model}
    rows: dict[str, dict] = {}
    for study, stretches in PICKED.items():
        volume = open_study([DATA / STUDIES[study]]).volumes[Phase.ARTERIAL]
        places = {name: stretch(volume, picked) for name, (_, picked) in stretches.items()}
        found = {}
        for model in models:
            with tempfile.TemporaryDirectory() as temporary:
                run = run_study(study, DATA / STUDIES[study], model, Path(temporary) / "out", fast=False)
                if run["exit"]:
                    raise SystemExit(run["sentence"])
                found[model] = np.asarray(read_labels(Path(temporary) / "out" / "arterial_labels.nii.gz").data)
        for name, place in places.items():
            organ = stretches[name][0]
            told = {models[model].name: shares(labels, place) for model, labels in found.items()}
            rows[f"{study}, {name}"] = {
                "organ": organ,
                "ml": round(float(place.sum()) * volume.grid.voxel_ml, 1),
                "labels": told,
            }
            print(f"{study}, {name:18}", rows[f"{study}, {name}"]["ml"], *(t.get(organ, 0.0) for t in told.values()))
    weights = {card.name: card.weights_sha256 for card in models.values()}
    RESULT.write_text(json.dumps({"weights_sha256": weights, "stretches": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
