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
    box: tuple[slice, slice, slice]
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
    seen, near, doubted = seen[box], labels[box], confidence[box]
    found: list[UncertainRegion] = []
    for low, high in itertools.pairwise((0, *bars)):
        places = np.stack(np.nonzero((doubted >= low) & (doubted < high) & seen), axis=1)
        for voxels in itertools.islice(_cubes(places, doubted, spacing_mm), 2 * most):
            if len(found) == most:
                break
            region = _region(voxels, near, doubted, spacing_mm, [part.start for part in box])
            if region.ml >= smallest_ml and len(voxels) >= SMALLEST_VOX:
                found.append(region)
    return found


def _cubes(
    places: NDArray[np.intp], confidence: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> Iterator[NDArray[np.intp]]:
    """Those of `places` (N, 3) that lie in the cube of most doubt, then in the one of most of the rest, to the end."""
    if not len(places):
        return
    margin = 4  # around all blocks, so that what changes about a cube never meets the border
    block = ((places + 0.5) * spacing_mm / BLOCK_MM).astype(np.intp) + margin
    shape = block.max(0) + 1 + margin
    index = np.ravel_multi_index(tuple(block.T), shape)
    doubt = 1.0 - confidence_map(confidence[tuple(places.T)])
    sums = np.bincount(index, doubt, minlength=int(np.prod(shape))).reshape(shape)
    order = np.argsort(index, kind="stable")
    first = np.searchsorted(index[order], np.arange(sums.size + 1))
    cube = np.asarray(np.ravel_multi_index(tuple(np.indices((3, 3, 3)).reshape(3, -1)), shape))
    held = _cube_sums(sums)  # at (z, y, x): of the blocks z .. z + 2, y .. y + 2, x .. x + 2
    while True:
        z, y, x = (int(i) for i in np.unravel_index(held.argmax(), held.shape))
        if held[z, y, x] <= 0:
            return
        blocks = cube + np.ravel_multi_index((z, y, x), shape)
        blocks = blocks[sums.flat[blocks] > 0]  # the others are another cube's
        yield places[np.sort(np.concatenate([order[first[b] : first[b + 1]] for b in blocks]))]
        sums.flat[blocks] = 0
        around = sums[z - 2 : z + 5, y - 2 : y + 5, x - 2 : x + 5]
        held[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = _cube_sums(around)


def _cube_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over cubes of 3 x 3 x 3; two less along each axis."""
    return sliding_window_view(sums, (3, 3, 3)).sum((3, 4, 5))


def _region(
    voxels: NDArray[np.intp],
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    offset: Sequence[int],
) -> UncertainRegion:
    """A region of `voxels` (n, 3) of a part of the scan that begins at `offset`."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    sure = confidence_map(confidence[tuple(voxels.T)])
    first, end = voxels.min(0), voxels.max(0) + 1
    mask = np.zeros(end - first, bool)
    mask[tuple((voxels - first).T)] = True
    index = int(np.argmax(np.bincount(voxels[:, 0], 1.0 - sure)))
    in_plane = voxels[voxels[:, 0] == index][:, 1:]
    row, column = in_plane[np.argmin(((in_plane - in_plane.mean(0)) ** 2).sum(1))]
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, end, strict=True))
    dz, dy, dx = offset
    return UncertainRegion(
        structure=_structure(labels, (z, y, x), mask),
        ml=len(voxels) * voxel_ml,
        confidence=float(sure.mean()),
        score=float((1.0 - sure).sum()) * voxel_ml,
        centre=(index + dz, int(row) + dy, int(column) + dx),
        box=(_moved(z, dz), _moved(y, dy), _moved(x, dx)),
        mask=mask,
    )


def _structure(labels: NDArray[np.uint8], box: tuple[slice, slice, slice], mask: NDArray[np.bool_]) -> int:
    for values in (lambda: labels[box][mask], lambda: _around(labels, box)):
        counts = np.bincount(np.ravel(values()), minlength=256)
        counts[BACKGROUND] = 0
        if counts.any():
            return int(counts.argmax())
    return BACKGROUND


def _around(labels: NDArray[np.uint8], box: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
    z, y, x = (slice(max(0, part.start - _NEAR_VOX), part.stop + _NEAR_VOX) for part in box)
    return labels[z, y, x]


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
