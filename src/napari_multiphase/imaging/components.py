"""Connected components of label maps (connected-components-3d, Silversmith 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

Connectivity = Literal[6, 18, 26]


def components(mask: NDArray[Any], connectivity: Connectivity = 26) -> tuple[NDArray[np.uint32], int]:
    """Number the connected parts of `mask` (D, H, W), or of every label in it, from 1; returns (parts, how many)."""
    source = np.ascontiguousarray(mask).view(np.uint8) if mask.dtype == bool else np.ascontiguousarray(mask)
    parts, count = cc3d.connected_components(source, connectivity=connectivity, return_N=True)
    return parts.astype(np.uint32, copy=False), int(count)


def count_labels(labels: NDArray[Any], kinds: int = 256) -> NDArray[np.int64]:
    """Voxels of each label, 0 to `kinds` - 1, in `labels` (D, H, W); by slice, for NumPy counts in 64-bit numbers."""
    counts = np.zeros(kinds, np.int64)
    for part in labels:
        counts += np.bincount(part.ravel(), minlength=kinds)
    return counts


def largest_component(mask: NDArray[Any], connectivity: Connectivity = 26) -> NDArray[np.bool_]:
    """The largest connected part of `mask` (D, H, W) as bool; all False for an empty mask."""
    parts, count = components(np.asarray(mask) != 0, connectivity)
    if count == 0:
        return np.zeros(mask.shape, bool)
    sizes = count_labels(parts, count + 1)
    sizes[0] = 0
    return parts == int(sizes.argmax())


def large_components(mask: NDArray[Any], share: float, connectivity: Connectivity = 6) -> NDArray[np.bool_]:
    """The connected parts of `mask` (D, H, W) that hold at least `share` of the voxels of the largest, as bool."""
    out = np.zeros(mask.shape, bool)
    box = bounding_box(mask)
    if box is not None:
        parts, count = components(np.asarray(mask[box]) != 0, connectivity)
        sizes = count_labels(parts, count + 1)
        sizes[0] = 0
        out[box] = (sizes >= max(1.0, share * sizes.max()))[parts]
    return out


def bounding_box(mask: NDArray[Any], margin: int = 0) -> tuple[slice, ...] | None:
    """Where `mask` (of any axes) is not 0, `margin` voxels wider, within the array; None where it is 0 everywhere."""
    if not mask.any():
        return None
    slices = []
    for axis, size in enumerate(mask.shape):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        slices.append(slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, size)))
    return tuple(slices)


def box_around(boxes: Sequence[tuple[slice, ...]], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box around all boxes and one voxel more, so that what adjoins a structure is seen."""
    if not boxes:
        return tuple(slice(0, 1) for _ in shape)
    return tuple(
        slice(max(min(b[a].start for b in boxes) - 1, 0), min(max(b[a].stop for b in boxes) + 1, size))
        for a, size in enumerate(shape)
    )


def fill_holes(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """`mask` (D, H, W) as bool with every cavity filled: background that does not reach the border by 6-neighbours."""
    padded = np.pad(np.asarray(mask) != 0, 1)
    parts, _ = components(~padded, connectivity=6)
    outside = parts == parts[0, 0, 0]
    return ~outside[1:-1, 1:-1, 1:-1]
