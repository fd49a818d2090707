"""Keep the largest part of a structure, or drop the small ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import components
from napari_multiphase.imaging.editing.region import Box, Change, put, structure_box

Stays = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""From the voxels of each part (the first entry is what is no part) to which of them stay."""


def keep_largest(labels: NDArray[np.uint8], structure: int, *, within: Box | None = None) -> Change:
    """Everything of the structure but its largest connected part becomes background; of equal ones the first stays.

    `within` limits the tool, to one slice for instance: then parts are those of that slice.
    """
    return _sift(labels, structure, within, lambda sizes: np.arange(len(sizes)) == int(sizes.argmax()))


def remove_small(
    labels: NDArray[np.uint8], structure: int, smallest_ml: float, voxel_ml: float, *, within: Box | None = None
) -> Change:
    """Connected parts of the structure below `smallest_ml` become background."""
    return _sift(labels, structure, within, lambda sizes: sizes * voxel_ml >= smallest_ml * (1 - 1e-9))


def _sift(labels: NDArray[np.uint8], structure: int, within: Box | None, stays: Stays) -> Change:
    box = structure_box(labels, structure, within)
    if box is None:
        return None
    parts, count = components(labels[box] == structure)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = np.asarray(stays(sizes), bool)
    keep[0] = False
    return put(labels, box, keep[parts], structure, ())
