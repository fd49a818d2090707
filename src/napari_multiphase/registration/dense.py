"""A dense map between two scans, as arrays: no torch here, so that any process may hold one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.volume import Grid


@dataclass(frozen=True)
class DenseField:
    """Where every point of a grid's space goes: ``point + displacement(point)``, in LPS mm.

    Attributes
    ----------
    displacement_mm : (D, H, W, 3) float32, last axis (x, y, z), trilinear between the grid's points and constant
        beyond them.
    grid : the canonical grid it is given on, usually coarser than the scan's.
    """

    displacement_mm: NDArray[np.float32]
    grid: Grid

    def __post_init__(self) -> None:
        if self.displacement_mm.shape != (*self.grid.shape, 3):
            raise ValueError(f"a field of shape {self.displacement_mm.shape} does not fit the grid {self.grid.shape}")

    def at(self, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(N, 3) displacement in mm at (N, 3) LPS points (x, y, z) in mm."""
        origin, spacing = np.array(self.grid.origin_mm), np.array(self.grid.spacing_mm)
        index = ((points_mm[:, ::-1] - origin) / spacing).T
        parts = [
            ndimage.map_coordinates(self.displacement_mm[..., k], index, order=1, mode="nearest") for k in range(3)
        ]
        return np.stack(parts, axis=1).astype(np.float64)

    def map(self, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(N, 3) LPS points in mm -> (N, 3) points in the other scan."""
        return points_mm + self.at(points_mm)

    def on(self, target: Grid, slices: slice = slice(None)) -> NDArray[np.float32]:
        """The displacement (d, H, W, 3) on `target`, or on its z range `slices`."""
        z, y, x = (_linear_rows(self.grid, target, axis) for axis in range(3))
        rows = np.einsum("ad,dhwc->ahwc", z[slices], self.displacement_mm, optimize=True)
        planes = np.einsum("bh,ahwc->abwc", y, rows, optimize=True)
        return np.asarray(np.einsum("ew,abwc->abec", x, planes, optimize=True), np.float32)


def resample_through(
    data: NDArray[Any], grid: Grid, target: Grid, field: DenseField, order: Literal[0, 1], outside: float = 0.0
) -> NDArray[np.float32]:
    """`data` (D, H, W) on `grid`, seen on `target` through `field` (target point -> source point). float32.

    Linear (order 1) or nearest (0), slab by slab; `outside` beyond `grid`.
    """
    out = np.empty(target.shape, np.float32)
    step = max(1, 2_000_000 // (target.shape[1] * target.shape[2]))
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(target.origin_mm, target.spacing_mm, target.shape, strict=True))
    for start in range(0, target.shape[0], step):
        part = slice(start, min(start + step, target.shape[0]))
        moved = field.on(target, part)
        places = (moved[..., 2] + z[part, None, None], moved[..., 1] + y[:, None], moved[..., 0] + x)
        index = [(p - o) / s for p, o, s in zip(places, grid.origin_mm, grid.spacing_mm, strict=True)]
        out[part] = ndimage.map_coordinates(data, index, np.float32, order=order, cval=outside)
    return out


def _linear_rows(grid: Grid, target: Grid, axis: int) -> NDArray[np.float32]:
    """(target, grid) matrix of linear interpolation along an axis, constant beyond the ends."""
    centres = target.origin_mm[axis] + target.spacing_mm[axis] * np.arange(target.shape[axis])
    count = grid.shape[axis]
    at = np.clip((centres - grid.origin_mm[axis]) / grid.spacing_mm[axis], 0, count - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))).astype(np.float32)
