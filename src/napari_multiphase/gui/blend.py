"""Two slices in one picture, and labels over it: NumPy on single slices, a few milliseconds at 512 x 512."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def _diverging() -> NDArray[np.uint8]:
    """(256, 3) blue, black in the middle, orange."""
    share = np.clip((np.arange(256) - 127.5) / 127.5, -1, 1)[:, None]
    share[127:129] = 0
    cold, hot = np.array((90, 160, 255)), np.array((255, 140, 60))
    return (np.maximum(share, 0) * hot + np.maximum(-share, 0) * cold).astype(np.uint8)


_DIVERGING = _diverging()


def grey(hu: NDArray[Any], window_hu: tuple[float, float]) -> NDArray[np.uint8]:
    """(h, w) HU -> grey levels: the window's lowest value and all below black, its highest and all above white."""
    low, high = window_hu
    out = hu.astype(np.float32)
    out -= np.float32(low)
    out *= np.float32(255 / max(high - low, 1e-3))
    return np.clip(out, 0, 255, out=out).astype(np.uint8)


def difference_rgb(difference_hu: NDArray[np.floating[Any]], largest_hu: float) -> NDArray[np.uint8]:
    """(h, w) difference in HU -> (h, w, 3): black where equal, orange where positive, blue where negative.

    Differences of `largest_hu` and more have the full colour.
    """
    return np.take(_DIVERGING, grey(difference_hu, (-largest_hu, largest_hu)), axis=0)


def fade(first: NDArray[np.uint8], second: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """`first` (h, w) or (h, w, 3) at share 0, `second` at share 1, mixed in between."""
    weight = round(256 * min(max(share, 0.0), 1.0))
    mixed = first.astype(np.uint16) * np.uint16(256 - weight)
    mixed += second.astype(np.uint16) * np.uint16(weight)
    return (mixed >> 8).astype(np.uint8)


def beyond(shape: tuple[int, int], line: int, axis: int) -> NDArray[np.bool_]:
    """(h, w) whether a voxel lies at or beyond index `line` of `axis` (0 rows, 1 columns): the far side of a swipe."""
    far = np.arange(shape[axis]) >= line
    return np.broadcast_to(far[:, None] if axis == 0 else far, shape)


def checkers(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    tile_mm: float,
    start_mm: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.bool_]:
    """(h, w) the odd squares of a checkerboard with squares of `tile_mm` mm, the first of which begins at `start_mm`.

    `spacing_mm` is (vertical, horizontal); a square is at least one voxel.
    """
    rows, columns = (
        np.floor((np.arange(count) * step - start) / max(tile_mm, step) + 1e-9).astype(np.intp) & 1
        for count, step, start in zip(shape, spacing_mm, start_mm, strict=True)
    )
    return (rows[:, None] ^ columns[None, :]).astype(bool)


def pick(first: NDArray[Any], second: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """`second` (h, w) or (h, w, 3) where the mask (h, w) says so, `first` elsewhere."""
    return np.where(where[..., None] if first.ndim == 3 else where, second, first)


def as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) grey or (h, w, 3) colours -> (h, w, 3)."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def edges(labels: NDArray[Any], width: int = 1) -> NDArray[np.bool_]:
    """(h, w) whether a labelled pixel has another value within `width` pixels above, below, left or right of it."""
    out = np.zeros(labels.shape, bool)
    for step in range(1, width + 1):
        for axis in (0, 1):
            ahead, back = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], back[axis] = slice(step, None), slice(None, -step)
            differs = labels[tuple(ahead)] != labels[tuple(back)]
            out[tuple(ahead)] |= differs
            out[tuple(back)] |= differs
    return out & (labels != 0)


def seen(values: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """`values` (h, w) at the given rows and columns; 0 where one of them is -1."""
    picked = values[np.ix_(np.maximum(rows, 0), np.maximum(columns, 0))]
    picked[rows < 0] = 0
    picked[:, columns < 0] = 0
    return picked
