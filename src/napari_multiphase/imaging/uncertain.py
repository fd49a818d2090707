"""Where a person should look first: small regions in which the model was unsure, ranked.

The doubt of a voxel is 1 - M (Eq. 3). A region is the unsure voxels of a cube of 15 mm: of the one that holds most
doubt, then of the one that holds most of what is left, and so on. Around every organ lies a thin shell in which one
class ends and the next begins; a cube of it holds less than a cube of a place that is unsure throughout, and more where
the shell is thick. Where the list has room, regions follow in which the model was less unsure, found the same way among
the voxels of that doubt.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from napari_multiphase.imaging.components import bounding_box
from napari_multiphase.imaging.fusion import confidence_map, encode_confidence
from napari_multiphase.imaging.training_labels import SURE_RATIO
from napari_multiphase.labels import BACKGROUND

RATIOS = (3.0, SURE_RATIO)
"""A voxel is unsure where the best class is less than this many times as probable as the second (M below 0.87);
what follows is below the second ratio (M below 0.9997), as far as a prediction is no label to learn from either."""
BLOCK_MM = 5.0
"""Doubt is summed in blocks of this size; a region is a cube of 3 x 3 x 3 of them."""
SMALLEST_ML, SMALLEST_VOX = 0.02, 4
MOST_REGIONS = 500
_NEAR_VOX = 3
_UNSEEN = 0

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class UncertainRegion:
    """One region to look at.

    Attributes
    ----------
    structure : the label id it mainly concerns: the commonest in it, else within three voxels of its box; 0 for none.
    ml : its volume.
    confidence : mean of M (Eq. 3) over it, in [0, 1]; not a probability.
    score : what it is ranked by, the sum of 1 - M over it, in ml.
    centre : a voxel (z, y, x) inside it, in the slice that shows most of its doubt.
    box, mask : where it lies, and which voxels of the box (bool).
    """

    structure: int
    ml: float
    confidence: float
    score: float
    centre: tuple[int, int, int]
    box: Box
    mask: NDArray[np.bool_]


def uncertain_regions(
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    *,
    smallest_ml: float = SMALLEST_ML,
    most: int = MOST_REGIONS,
) -> list[UncertainRegion]:
    """The regions where the model was unsure, the one to look at first first; no voxel is in two of them.

    Parameters
    ----------
    labels : (D, H, W).
    confidence : encoded confidence of the same shape (`imaging.fusion.encode_confidence`). Background with 0 is what no
        model saw (outside of a carried result's field of view) and left out.
    spacing_mm : (z, y, x).
    smallest_ml : regions below this are left out; a region has four voxels at least.
    most : at most so many regions.
    """
    bars = encode_confidence(np.array(RATIOS))
    seen = (confidence != _UNSEEN) | (labels != BACKGROUND)
    box = bounding_box((confidence < bars[-1]) & seen)
    if box is None:
        return []
    seen, labels, confidence = seen[box], labels[box], confidence[box]
    offset = [part.start for part in box]
    found: list[UncertainRegion] = []
    for low, high in itertools.pairwise((0, *bars)):
        if len(found) == most:
            break
        of_value = 1.0 - confidence_map(np.arange(256, dtype=np.uint8))
        of_value[:low] = of_value[high:] = 0
        doubt = np.where(seen, of_value[confidence], np.float32(0))
        for cube in itertools.islice(_cubes(doubt, spacing_mm), 2 * most):
            if len(found) == most:
                break
            region = _region(cube, doubt, labels, spacing_mm, offset)
            if region.ml >= smallest_ml and np.count_nonzero(region.mask) >= SMALLEST_VOX:
                found.append(region)
    return found


def _cubes(doubt: NDArray[np.float32], spacing_mm: Sequence[float]) -> Iterator[Box]:
    """The cube that holds most of `doubt` (D, H, W), which is 0 there from then on; so on until there is none left."""
    margin = 4  # blocks around all others, so that what changes about a cube never meets the border
    sums, first = doubt, []
    for axis, spacing in enumerate(spacing_mm):
        block = ((np.arange(doubt.shape[axis]) + 0.5) * spacing / BLOCK_MM).astype(int) + margin
        first.append(np.searchsorted(block, np.arange(block[-1] + 2 + margin)))
        there = np.flatnonzero(np.diff(first[-1]))  # of thick slices some blocks hold none
        parts = np.moveaxis(np.add.reduceat(sums, first[-1][there], axis), axis, 0)
        sums = np.zeros((len(first[-1]) - 1, *parts.shape[1:]), np.float32)
        sums[there] = parts
        sums = np.moveaxis(sums, 0, axis)
    held = _cube_sums(sums)  # at (z, y, x): of the blocks z .. z + 2, y .. y + 2, x .. x + 2
    while True:
        at = z, y, x = tuple(int(i) for i in np.unravel_index(held.argmax(), held.shape))
        if held[at] <= 0:
            return
        starts, ends = ([int(f[i + k]) for f, i in zip(first, at, strict=True)] for k in (0, 3))
        cube = (slice(starts[0], ends[0]), slice(starts[1], ends[1]), slice(starts[2], ends[2]))
        yield cube
        doubt[cube] = 0
        sums[z : z + 3, y : y + 3, x : x + 3] = 0
        around = sums[z - 2 : z + 5, y - 2 : y + 5, x - 2 : x + 5]
        held[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = _cube_sums(around)


def _cube_sums(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over cubes of 3 x 3 x 3; two less along each axis."""
    return sliding_window_view(sums, (3, 3, 3)).sum((3, 4, 5))


def _region(
    cube: Box,
    doubt: NDArray[np.float32],
    labels: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    offset: Sequence[int],
) -> UncertainRegion:
    """What is unsure in a cube of a part of the scan that begins at `offset`."""
    inner = bounding_box(doubt[cube] > 0)
    assert inner is not None
    z, y, x = (slice(c.start + i.start, c.start + i.stop) for c, i in zip(cube, inner, strict=True))
    inside = doubt[z, y, x]
    mask = inside > 0
    count, total = np.count_nonzero(mask), float(inside.sum(dtype=np.float64))
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    index = int(np.argmax(inside.sum((1, 2))))
    rows, columns = np.nonzero(mask[index])
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    dz, dy, dx = offset
    return UncertainRegion(
        structure=_structure(labels, (z, y, x), mask),
        ml=count * voxel_ml,
        confidence=1.0 - total / count,
        score=total * voxel_ml,
        centre=(z.start + index + dz, y.start + int(rows[nearest]) + dy, x.start + int(columns[nearest]) + dx),
        box=(_moved(z, dz), _moved(y, dy), _moved(x, dx)),
        mask=mask,
    )


def _structure(labels: NDArray[np.uint8], box: Box, mask: NDArray[np.bool_]) -> int:
    for values in (lambda: labels[box][mask], lambda: _around(labels, box)):
        counts = np.bincount(np.ravel(values()), minlength=256)
        counts[BACKGROUND] = 0
        if counts.any():
            return int(counts.argmax())
    return BACKGROUND


def _around(labels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    z, y, x = (slice(max(0, part.start - _NEAR_VOX), part.stop + _NEAR_VOX) for part in box)
    return labels[z, y, x]


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
