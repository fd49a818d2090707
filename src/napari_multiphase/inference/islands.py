"""Parts that lie far from their organ, left out: a network sees a tile at a time and cannot know where the organ is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import components
from napari_multiphase.labels import BACKGROUND, STRUCTURES, ids_of_group, name_of
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

CELL_MM = 12.0
"""Parts whose voxels lie in touching cells of this side belong together: gaps of one to two cells are bridged."""
_HALF = (128, 127)
"""Probabilities (of 255) of background and of what an island was taken for: nobody knows."""
_UNSURE = 1
"""Encoded confidence of an island's voxels: the least that is not "never seen"."""


def without_islands(
    found: PhasePrediction, organs: Sequence[int], grid: Grid
) -> tuple[PhasePrediction, dict[int, float]]:
    """`found` without the islands of `organs`, changed in place where it can be; and their ml by organ.

    Of an organ with its lesions, the part with the most voxels stays, and so does what lies near it, from part to part.
    The rest becomes background with the least confidence, so that it stands high among the uncertain regions; what a
    voxel was taken for is its second class from then on.
    """
    assert found.two_best is not None
    cells = [np.arange(n) // max(1, round(CELL_MM / mm)) for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)]
    counts = _counts(found.labels, cells)
    gone, ml = np.zeros((*counts.shape[:3], 256), bool), {}
    for organ in organs:
        ids = list(ids_of_group(organ))
        inside = counts[..., ids].sum(-1)
        parts, number = components(inside > 0)
        if number > 1:
            sizes = np.bincount(parts.ravel(), inside.ravel(), minlength=number + 1)
            far = (parts > 0) & np.not_equal(parts, sizes.argmax())
            gone[..., ids] |= far[..., None]
            ml[organ] = float(inside[far].sum()) * grid.voxel_ml
    if not ml:
        return found, {}
    best = found.two_best
    first, second, p_first, p_second, confidence = (
        array if array.flags.writeable else np.array(array)
        for array in (found.labels, best.second, best.p_first, best.p_second, found.confidence)
    )
    rows, columns = np.ix_(cells[1], cells[2])
    touched = gone.reshape(len(gone), -1).max(axis=1)
    for z in np.flatnonzero(touched[cells[0]]):
        where = gone[cells[0][z]][rows, columns, first[z]]
        second[z][where] = first[z][where]
        first[z][where], confidence[z][where] = BACKGROUND, _UNSURE
        p_first[z][where], p_second[z][where] = _HALF
    return PhasePrediction(first, confidence, TwoBest(first, second, p_first, p_second)), ml


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


def island_words(phase: Phase, ml: Mapping[int, float]) -> str:
    """What was left out, in a sentence; nothing to say of less than a millilitre."""
    parts = [f"{name_of(organ)} {volume:.0f} ml" for organ, volume in ml.items() if volume >= 1]
    return f"{phase}: parts far from their organ were left out ({', '.join(parts)})" if parts else ""
