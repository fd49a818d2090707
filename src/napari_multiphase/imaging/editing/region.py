"""What the tools share: boxes, who may be overwritten, distances."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import bounding_box
from napari_multiphase.labels import BACKGROUND

Box = tuple[slice, slice, slice]
Spacing = tuple[float, float, float]
Voxel = tuple[int, int, int]
Change = tuple[Box, NDArray[np.uint8]] | None
"""Where labels change and what the box holds afterwards; None where nothing does."""


def whole(labels: NDArray[Any]) -> Box:
    """The box that is all of `labels`."""
    d, h, w = labels.shape
    return slice(0, d), slice(0, h), slice(0, w)


def box_around(centre: Sequence[float], reach_mm: float, spacing_mm: Spacing, shape: Sequence[int]) -> Box:
    """The voxels up to `reach_mm` from voxel `centre` along each axis, within the volume."""
    z, y, x = (
        slice(max(0, math.floor(c - reach_mm / s)), max(0, min(n, math.ceil(c + reach_mm / s) + 1)))
        for c, s, n in zip(centre, spacing_mm, shape, strict=True)
    )
    return z, y, x


def structure_box(labels: NDArray[np.uint8], structure: int, within: Box | None = None) -> Box | None:
    """Where `structure` lies in the part `within` of `labels`; None where it does not occur."""
    within = within or whole(labels)
    found = bounding_box(labels[within] == structure)
    if found is None:
        return None
    z, y, x = (slice(f.start + w.start, f.stop + w.start) for f, w in zip(found, within, strict=True))
    return z, y, x


def wider(box: Box, by_mm: float, spacing_mm: Spacing, within: Box) -> Box:
    """`box` with `by_mm` more on each side, no further than `within`."""
    z, y, x = (
        slice(max(w.start, b.start - math.ceil(by_mm / s)), min(w.stop, b.stop + math.ceil(by_mm / s)))
        for b, s, w in zip(box, spacing_mm, within, strict=True)
    )
    return z, y, x


def free(part: NDArray[np.uint8], structure: int, over: Collection[int]) -> NDArray[np.bool_]:
    """Where `structure` may be: on itself, on background, on the structures of `over`."""
    allowed = np.zeros(256, bool)
    allowed[[BACKGROUND, structure, *over]] = True
    return allowed[part]


def put(labels: NDArray[np.uint8], box: Box, mask: NDArray[np.bool_], structure: int, over: Collection[int]) -> Change:
    """`structure` is `mask` in the box, as far as it may; what it gives up becomes background."""
    part = labels[box]
    after = part.copy()
    after[part == structure] = BACKGROUND
    after[mask & free(part, structure, over)] = structure
    return changed(labels, box, after)


def add(labels: NDArray[np.uint8], box: Box, mask: NDArray[np.bool_], structure: int, over: Collection[int]) -> Change:
    """`structure` also takes `mask` in the box, as far as it may."""
    after = labels[box].copy()
    after[mask & free(after, structure, over)] = structure
    return changed(labels, box, after)


def changed(labels: NDArray[np.uint8], box: Box, after: NDArray[np.uint8]) -> Change:
    """The smallest box that holds every difference."""
    inner = bounding_box(labels[box] != after)
    if inner is None:
        return None
    z, y, x = (slice(i.start + b.start, i.stop + b.start) for i, b in zip(inner, box, strict=True))
    return (z, y, x), after[inner]


def distance_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """From the centre of each voxel of `mask` to the nearest centre outside it, 0 outside; inf where all is inside.

    What lies beyond the array counts as inside.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(spacing_mm), black_border=False, parallel=2)
