"""Where a person should look first: connected regions in which the model was unsure, ranked.

Around every organ lies a thin shell in which one class ends and the next begins: always a little unsure, no sign of a
mistake, and connected, so that it would be one huge region. So a region starts from a *core*: what is left of the
unsure voxels when their outermost layer is taken off, once at least (no shell of one or two voxels is left then), and
up to four times as long as more than a tenth of them is left (a network that works on coarser voxels than the scan's
has thicker shells). Layers are as thick as the finest spacing; along an axis of thicker slices a layer goes only when
that many millimetres are off. Cores that hang together are one region; it gets back the unsure voxels within as many
steps plus one, and no more.

Rank is by size times uncertainty: the sum over the region's voxels of 1 - M (Eq. 3), in ml, where voxels outside the
core, which may belong to a shell, count a quarter. Where the list has room, regions follow in which the model was less
unsure, found the same way among the voxels of that doubt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import bounding_box
from napari_multiphase.imaging.fusion import confidence_map, encode_confidence
from napari_multiphase.imaging.training_labels import SURE_RATIO
from napari_multiphase.labels import BACKGROUND

RATIOS = (3.0, SURE_RATIO)
"""A voxel is unsure where the best class is less than this many times as probable as the second (M below 0.87);
what follows is below the second ratio (M below 0.9997), as far as a prediction is no label to learn from either."""
SMALLEST_ML = 0.02
MOST_REGIONS = 500
_MOST_LAYERS = 4
_SHELLS_GONE = 0.1
_RIM_WEIGHT = 0.25
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
    score : what it is ranked by, in ml.
    centre : a voxel (z, y, x) inside it, in the slice that shows most of it.
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
    """The regions where the model was unsure, the one to look at first first.

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
    taken = np.zeros(seen.shape, bool)
    found: list[UncertainRegion] = []
    for low, high in itertools.pairwise((0, *bars)):
        if len(found) < most:
            unsure = (confidence >= low) & (confidence < high) & seen
            found += _ranked(unsure, taken, labels, confidence, spacing_mm, smallest_ml, most)
    offset = [part.start for part in box]
    return [_moved(region, offset) for region in found[:most]]


def _ranked(
    unsure: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    smallest_ml: float,
    most: int,
) -> list[UncertainRegion]:
    """The regions of some unsure voxels, by score; `taken` gets theirs."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    core, layers = _core(unsure, spacing_mm)
    parts = cc3d.connected_components(core.view(np.uint8), connectivity=26)
    flat = np.flatnonzero(parts)
    owner = parts.reshape(-1)[flat]
    doubt = 1.0 - confidence_map(confidence.reshape(-1)[flat])
    sums = np.bincount(owner, doubt)
    first = np.argsort(-sums, kind="stable")[: 2 * most]
    places = _places(flat, owner, parts.shape)
    found = []
    for number in first[sums[first] > 0]:
        region = _region(
            parts, int(number), places[int(number)], layers + 1, unsure, taken, labels, confidence, voxel_ml
        )
        if region.ml >= smallest_ml and region.mask.sum() >= 4:
            found.append(region)
    return sorted(found, key=lambda region: (-region.score, region.centre))


def _core(unsure: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[NDArray[np.bool_], int]:
    """Unsure voxels without their outermost layers, and how many layers; beyond the array nothing is unsure."""
    fine, count = min(spacing_mm), np.count_nonzero(unsure)
    core = unsure
    for layer in range(1, _MOST_LAYERS + 1):
        before, core = core, core.copy()
        for axis, spacing in enumerate(spacing_mm):
            if int(layer * fine / spacing + 1e-6) == int((layer - 1) * fine / spacing + 1e-6):
                continue
            inner, ends = np.moveaxis(core, axis, 0), np.moveaxis(before, axis, 0)
            inner[1:] &= ends[:-1]
            inner[:-1] &= ends[1:]
            inner[[0, -1]] = False
        if np.count_nonzero(core) <= _SHELLS_GONE * count:
            break
    return core, layer


def _places(
    flat: NDArray[np.int64], owner: NDArray[Any], shape: tuple[int, ...]
) -> dict[int, tuple[slice, slice, slice]]:
    """The box of each part."""
    count = int(owner.max()) + 1 if len(owner) else 1
    low, high = np.full((3, count), 2**31 - 1), np.full((3, count), -1)
    for axis, index in enumerate(np.unravel_index(flat, shape)):
        np.minimum.at(low[axis], owner, index)
        np.maximum.at(high[axis], owner, index)
    return {
        int(n): (slice(int(low[0, n]), int(high[0, n]) + 1), slice(int(low[1, n]), int(high[1, n]) + 1),
            slice(int(low[2, n]), int(high[2, n]) + 1))
        for n in np.flatnonzero(high[0] >= 0)
    }  # fmt: skip


def _region(
    parts: NDArray[Any],
    number: int,
    place: tuple[slice, slice, slice],
    steps: int,
    unsure: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    voxel_ml: float,
) -> UncertainRegion:
    """A core with its rim; what a region of higher rank has taken is not this one's."""
    from scipy import ndimage  # not before it is needed: the window starts without it

    z, y, x = (slice(max(0, p.start - steps), min(n, p.stop + steps)) for p, n in zip(place, parts.shape, strict=True))
    core = parts[z, y, x] == number
    others = (parts[z, y, x] != 0) & ~core
    mask = ndimage.binary_dilation(
        core, iterations=steps, mask=unsure[z, y, x] & ~others & ~taken[z, y, x]
    )  # fmt: skip
    inner = bounding_box(mask)
    assert inner is not None
    z, y, x = (slice(o.start + i.start, o.start + i.stop) for o, i in zip((z, y, x), inner, strict=True))
    mask, core = mask[inner], core[inner]
    taken[z, y, x] |= mask
    sure = confidence_map(confidence[z, y, x])
    doubt = (1.0 - sure) * np.where(core, 1.0, _RIM_WEIGHT) * mask
    index = int(np.argmax(doubt.sum((1, 2))))
    rows, columns = np.nonzero(mask[index])
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return UncertainRegion(
        structure=_structure(labels, (z, y, x), mask),
        ml=float(mask.sum()) * voxel_ml,
        confidence=float(sure[mask].mean()),
        score=float(doubt.sum()) * voxel_ml,
        centre=(z.start + index, y.start + int(rows[nearest]), x.start + int(columns[nearest])),
        box=(z, y, x),
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


def _moved(region: UncertainRegion, offset: list[int]) -> UncertainRegion:
    """`region` of a cropped volume in the whole one."""
    z, y, x = (slice(part.start + o, part.stop + o) for part, o in zip(region.box, offset, strict=True))
    at = tuple(c + o for c, o in zip(region.centre, offset, strict=True))
    return UncertainRegion(
        region.structure, region.ml, region.confidence, region.score, (at[0], at[1], at[2]), (z, y, x), region.mask
    )
