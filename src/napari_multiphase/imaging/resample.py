"""Moving arrays between canonical grids: exact for linear images, area-aware when the target is coarser.

Without a transform both grids have the same axes, so resampling is one small matrix per axis. The matrix averages
the linear interpolant over a target voxel's width: linear images are reproduced exactly, centres stay in place,
and fine noise does not alias. With a transform, linear or dense, it is trilinear (or nearest), slab by slab.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.field import DenseField, PointMap
from napari_multiphase.volume import Grid

AIR_HU = -1024.0
_SLAB_VOX = 8_000_000  # target voxels worked on at once: 32 MB in float32


def resample(
    data: NDArray[Any],
    grid: Grid,
    target: Grid,
    order: Literal[0, 1] = 1,
    transform: PointMap | None = None,
    *,
    background: float | None = None,
) -> NDArray[Any]:
    """`data` (D, H, W) on `grid`, seen on `target`.

    Parameters
    ----------
    order : 1 linear (area-averaged where the target is coarser), 0 nearest.
    transform : target point -> source point in LPS mm: 4 x 4 on (x, y, z, 1), or dense; None where both lie in one
        space.
    background : value outside `grid`; by default -1024 (HU of air) for order 1 and 0 for order 0.

    Returns
    -------
    (D, H, W) of `target`, dtype of `data` (integers are rounded).
    """
    if data.shape != grid.shape:
        raise ValueError(f"data has shape {data.shape}, its grid {grid.shape}")
    outside = (AIR_HU if order == 1 else 0.0) if background is None else background
    if isinstance(transform, DenseField):
        return _by_field(data, grid, target, order, transform, outside)
    if transform is not None and not np.allclose(transform, np.eye(4), atol=1e-12):
        return _by_matrix(data, grid, target, order, np.asarray(transform, float), outside)
    if grid.matches(target, 1e-6):
        return data.copy()
    if order == 0:
        return _nearest(data, grid, target, outside)
    return _separable(data, grid, target, outside)


def _positions_vox(grid: Grid, target: Grid, axis: int) -> NDArray[np.floating[Any]]:
    """Where the target's voxel centres lie along `axis`, in source voxels."""
    centres_mm = target.origin_mm[axis] + target.spacing_mm[axis] * np.arange(target.shape[axis])
    return (centres_mm - grid.origin_mm[axis]) / grid.spacing_mm[axis]


def _inside(positions: NDArray[np.floating[Any]], count: int) -> NDArray[np.bool_]:
    """Whether a position lies in the grid, voxel borders included."""
    return (positions >= -0.5 - 1e-6) & (positions <= count - 0.5 + 1e-6)


def _nearest(data: NDArray[Any], grid: Grid, target: Grid, outside: float) -> NDArray[Any]:
    out = np.full(target.shape, outside, data.dtype)
    picks, slots = [], []
    for axis in range(3):
        positions = _positions_vox(grid, target, axis)
        inside = np.flatnonzero(_inside(positions, grid.shape[axis]))
        if not len(inside):
            return out
        # A tie between two voxels goes to the lower one whatever the floating-point noise of the grids.
        index = np.ceil(positions[inside] - 0.5 - 1e-9).astype(np.intp)
        picks.append(np.clip(index, 0, grid.shape[axis] - 1))
        slots.append(slice(inside[0], inside[-1] + 1))
    (z, y, x), (slot_z, slot_y, slot_x) = picks, slots
    for row, plane in zip(range(slot_z.start, slot_z.stop), z, strict=True):
        out[row, slot_y, slot_x] = np.asarray(data[plane])[y][:, x]
    return out


def _hat_integral(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral from -inf to u of the linear interpolation kernel max(0, 1 - |t|)."""
    u = np.clip(u, -1, 1)
    return np.where(u < 0, 0.5 * (u + 1) ** 2, 1 - 0.5 * (1 - u) ** 2)


def _weights(positions: NDArray[np.floating[Any]], count: int, width: float) -> NDArray[np.float32]:
    """(targets, count) matrix: mean of the linear interpolant over `width` source voxels around each position.

    The mean is taken over an interval cut symmetrically at the ends, which keeps linear images exact there too.
    """
    at = np.clip(positions, 0, count - 1)
    half = np.minimum(width / 2, np.minimum(at, count - 1 - at))[:, None]
    distance = at[:, None] - np.arange(count)[None, :]
    linear = np.maximum(0, 1 - np.abs(distance))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (_hat_integral(distance + half) - _hat_integral(distance - half)) / (2 * half)
    return np.where(half > 1e-6, mean, linear).astype(np.float32)


def axis_weights(grid: Grid, target: Grid, axis: int) -> tuple[NDArray[np.float32], slice]:
    """(n, count) matrix that takes values along `axis` of `grid` to those of `target` inside it, and which n these are.

    n is 0 where both lie apart.
    """
    positions = _positions_vox(grid, target, axis)
    inside = np.flatnonzero(_inside(positions, grid.shape[axis]))
    if not len(inside):
        return np.zeros((0, grid.shape[axis]), np.float32), slice(0, 0)
    ratio = target.spacing_mm[axis] / grid.spacing_mm[axis]
    # Interpolating alone is right up to the source's own resolution; only a coarser target needs averaging.
    weights = _weights(positions[inside], grid.shape[axis], ratio if ratio > 1 + 1e-6 else 0.0)
    return weights, slice(int(inside[0]), int(inside[-1]) + 1)


def _separable(data: NDArray[Any], grid: Grid, target: Grid, outside: float) -> NDArray[Any]:
    out = np.full(target.shape, outside, data.dtype)
    (by_z, slot_z), (by_y, slot_y), (by_x, slot_x) = (axis_weights(grid, target, axis) for axis in range(3))
    if not (len(by_z) and len(by_y) and len(by_x)):
        return out
    to_x = np.ascontiguousarray(by_x.T)
    step = max(1, _SLAB_VOX // max(1, target.shape[1] * target.shape[2]))
    for start in range(0, len(by_z), step):
        rows = by_z[start : start + step]
        used = np.flatnonzero(rows.any(axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        planes = np.empty((last - first, by_y.shape[0], to_x.shape[1]), np.float32)
        for plane in range(first, last):
            np.matmul(_shrink_rows(by_y, data[plane]), to_x, out=planes[plane - first])
        slab = np.tensordot(rows[:, first:last], planes, axes=(1, 0))
        begin = slot_z.start + start
        out[begin : begin + len(rows), slot_y, slot_x] = _as_dtype(slab, data.dtype)
    return out


def _shrink_rows(by_y: NDArray[np.float32], plane: NDArray[Any]) -> NDArray[np.float32]:
    return by_y @ plane.astype(np.float32)


def _as_dtype(values: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _coarser(grid: Grid, target: Grid) -> Grid:
    """`grid` at the target's spacing where that is clearly coarser, so that a turned target does not alias."""
    shape, spacing, origin = list(grid.shape), list(grid.spacing_mm), list(grid.origin_mm)
    for axis in range(3):
        if target.spacing_mm[axis] > 1.5 * grid.spacing_mm[axis] and grid.shape[axis] > 1:
            reach = (grid.shape[axis] - 1) * grid.spacing_mm[axis]
            shape[axis] = max(2, int(np.ceil(reach / target.spacing_mm[axis])) + 1)
            spacing[axis] = reach / (shape[axis] - 1)
    d, h, w = shape
    sz, sy, sx = spacing
    oz, oy, ox = origin
    return Grid((d, h, w), (sz, sy, sx), (oz, oy, ox))


def _as_coarse_as(data: NDArray[Any], grid: Grid, target: Grid, outside: float) -> tuple[NDArray[Any], Grid]:
    """The data averaged to the target's spacing along axes where that is clearly coarser."""
    coarse = _coarser(grid, target)
    return (data, grid) if coarse == grid else (_separable(data.astype(np.float32), grid, coarse, outside), coarse)


def _by_field(
    data: NDArray[Any], grid: Grid, target: Grid, order: int, field: DenseField, outside: float
) -> NDArray[Any]:
    dtype = data.dtype
    if order == 1:
        data, grid = _as_coarse_as(data, grid, target, outside)
    out = np.empty(target.shape, dtype)
    step = max(1, _SLAB_VOX // 4 // max(1, target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], step):
        rows = slice(start, min(start + step, target.shape[0]))
        index = field.voxels(grid, target, rows)
        kind = np.float32 if order == 1 else dtype
        slab = ndimage.map_coordinates(data, index, kind, order=order, mode="nearest")
        for position, count in zip(index, grid.shape, strict=True):
            slab[~_inside(position, count)] = outside
        out[rows] = _as_dtype(slab, dtype) if order == 1 else slab
    return out


def _by_matrix(
    data: NDArray[Any], grid: Grid, target: Grid, order: int, transform: NDArray[np.float64], outside: float
) -> NDArray[Any]:
    dtype = data.dtype
    if order == 1:
        data, grid = _as_coarse_as(data, grid, target, outside)
    index = np.linalg.inv(grid.affine_mm) @ transform @ target.affine_mm  # target index -> source index, both z, y, x
    matrix, offset = index[:3, :3], index[:3, 3]
    out = np.empty(target.shape, dtype)
    step = max(1, _SLAB_VOX // max(1, target.shape[1] * target.shape[2]))
    kind = np.float32 if order == 1 else dtype
    for start in range(0, target.shape[0], step):
        shape = (min(step, target.shape[0] - start), *target.shape[1:])
        at = offset + matrix[:, 0] * start
        slab = ndimage.affine_transform(data, matrix, at, shape, output=kind, order=order, mode="nearest")
        slab[~_inside_box(matrix, at, shape, grid.shape)] = outside
        out[start : start + shape[0]] = _as_dtype(slab, dtype) if order == 1 else slab
    return out


def _inside_box(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, ...], limits: tuple[int, int, int]
) -> NDArray[np.bool_]:
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = np.ones(shape, bool)
    for axis, row in enumerate(matrix):
        position = row[0] * z + (row[1] * y + row[2] * x + offset[axis])
        inside &= _inside(position, limits[axis])
    return inside
