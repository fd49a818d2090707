"""A dense map between two scans, as an array: an object like a volume, so that any process may hold one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        places = (np.asarray(points_mm, float)[:, ::-1] - self.grid.origin_mm) / self.grid.spacing_mm
        places = np.clip(places, 0, np.array(self.grid.shape) - 1)
        low = np.minimum(places.astype(np.intp), np.maximum(np.array(self.grid.shape) - 2, 0))
        share = places - low
        out = np.zeros((len(places), 3))
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, share, 1.0 - share), axis=1)
            z, y, x = np.minimum(low + corner, np.array(self.grid.shape) - 1).T
            out += weight[:, None] * self.displacement_mm[z, y, x]
        return out

    def map(self, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(N, 3) LPS points in mm -> (N, 3) points in the other scan."""
        return points_mm + self.at(points_mm)

    def on(self, target: Grid, slices: slice = slice(None)) -> NDArray[np.float32]:
        """The displacement (d, H, W, 3) on `target`, or on its z range `slices`."""
        by_z, by_y, by_x = (_linear_rows(self.grid, target, axis) for axis in range(3))
        by_z = by_z[slices]
        out = np.empty((len(by_z), len(by_y), len(by_x), 3), np.float32)
        for z, row in enumerate(by_z):
            used = np.flatnonzero(row)
            plane = np.tensordot(row[used], self.displacement_mm[used], axes=1)  # (h, w, 3)
            out[z] = np.matmul(by_x, np.tensordot(by_y, plane, axes=1))
        return out

    def voxels(self, source: Grid, target: Grid, slices: slice = slice(None)) -> NDArray[np.float32]:
        """(3, d, H, W): where `target`'s voxels, or those of its z range `slices`, lie in `source`, in its voxels."""
        out = np.ascontiguousarray(np.moveaxis(self.on(target, slices)[..., ::-1], -1, 0))
        for axis in range(3):
            centres = target.origin_mm[axis] + target.spacing_mm[axis] * np.arange(target.shape[axis])
            centres = (centres - source.origin_mm[axis]) / source.spacing_mm[axis]
            shape = [1, 1, 1]
            shape[axis] = -1
            out[axis] /= np.float32(source.spacing_mm[axis])
            out[axis] += (centres[slices] if axis == 0 else centres).reshape(shape)
        return out


PointMap = NDArray[np.float64] | DenseField
"""A map from points to points in LPS mm: 4 x 4 on (x, y, z, 1), or dense."""


def map_points(through: PointMap, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, 3) LPS points (x, y, z) in mm -> (N, 3), where a map takes them."""
    if isinstance(through, DenseField):
        return through.map(points_mm)
    return np.asarray(points_mm, float) @ through[:3, :3].T + through[:3, 3]


def _linear_rows(grid: Grid, target: Grid, axis: int) -> NDArray[np.float32]:
    """(target, grid) matrix of linear interpolation along an axis, constant beyond the ends."""
    centres = target.origin_mm[axis] + target.spacing_mm[axis] * np.arange(target.shape[axis])
    count = grid.shape[axis]
    at = np.clip((centres - grid.origin_mm[axis]) / grid.spacing_mm[axis], 0, count - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(count))).astype(np.float32)
