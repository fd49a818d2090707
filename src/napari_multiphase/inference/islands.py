"""What cannot be, left out: parts far from their organ, and organs in a scan that shows no abdomen.

A network sees a tile at a time; it may take the bladder, or a brain, for a liver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import components
from napari_multiphase.labels import BACKGROUND, IDS_BY_NAME, STRUCTURES, ids_of_group, name_of
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

CELL_MM = 12.0
"""Parts whose voxels lie in touching cells of this side belong together: gaps below a cell always, above two never."""
COMPANY_ML = {"spleen": 10.0, "right kidney": 10.0, "left kidney": 10.0, "aorta": 5.0}
"""Whoever has two of these shows an abdomen."""
ORGANS = tuple(s.id for s in STRUCTURES.values() if s.id == s.group and s.name not in ("spine and bones", "lungs"))
"""All that a scan of another part of the body does not show,"""
CHEST = tuple(IDS_BY_NAME[name] for name in ("aorta", "heart", "oesophagus"))
"""but for these, where it shows the aorta: a chest."""
_HALF = (128, 127)
"""Probabilities (of 255) of background and of what an island was taken for: nobody knows."""
_UNSURE = 1
"""Encoded confidence of an island's voxels: the least that is not "never seen"."""


@dataclass(frozen=True)
class LeftOut:
    """What became background: ml by organ; `abdomen` is whether the scan shows one."""

    ml: Mapping[int, float]
    abdomen: bool = True

    def words(self, phase: Phase) -> str:
        """In a sentence; there is nothing to say of less than a millilitre."""
        if not self.abdomen:
            return f"{phase}: the scan does not seem to show an abdomen, so no abdominal organ is labelled in it"
        parts = [f"{name_of(organ)} {volume:.0f} ml" for organ, volume in self.ml.items() if volume >= 1]
        return f"{phase}: parts far from their organ were left out ({', '.join(parts)})" if parts else ""


def without_islands(found: PhasePrediction, organs: Sequence[int], grid: Grid) -> tuple[PhasePrediction, LeftOut]:
    """`found` without the islands of `organs`, changed where it lies, in memory or in its files; and what was left out.

    Of an organ with its lesions, the part with the most voxels stays, and so does what lies near it, from part to part.
    The rest becomes background with the least confidence, so that it stands high among the uncertain regions; what a
    voxel was taken for is its second class from then on. Where fewer than two of `COMPANY_ML` are there, though the
    model knows them, no organ stays, or those of the chest alone.
    """
    assert found.two_best is not None
    cells = [np.arange(n) // max(1, round(CELL_MM / mm)) for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)]
    counts = _counts(found.labels, cells)
    volumes_ml = counts.sum((0, 1, 2)) * grid.voxel_ml
    abdomen = _shows_abdomen(volumes_ml, organs)
    stay = ORGANS if abdomen else CHEST if volumes_ml[IDS_BY_NAME["aorta"]] >= COMPANY_ML["aorta"] else ()
    gone, ml = np.zeros((*counts.shape[:3], 256), bool), {}
    for organ in organs if abdomen else ORGANS:
        ids = list(ids_of_group(organ))
        inside = counts[..., ids].sum(-1)
        far = _islands(inside) if organ in stay else inside > 0
        if far.any():
            gone[..., ids] |= far[..., None]
            ml[organ] = float(inside[far].sum()) * grid.voxel_ml
    if not ml:
        return found, LeftOut({}, abdomen)
    best = found.two_best
    arrays = (found.labels, best.second, best.p_first, best.p_second, found.confidence)
    first, second, p_first, p_second, confidence = map(_writable, arrays)
    rows, columns = np.ix_(cells[1], cells[2])
    touched = gone.reshape(len(gone), -1).max(axis=1)
    for z in np.flatnonzero(touched[cells[0]]):
        where = gone[cells[0][z]][rows, columns, first[z]]
        second[z][where] = first[z][where]
        first[z][where], confidence[z][where] = BACKGROUND, _UNSURE
        p_first[z][where], p_second[z][where] = _HALF
    return PhasePrediction(first, confidence, TwoBest(first, second, p_first, p_second)), LeftOut(ml, abdomen)


def _writable(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The array itself, its file mapped to be changed, or a copy of what is neither."""
    if array.flags.writeable:
        return array
    path = array.filename if isinstance(array, np.memmap) else None
    return np.array(array) if path is None else np.load(path, mmap_mode="r+")


def _shows_abdomen(ml: NDArray[np.float64], organs: Sequence[int]) -> bool:
    """Whether two of `COMPANY_ML` are there; `ml` by label id. True where the model is not known to find them."""
    company = {IDS_BY_NAME[name]: least for name, least in COMPANY_ML.items()}
    return not company.keys() <= set(organs) or bool(sum(ml[label] >= least for label, least in company.items()) > 1)


def _islands(inside: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The cells that do not hang together with the part that holds the most voxels; voxels per cell are given."""
    parts, number = components(inside > 0)
    sizes = np.bincount(parts.ravel(), inside.ravel(), minlength=number + 1)
    return np.logical_and(parts > 0, parts != int(sizes.argmax()))


def _counts(labels: NDArray[np.uint8], cells: Sequence[NDArray[np.int_]]) -> NDArray[np.int64]:
    """Voxels of each label in each cell, (cells z, y, x, labels)."""
    shape = tuple(int(index[-1]) + 1 for index in cells)
    kinds = max(STRUCTURES) + 1
    counts = np.zeros((shape[0], shape[1] * shape[2] * kinds), np.int64)
    for z, ids in enumerate(labels):
        y, x = np.nonzero(ids)
        at = (cells[1][y] * shape[2] + cells[2][x]) * kinds + ids[y, x]
        counts[cells[0][z]] += np.bincount(at, minlength=counts.shape[1])
    return counts.reshape(*shape, kinds)
