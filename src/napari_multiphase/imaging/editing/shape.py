"""Grow, shrink and smooth a structure, in millimetres."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.editing.region import (
    Box,
    Change,
    Spacing,
    add,
    distance_mm,
    put,
    structure_box,
    whole,
    wider,
)

_REACH = 3.0
"""The Gaussian of `smooth` is cut off at so many of its standard deviations."""

_INSIDE = 0.999
"""From here on a blurred structure counts as its inside when the level is looked for, which changes no result."""


def grow(
    labels: NDArray[np.uint8],
    structure: int,
    by_mm: float,
    spacing_mm: Spacing,
    *,
    over: Collection[int] = (),
    within: Box | None = None,
) -> Change:
    """Take all voxels within `by_mm` of the structure; a negative `by_mm` gives up those within it of its outside.

    Distances are between voxel centres, so growing and then shrinking by the same amount never loses a voxel of the
    structure. Nothing is given up at the border of the volume. `within` limits the tool, to one slice for instance.
    """
    within = within or whole(labels)
    box = structure_box(labels, structure, within)
    if box is None or by_mm == 0:
        return None
    if by_mm > 0:
        box = wider(box, by_mm, spacing_mm, within)
        near = distance_mm(labels[box] != structure, spacing_mm) <= by_mm * (1 + 1e-6)
        return add(labels, box, near, structure, over)
    box = wider(box, max(spacing_mm), spacing_mm, within)  # at least a voxel of what lies around
    stays = distance_mm(labels[box] == structure, spacing_mm) > -by_mm * (1 + 1e-6)
    return put(labels, box, stays, structure, ())


def smooth(
    labels: NDArray[np.uint8],
    structure: int,
    sigma_mm: float,
    spacing_mm: Spacing,
    *,
    over: Collection[int] = (),
    within: Box | None = None,
) -> Change:
    """Round off what is finer than about `sigma_mm`: the structure, blurred by a Gaussian, cut where its volume stays.

    Cutting at a half would shrink everything that bulges and lose thin vessels; here the level is the one that gives as
    many voxels as before. Where a neighbour that may not be overwritten is in the way, the volume becomes smaller.
    """
    from scipy import ndimage  # not before it is needed: the window starts without it

    within = within or whole(labels)
    box = structure_box(labels, structure, within)
    if box is None or sigma_mm <= 0:
        return None
    box = wider(box, _REACH * sigma_mm, spacing_mm, within)
    before = labels[box] == structure
    sigmas = [0.0 if n == 1 else sigma_mm / s for n, s in zip(before.shape, spacing_mm, strict=True)]
    blurred = ndimage.gaussian_filter(before.astype(np.float32), sigmas, mode="nearest", truncate=_REACH)
    level = _level(blurred, int(before.sum()))
    return put(labels, box, (blurred >= level) & (blurred > 0), structure, over)


def _level(values: NDArray[np.float32], count: int) -> np.float32:
    """The `count`-th largest of values between 0 and 1."""
    high = int(np.count_nonzero(values >= _INSIDE))
    # far inside and far outside all values tie, which takes `partition` seconds for an organ: it needs the border alone
    border = values[(values > 1 - _INSIDE) & (values < _INSIDE)]
    if high < count <= high + border.size:
        values, count = border, count - high
    place = values.size - count
    return np.partition(values, place, axis=None)[place]
