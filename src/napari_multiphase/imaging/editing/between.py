"""Fill between slices: shape-based interpolation of outlines (Raya and Udupa 1990) by signed distance."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.imaging.editing.region import Change, Spacing, distance_mm, put, structure_box


def slices_of(labels: NDArray[np.uint8], structure: int, axis: int = 0) -> list[int]:
    """The slices along `axis` that show `structure`, ascending."""
    others = tuple(a for a in range(3) if a != axis)
    return [int(index) for index in np.flatnonzero((labels == structure).any(axis=others))]


def fill_between(
    labels: NDArray[np.uint8],
    structure: int,
    spacing_mm: Spacing,
    *,
    axis: int = 0,
    keys: Sequence[int] | None = None,
    over: Collection[int] = (),
) -> Change:
    """Interpolate the structure's outline between slices that show it.

    Parameters
    ----------
    keys : slices along `axis` whose outlines are right: all that lies between neighbouring ones is replaced. None fills
        the gaps alone: slices without the structure between slices with it.

    Between two slices the outline is where the signed distances to theirs, weighed by how near they are, add up to 0.
    Parts may split, join or end on the way. Outlines that do not overlap at all are moved onto each other first.
    """
    box = structure_box(labels, structure)
    if box is None:
        return None
    shown = set(slices_of(labels[box], structure, axis))
    shown = {index + box[axis].start for index in shown}
    wanted = sorted(shown if keys is None else shown & set(keys))
    pairs = [(a, b) for a, b in zip(wanted, wanted[1:], strict=False) if b - a > 1]
    if not pairs:
        return None
    z, y, x = (
        slice(pairs[0][0], pairs[-1][1] + 1) if a == axis else box[a] for a in range(3)
    )  # fmt: skip
    mask = labels[z, y, x] == structure
    planes = np.moveaxis(mask, axis, 0)  # a view: what is written here is written there
    first = pairs[0][0]
    plane_mm = [s for a, s in enumerate(spacing_mm) if a != axis]
    for low, high in pairs:
        _interpolate(planes[low - first : high - first + 1], plane_mm)
    return put(labels, (z, y, x), mask, structure, over)


def _interpolate(planes: NDArray[np.bool_], spacing_mm: Sequence[float]) -> None:
    """Fill all but the first and last of `planes` (N, H, W), in place."""
    ends = [np.pad(plane, 1) for plane in (planes[0], planes[-1])]  # a margin outside, to repeat where outlines move
    near, far = (_signed_mm(end, spacing_mm) for end in ends)
    move = np.zeros(2)
    if not (ends[0] & ends[1]).any():
        move = np.subtract(ndimage.center_of_mass(ends[1]), ndimage.center_of_mass(ends[0]))
    last = len(planes) - 1
    for index in range(1, last):
        share = index / last
        a, b = (near, far) if not move.any() else (_moved(near, share * move), _moved(far, (share - 1) * move))
        planes[index] = ((1 - share) * a + share * b < 0)[1:-1, 1:-1]


def _signed_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Negative inside."""
    return distance_mm(~mask, spacing_mm) - distance_mm(mask, spacing_mm)


def _moved(signed: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(ndimage.shift(signed, by, order=1, mode="nearest"), np.float32)
