"""What the default model finds in scans of a chest alone: phantoms of people's maps, cut above all abdominal organs.

    MULTIPHASE_ATLASES=~/atlases python benchmarks/no_abdomen.py

Whoever has lungs, heart or aorta there may get them; liver, kidneys and the like are invented. Writes
benchmarks/results/no_abdomen.json. (A scan of a head is among those of `real_ct.py`.)
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_multiphase.config import SegmentOptions
from napari_multiphase.inference.islands import CHEST, ORGANS
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import name_of
from napari_multiphase.phantom import AtlasSpec, make_atlas_phantom
from napari_multiphase.phantom.atlas_fluid import CHEST_SHARE
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.study import Study
from napari_multiphase.training.phantoms import ATLASES
from napari_multiphase.volume import Grid, Phase

RESULT = Path(__file__).parent / "results" / "no_abdomen.json"
MAPS = ("bodyparts3d_male", "hubmap_vh_female", "hubmap_vh_male")
"""Those that reach far enough up."""
SHAPE, SPACING_MM, FIRST_SEED = (190, 112, 136), (3.0, 3.0, 3.0), 70_010
LEAST, MOST, GAP = 15, 36, 3
"""Slices of a chest, and between it and the uppermost organ."""
ABDOMINAL = sorted(set(ORGANS) - set(CHEST))


def has_fluid(number: int) -> bool:
    """Whether the phantom `number` holds fluid beside its lungs, or lung without air: some of the wide ones do."""
    return is_wide(number) and Subject(FIRST_SEED + number, wide=True).rng("atlas_fluid").random() < CHEST_SHARE


def is_wide(number: int) -> bool:
    """Whether its HU are of any contrast."""
    return number % 4 > 1


def chest(folder: Path, number: int) -> Study | None:
    """One phase of the phantom `number`, above its abdomen; None where too little of it is left."""
    phase = list(Phase)[number % 2]
    files = {"atlas": folder / "labels.nii.gz", "names": folder / "labels.json"}
    made = make_atlas_phantom(
        AtlasSpec(SHAPE, SPACING_MM, FIRST_SEED + number, "none", 8.0, wide=is_wide(number), **files)
    )
    volume, labels = made.volumes[phase], made.labels[phase]
    first = int(np.flatnonzero(np.isin(labels, ABDOMINAL[:4]).any((1, 2))).max()) + GAP
    last = min(first + MOST, SHAPE[0])
    if last - first < LEAST:
        return None
    z, y, x = volume.grid.origin_mm
    grid = Grid((last - first, *SHAPE[1:]), SPACING_MM, (z + first * SPACING_MM[0], y, x))
    return Study("chest", {phase: replace(volume, data=volume.data[first:last], grid=grid)})


def main() -> None:
    """All chests, a line each, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="abdomen")
    parser.add_argument("--cases", type=int, default=12, help="Of each map.")
    given = parser.parse_args()
    model, rows = find_model(given.model), []
    for name in MAPS:
        for number in range(given.cases):
            study = chest(Path(os.environ.get(ATLASES, ".")) / name, number)
            if study is None:
                continue
            result = segment(study, model, SegmentOptions())
            found, voxel_ml = np.asarray(result.fused_labels), next(iter(study.volumes.values())).grid.voxel_ml
            ml = np.bincount(found.ravel(), minlength=256) * voxel_ml
            invented = {name_of(label): round(float(ml[label]), 1) for label in ABDOMINAL if ml[label] >= 1}
            rows.append({"map": name, "number": number, "fluid": has_fluid(number), "invented_ml": invented})
            print(name, number, "fluid" * has_fluid(number), invented or "nothing invented", flush=True)
    told = {}
    for kind, fluid in (("without fluid", False), ("with fluid", True)):
        clean = [not row["invented_ml"] for row in rows if row["fluid"] == fluid]
        told[kind] = {"chests": len(clean), "without_abdominal_organs": sum(clean)}
        print(f"{kind}: {sum(clean)} of {len(clean)} chests without abdominal organs")
    RESULT.write_text(json.dumps({"model": given.model, **told, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
