"""What fluid that a patient may have does to labels: painted into the two contrast scans, which show next to none.

    python benchmarks/fluid.py --model abdomen [--model runs/another/model ...]

Into each phase of both scans, alone: fluid behind both lungs, lung without air there instead, fluid for the fat
between the organs, and a spleen drawn to about twice its volume. Where lungs, organs and spleen are is told by the
first model's labels of the scan as it is. Nobody's reference is needed: labels must not change but by what was done to
the scan. Per alteration and model: Dice of each organ with the same model's labels of the scan as it is (warped with
the spleen), and how many ml of what was painted became which organ. It shares no code with the phantoms' fluid. Writes
benchmarks/results/fluid.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from real_ct import DATA, STUDIES
from scipy import ndimage

from napari_multiphase.config import SegmentOptions
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import IDS_BY_NAME, STRUCTURES, ids_of_group
from napari_multiphase.metrics.overlap import Overlap
from napari_multiphase.model import Model
from napari_multiphase.studies.open import open_study
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase, Volume

RESULT = Path(__file__).parent / "results" / "fluid.json"
SCANS = ("hcc_015", "hcc_002")
EFFUSION_HU, AIRLESS_HU, ASCITES_HU, NOISE_HU = 8.0, 90.0, 10.0, 15.0
BEHIND = 0.45
"""Fluid lies behind this quantile of each lung's depth."""
CLOSING_MM, NEAR_MM, KIDNEY_MM = 30.0, 14.0, 18.0
"""Fat is within the organs' closing (in the plane), near one of them, and not around a kidney."""
GROWTH, REACH = 0.45, 1.4
ORGANS = (
    *("liver", "spleen", "right kidney", "left kidney", "aorta", "inferior vena cava", "stomach"),
    *("pancreas", "duodenum", "small bowel", "colon"),
)
BELLY = [IDS_BY_NAME[name] for name in ("liver", "spleen", "pancreas", "stomach", "duodenum", "small bowel", "colon")]
Array, Labels, Mask = NDArray[np.float32], NDArray[np.integer], NDArray[np.bool_]
Moved = Callable[[Labels], Labels]


class Altered(NamedTuple):
    """A scan's HU, which of it was painted, and what the same did to labels."""

    hu: Array
    painted: Mask
    moved: Moved


def _noise(shape: tuple[int, ...]) -> Array:
    field = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    field = ndimage.gaussian_filter(field, (0.3, 0.7, 0.7))
    return np.asarray(field * np.float32(NOISE_HU / field.std()))


def behind_lungs(hu: Array, labels: Labels, _spacing: tuple[float, ...], value: float) -> Altered:
    """The hind part of both lungs with another content, up to its vessels and walls."""
    lungs = labels == IDS_BY_NAME["lungs"]
    lungs |= ndimage.binary_closing(lungs, iterations=3) & (labels == 0)
    middle = int(np.argwhere(labels == IDS_BY_NAME["spine and bones"])[:, 2].mean())
    depth, painted = np.arange(hu.shape[1])[None, :, None], np.zeros(hu.shape, bool)
    for side in (slice(0, middle), slice(middle, None)):
        rows = np.nonzero(lungs[:, :, side])[1]
        if rows.size:
            painted[:, :, side] |= lungs[:, :, side] & (depth > np.quantile(rows, BEHIND))
    rim = (ndimage.gaussian_filter(painted.astype(np.float32), (0.4, 0.8, 0.8)) > 0.3) & (hu < -100)
    full = np.where(painted | rim, np.float32(value) + _noise(hu.shape), hu)
    return Altered(full, painted, lambda own: np.where(painted, 0, own))


def among_organs(hu: Array, labels: Labels, spacing: tuple[float, ...], value: float) -> Altered:
    """Fat between and beside the organs of the belly with another content."""
    step, radius = 4, int(CLOSING_MM / (4 * spacing[1]))
    disc = np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    organs, kidneys = np.isin(labels, BELLY), np.isin(labels, [3, 4])

    def full(coarse: Mask | Array) -> Mask | Array:
        return np.repeat(np.repeat(coarse, step, 1), step, 2)[:, : hu.shape[1], : hu.shape[2]]

    def away_mm(mask: Mask) -> Array:
        sampling = (spacing[0], step * spacing[1], step * spacing[2])
        return full(ndimage.distance_transform_edt(~mask[:, ::step, ::step], sampling=sampling))

    padded = np.pad(organs[:, ::step, ::step], ((0, 0), (radius, radius), (radius, radius)))
    closed = np.stack([ndimage.binary_closing(plane, disc) for plane in padded])[:, radius:-radius, radius:-radius]
    smooth = ndimage.gaussian_filter(hu, (0, 1, 1))
    fat = (smooth > -150) & (smooth < -45) & full(closed) & (away_mm(organs) < NEAR_MM) & (away_mm(kidneys) > KIDNEY_MM)
    fat = ndimage.binary_opening(fat, np.ones((1, 3, 3)))
    return Altered(np.where(fat, np.float32(value) + _noise(hu.shape), hu), fat, lambda own: np.where(fat, 0, own))


def larger_spleen(hu: Array, labels: Labels, spacing: tuple[float, ...], growth: float) -> Altered:
    """The scan drawn away from the spleen's centre, less and less with a Gaussian."""
    found = np.argwhere(labels == IDS_BY_NAME["spleen"]) * np.array(spacing)
    reach = float(np.clip(np.linalg.norm(found.std(axis=0)) * REACH, 40, 80))
    at = np.meshgrid(
        *((np.arange(n) * s).astype(np.float32) for n, s in zip(hu.shape, spacing, strict=True)), indexing="ij"
    )
    away = [a - np.float32(c) for a, c in zip(at, found.mean(axis=0), strict=True)]
    pull = np.float32(-growth) * np.exp(-sum(a * a for a in away) / np.float32(2 * reach**2))
    index = np.stack([(a + pull * d) / np.float32(s) for a, d, s in zip(at, away, spacing, strict=True)])

    def moved(own: Labels) -> Labels:
        return ndimage.map_coordinates(own, index, order=0, mode="nearest")

    return Altered(ndimage.map_coordinates(hu, index, order=1, mode="nearest"), np.zeros(hu.shape, bool), moved)


ALTERATIONS = {
    "fluid behind the lungs": (behind_lungs, EFFUSION_HU),
    "lung without air": (behind_lungs, AIRLESS_HU),
    "fluid between organs": (among_organs, ASCITES_HU),
    "a larger spleen": (larger_spleen, GROWTH),
}


def labels_of(model: Model, volume: Volume, phase: Phase) -> Labels:
    """One scan alone, as `segment` labels it."""
    return np.asarray(segment(Study("altered", {phase: volume}), model, SegmentOptions()).fused_labels)


def compare(found: Labels, own: Labels, altered: Altered, voxel_ml: float) -> dict:
    """Of one model: Dice with its labels of the scan as it is, and organs in what was painted, ml."""
    expected, dice = altered.moved(own), {}
    for name in ORGANS:
        p, g = (np.isin(labels, ids_of_group(IDS_BY_NAME[name])) for labels in (found, expected))
        dice[name] = round(Overlap.of(p, g).dice, 3)
    counts = np.bincount(found[altered.painted].astype(int), minlength=256) * voxel_ml
    invented = {STRUCTURES[i].name: round(float(counts[i])) for i in STRUCTURES if counts[i] >= 1}
    invented.pop("lungs", None)  # lung without air is lung
    return {"dice": dice, "invented_ml": invented}


def main() -> None:
    """Both scans, each phase and alteration, with each model; a table; save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True)
    models = [find_model(name) for name in parser.parse_args().model]
    rows: dict[str, dict] = {}
    for scan in SCANS:
        for phase, volume in open_study([DATA / STUDIES[scan]]).volumes.items():
            own = {model.card.name: labels_of(model, volume, phase) for model in models}
            hu, voxel_ml = np.asarray(volume.data, np.float32), volume.grid.voxel_ml
            for name, (alter, value) in ALTERATIONS.items():
                altered = alter(hu, own[models[0].card.name], volume.grid.spacing_mm, value)
                scanned = Volume.from_array(np.rint(altered.hu), volume.grid.spacing_mm, volume.grid.origin_mm)
                row: dict = {"painted_ml": round(float(altered.painted.sum()) * voxel_ml), "models": {}}
                for model in models:
                    found = labels_of(model, scanned, phase)
                    row["models"][model.card.name] = compare(found, own[model.card.name], altered, voxel_ml)
                rows[f"{scan}, {phase}, {name}"] = row
                told = (sum(r["invented_ml"].values()) for r in row["models"].values())
                print(
                    f"{scan} {phase:8} {name:24} {row['painted_ml']:4} ml painted, called an organ:", *told, flush=True
                )
    weights = {model.card.name: model.card.weights_sha256 for model in models}
    RESULT.write_text(json.dumps({"weights_sha256": weights, "scans": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
