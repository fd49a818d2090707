"""Where tiles lie and how they are weighted. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.body import Body
from napari_multiphase.volume import Grid

Shape = tuple[int, int, int]
SIGMA_SCALE = 0.125
LEAST_WEIGHT = 1e-3


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """First index of every tile along an axis of `size`; steps of ``tile * (1 - overlap)``, the last one flush.

    The same positions as MONAI's ``sliding_window_inference``.
    """
    if size <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = ceil((size - tile) / step) + 1
    return [min(i * step, size - tile) for i in range(count)]


def fit_tile(tile: Shape, size: Shape, divisor: int) -> Shape:
    """`tile` rounded down to multiples of `divisor`, and no larger than it takes to cover `size`."""
    d, h, w = (
        min(max(divisor, t // divisor * divisor), ceil(n / divisor) * divisor) for t, n in zip(tile, size, strict=True)
    )
    if d == h == w == divisor:  # a network's coarsest level would be one voxel, which has no variance to normalise by
        d, h, w = 2 * d, 2 * h, 2 * w
    return d, h, w


def gaussian_weight(tile: Shape) -> NDArray[np.float32]:
    """(d, h, w) float32 in (0, 1]: a Gaussian with sigma = tile / 8 around the centre, at least 1/1000.

    The same formula as MONAI's ``compute_importance_map`` in mode "gaussian".
    """
    weight = np.ones(tile, np.float32)
    for axis, n in enumerate(tile):
        at = np.arange(n) - (n - 1) / 2
        bell = np.exp(-(at**2) / (2 * (SIGMA_SCALE * n) ** 2)).astype(np.float32)
        weight *= bell.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.maximum(weight, max(float(weight.min()), LEAST_WEIGHT))


@dataclass(frozen=True)
class Tiles:
    """The tiles of a volume that touch the body, row by row along z.

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


def body_tiles(grid: Grid, body: Body, tile: Shape, overlap: float) -> Tiles:
    """The tiles of `grid` that hold a voxel of `body`, and the box that the body fills."""
    z, y, x = (body.indices(grid, axis) for axis in range(3))
    starts = [tile_starts(n, t, overlap) for n, t in zip(grid.shape, tile, strict=True)]
    # Wide enough for a finer grid to interpolate at every voxel that its own, finer, body mask holds.
    reach = [ceil(body.spacing_mm[axis] / grid.spacing_mm[axis] / 2) + 1 for axis in (1, 2)]
    box = (
        _extent(body.coarse.max(axis=(0, 2)), y, reach[0]),
        _extent(body.coarse.max(axis=(0, 1)), x, reach[1]),
    )

    def touches(z0: int, y0: int, x0: int) -> bool:
        (a, b), (c, d), (e, f) = (
            (int(i[s]), int(i[min(s + t, len(i)) - 1]) + 1)
            for i, s, t in zip((z, y, x), (z0, y0, x0), tile, strict=True)
        )
        return bool(body.coarse[a:b, c:d, e:f].any())

    rows = tuple(
        (z0, tuple((y0, x0) for y0 in starts[1] for x0 in starts[2] if touches(z0, y0, x0))) for z0 in starts[0]
    )
    return Tiles(grid.shape, tile, rows, box, len(starts[0]) * len(starts[1]) * len(starts[2]))


def _extent(occupied: NDArray[np.bool_], index: NDArray[np.intp], reach: int) -> tuple[int, int]:
    inside = np.flatnonzero(occupied[index])
    if not len(inside):  # the body falls between the voxels of a very coarse grid
        return 0, len(index)
    return max(0, int(inside[0]) - reach), min(len(index), int(inside[-1]) + 1 + reach)
