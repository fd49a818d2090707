"""Figures that judge a dense map by anatomy: folds, inverse, target error, surfaces of structures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.field import DenseField
from napari_multiphase.imaging.resample import resample
from napari_multiphase.labels import STRUCTURES, ids_of_group
from napari_multiphase.metrics.surface import SurfaceDistances, surface, surface_distances
from napari_multiphase.volume import Grid

NEAR_MM = 10.0
ORGANS = tuple(s.id for s in STRUCTURES.values() if s.kind == "organ")


def jacobian(field: DenseField) -> NDArray[np.float32]:
    """(D, H, W) determinant of the map's derivative (1: volume kept; 0 or less: folded), by central differences."""
    slopes = [
        np.gradient(field.displacement_mm[..., 2 - axis], *field.grid.spacing_mm, edge_order=1) for axis in range(3)
    ]
    (zz, zy, zx), (yz, yy, yx), (xz, xy, xx) = slopes  # rows: components z, y, x; columns: along z, y, x
    zz, yy, xx = zz + 1, yy + 1, xx + 1
    return np.asarray(zz * (yy * xx - yx * xy) - zy * (yz * xx - yx * xz) + zx * (yz * xy - yy * xz), np.float32)


def folded_share(field: DenseField, where: NDArray[np.bool_] | None = None) -> float:
    """Share of the field's voxels, or of those in `where` (D, H, W), at which the map is folded."""
    determinants = jacobian(field)
    return float(((determinants if where is None else determinants[where]) <= 0).mean())


def inverse_error_mm(there: DenseField, back: DenseField, points_mm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N,) how far `back` misses the points (N, 3) LPS mm from which `there` set out."""
    return np.asarray(np.linalg.norm(back.map(there.map(points_mm)) - points_mm, axis=1), np.float64)


def near_surfaces(
    labels: NDArray[np.integer[Any]], grid: Grid, ids: Iterable[int] = ORGANS, within_mm: float = NEAR_MM
) -> NDArray[np.bool_]:
    """(D, H, W) voxels within `within_mm` of the surface of any organ of `ids`, its lesions part of it."""
    surfaces = np.zeros(labels.shape, bool)
    for organ in ids:
        surfaces |= surface(np.isin(labels, ids_of_group(organ)))
    if not surfaces.any():
        return surfaces
    away = edt.edt((~surfaces).view(np.uint8), anisotropy=grid.spacing_mm, black_border=False)
    return np.asarray(away <= within_mm, bool)


def target_error_mm(
    field: DenseField, motion_mm: NDArray[np.floating[Any]], grid: Grid, where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(N,) distance between where `field` and the true motion put the voxels `where` (D, H, W) of `grid`.

    `motion_mm` (D, H, W, 3) in LPS mm (x, y, z) on `grid`.
    """
    index = np.argwhere(where)
    points = (index * np.array(grid.spacing_mm) + np.array(grid.origin_mm))[:, ::-1]
    return np.asarray(np.linalg.norm(field.at(points) - motion_mm[where], axis=1), np.float64)


def structure_distances(
    field: DenseField,
    fixed_labels: NDArray[np.integer[Any]],
    fixed_grid: Grid,
    moving_labels: NDArray[np.integer[Any]],
    moving_grid: Grid,
    ids: Iterable[int],
) -> SurfaceDistances:
    """Surface distances in mm of the structure `ids` in the fixed scan and in the moving one, seen through `field`.

    The moving mask is carried by linear interpolation and cut at a half.
    """
    wanted = tuple(ids)
    mask = np.isin(moving_labels, wanted).astype(np.float32)
    carried = resample(mask, moving_grid, fixed_grid, 1, field, background=0.0) > 0.5
    return surface_distances(carried, np.isin(fixed_labels, wanted), fixed_grid.spacing_mm)
