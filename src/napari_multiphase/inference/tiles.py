"""Where tiles lie and how they are weighted. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import edt
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.body import MARGIN_MM, Body
from napari_multiphase.volume import Grid

Shape = tuple[int, int, int]
SIGMA_SCALE = 0.125
_ENDLESS: Shape = (1 << 20, 1 << 20, 1 << 20)
LEAST_WEIGHT = 1e-3
SHELL_MM = 20.0
"""Skin, fat and muscle: down to here a voxel may be covered by fewer tiles than elsewhere, but always by one."""


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """First index of every tile along an axis of `size`; steps of ``tile * (1 - overlap)``, the last one flush.

    The same positions as MONAI's ``sliding_window_inference``.
    """
    if size <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = ceil((size - tile) / step) + 1
    return [min(i * step, size - tile) for i in range(count)]


def fit_tile(tile: Shape, size: Shape, divisor: Shape) -> Shape:
    """`tile` rounded down to multiples of `divisor`, and no larger than it takes to cover `size`."""
    fitted = [min(max(s, t // s * s), ceil(n / s) * s) for t, n, s in zip(tile, size, divisor, strict=True)]
    reduced = [axis for axis in range(3) if divisor[axis] > 1]
    # Else a network's coarsest level would be one voxel, which has no variance to normalise by.
    if all(fitted[axis] == divisor[axis] for axis in reduced):
        fitted = [2 * n if axis in reduced else n for axis, n in enumerate(fitted)]
    d, h, w = fitted
    return d, h, w


def shapes_of(tile: Shape, further: Sequence[float], divisor: Shape) -> tuple[Shape, ...]:
    """`tile` (D, H, W) and what it becomes in each of the `further` sizes, to the nearest multiple of `divisor`; each
    shape once."""
    shapes = [tile]
    for size in further:
        d, h, w = (max(s, s * round(n * size / s)) for n, s in zip(tile, divisor, strict=True))
        shapes.append(fit_tile((d, h, w), _ENDLESS, divisor))
    return tuple(dict.fromkeys(shapes))


def gaussian_weight(tile: Shape, flat: bool = False) -> NDArray[np.float32]:
    """(d, h, w) float32 in (0, 1]: a Gaussian with sigma = tile / 8 around the centre, at least 1/1000.

    The same formula as MONAI's ``compute_importance_map`` in mode "gaussian". With `flat`, every slice weighs the same.
    """
    weight = np.ones(tile, np.float32)
    for axis, n in list(enumerate(tile))[flat:]:
        at = np.arange(n) - (n - 1) / 2
        bell = np.exp(-(at**2) / (2 * (SIGMA_SCALE * n) ** 2)).astype(np.float32)
        weight *= bell.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.maximum(weight, max(float(weight.min()), LEAST_WEIGHT))


@dataclass(frozen=True)
class Tiles:
    """The tiles of a volume that the body needs, row by row along z.

    Attributes
    ----------
    shape : (D, H, W) of the volume.
    tile : (d, h, w); a tile may reach beyond a smaller volume.
    rows : (z0, ((y0, x0), ...)) with ascending z0; rows without a tile are kept, empty.
    box : ((y0, y1), (x0, x1)) in-plane bounding box of the body and a voxel or two more: all that is accumulated.
    """

    shape: Shape
    tile: Shape
    rows: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    box: tuple[tuple[int, int], tuple[int, int]]
    possible: int

    @property
    def count(self) -> int:
        """Tiles to run."""
        return sum(len(places) for _, places in self.rows)


def body_tiles(
    grid: Grid, body: Body, tile: Shape, overlap: float, *, flat: bool = False, shell_mm: float = SHELL_MM
) -> Tiles:
    """The tiles of `grid` that `body` needs, and the box that the body fills; with `flat` they do not overlap in z.

    A tile is needed where it reaches deeper than `shell_mm` below the skin, or holds a body voxel that no other needed
    tile covers. Tiles at a body's corners mostly hold air, their strip of skin lying in the overlap with a neighbour;
    they are left out, those with the least of the body first. Deeper in, every tile of a full run is run. With
    `shell_mm` 0 every tile that meets the body is.
    """
    index = [body.indices(grid, axis) for axis in range(3)]
    overlaps = (0.0 if flat else overlap, overlap, overlap)
    starts = [tile_starts(n, t, o) for n, t, o in zip(grid.shape, tile, overlaps, strict=True)]
    # Wide enough for a finer grid to interpolate at every voxel that its own, finer, body mask holds.
    reach = [ceil(body.spacing_mm[axis] / grid.spacing_mm[axis] / 2) + 1 for axis in (1, 2)]
    box = (
        _extent(body.coarse.max(axis=(0, 2)), index[1], reach[0]),
        _extent(body.coarse.max(axis=(0, 1)), index[2], reach[1]),
    )
    places = [(z0, y0, x0) for z0 in starts[0] for y0 in starts[1] for x0 in starts[2]]
    needed = _needed(places, tile, index, body, shell_mm)
    rows = tuple((z0, tuple((y, x) for z, y, x in places if z == z0 and (z, y, x) in needed)) for z0 in starts[0])
    return Tiles(grid.shape, tile, rows, box, len(places))


def _needed(
    places: list[Shape], tile: Shape, index: list[NDArray[np.intp]], whole: Body, shell_mm: float
) -> set[Shape]:
    body = whole.coarse
    touched = {p: tuple(_touched(i, s, t) for i, s, t in zip(index, p, tile, strict=True)) for p in places}
    held = {p: int(body[touched[p]].sum()) for p in places}
    needed = {p for p in places if held[p]}
    if shell_mm == 0:
        return needed
    deep = edt.edt(body, anisotropy=whole.spacing_mm, black_border=False) > shell_mm + MARGIN_MM
    filled = {p: tuple(_filled(i, s, t) for i, s, t in zip(index, p, tile, strict=True)) for p in places}
    covers = np.zeros(body.shape, np.int16)  # by how many needed tiles
    for place in needed:
        covers[filled[place]] += 1
    for place in sorted(needed, key=lambda p: (held[p], p)):
        if deep[touched[place]].any():
            continue
        covers[filled[place]] -= 1
        if (covers[touched[place]][body[touched[place]]] == 0).any():
            covers[filled[place]] += 1
        else:
            needed.remove(place)
    return needed


def _touched(index: NDArray[np.intp], start: int, size: int) -> slice:
    """Coarse indices of which the tile holds at least one voxel."""
    return slice(int(index[start]), int(index[min(start + size, len(index)) - 1]) + 1)


def _filled(index: NDArray[np.intp], start: int, size: int) -> slice:
    """Coarse indices of which the tile holds every voxel."""
    first, stop = int(index[start]), min(start + size, len(index))
    last = int(index[stop - 1])
    first += bool(start > 0 and index[start - 1] == first)
    last -= bool(stop < len(index) and index[stop] == last)
    return slice(first, max(first, last + 1))


def _extent(occupied: NDArray[np.bool_], index: NDArray[np.intp], reach: int) -> tuple[int, int]:
    inside = np.flatnonzero(occupied[index])
    if not len(inside):  # the body falls between the voxels of a very coarse grid
        return 0, len(index)
    return max(0, int(inside[0]) - reach), min(len(index), int(inside[-1]) + 1 + reach)
