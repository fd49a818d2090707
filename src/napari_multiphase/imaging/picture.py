"""A slice as a picture: the scan in a window, outlines of structures in the label table's colours. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.windows import WINDOWS_HU, normalise
from napari_multiphase.labels import STRUCTURES

_GREYS = 200
"""Indices below are grey levels; from here on, colours by label id."""
_STRANGE = (255, 0, 255)


def palette() -> NDArray[np.uint8]:
    """(256, 3) sRGB that `outlined` indexes."""
    colours = np.full((256, 3), _STRANGE, np.uint8)
    colours[:_GREYS] = np.linspace(0, 255, _GREYS).round().astype(np.uint8)[:, None]
    for label, structure in STRUCTURES.items():
        colours[_GREYS + label] = structure.colour
    return colours


def outlined(
    hu: NDArray[Any],
    labels: NDArray[np.uint8],
    spacing_mm: tuple[float, float],
    box: tuple[slice, slice],
    chosen: int,
    width_px: int,
    window_hu: tuple[float, float] = WINDOWS_HU["soft tissue"],
) -> NDArray[np.uint8]:
    """(h, width_px) uint8 indices into `palette`: `box` of a slice, with square pixels.

    Parameters
    ----------
    hu, labels : (H, W) of the slice; `spacing_mm` (y, x) of its voxels.
    chosen : the label whose outline is drawn three pixels wide; all others have one.
    """
    rows, columns = (_steps(side, n) for side, n in zip(box, hu.shape, strict=True))
    pixel_mm = len(columns) * spacing_mm[1] / width_px
    at_y = (
        rows[0]
        - 0.5
        + (np.arange(max(1, round(len(rows) * spacing_mm[0] / pixel_mm))) + 0.5) * (pixel_mm / spacing_mm[0])
    )
    at_x = columns[0] - 0.5 + (np.arange(width_px) + 0.5) * (pixel_mm / spacing_mm[1])
    picture = ((normalise(_linear(hu, at_y, at_x), window_hu) + 1) / 2 * (_GREYS - 1)).round().astype(np.uint8)
    ids = labels[np.ix_(_nearest(at_y, len(labels)), _nearest(at_x, labels.shape[1]))]
    border = edge(ids)
    wide = (ids == chosen) & grown(grown(border & (ids == chosen)))
    drawn = border | wide
    picture[drawn] = np.minimum(ids[drawn].astype(np.int64) + _GREYS, 255)
    return picture


def edge(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Labelled pixels that touch another label or none, at one of their four sides; the picture's rim is no edge."""
    differs = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        ahead = np.diff(ids, axis=axis) != 0
        for side in (slice(None, -1), slice(1, None)):
            differs[(slice(None),) * axis + (side,)] |= ahead
    return differs & (ids > 0)


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` and what touches it at a side."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def _steps(side: slice, count: int) -> range:
    return range(count)[side]


def _nearest(at: NDArray[np.floating[Any]], count: int) -> NDArray[np.intp]:
    return np.clip(np.rint(at), 0, count - 1).astype(np.intp)


def _linear(image: NDArray[Any], at_y: NDArray[Any], at_x: NDArray[Any]) -> NDArray[Any]:
    for axis, at in enumerate((at_y, at_x)):
        at = np.clip(at, 0, image.shape[axis] - 1)
        low = np.floor(at).astype(np.intp)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image
