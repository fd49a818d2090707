"""Folds, inverse errors and target errors of maps that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.field import DenseField
from napari_multiphase.imaging.resample import resample
from napari_multiphase.registration.field_quality import (
    folded_share,
    inverse_error_mm,
    jacobian,
    near_surfaces,
    structure_distances,
    target_error_mm,
)
from napari_multiphase.volume import Grid

GRID = Grid((10, 12, 14), (2.0, 1.5, 1.0), (-5.0, 3.0, 7.0))


def points_mm(grid: Grid = GRID) -> np.ndarray:
    index = np.argwhere(np.ones(grid.shape, bool))
    return (index * np.array(grid.spacing_mm) + np.array(grid.origin_mm))[:, ::-1]


def linear(matrix: np.ndarray, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> DenseField:
    """point -> matrix point + shift, LPS mm."""
    points = points_mm()
    moved = points @ matrix.T + np.array(shift) - points
    return DenseField(moved.reshape(*GRID.shape, 3).astype(np.float32), GRID)


def test_the_jacobian_of_a_linear_map_is_its_determinant() -> None:
    matrix = np.array([[1.2, 0.3, -0.1], [0.0, 0.8, 0.2], [0.1, -0.2, 1.1]])
    assert jacobian(linear(matrix)) == pytest.approx(np.linalg.det(matrix), abs=1e-4)
    assert folded_share(linear(matrix)) == 0.0


def test_a_mirrored_part_is_counted_as_folded() -> None:
    assert folded_share(linear(np.diag([-1.0, 1.0, 1.0]))) == 1.0
    field = linear(np.eye(3))
    x = np.arange(14.0)
    field.displacement_mm[..., 0] = np.where(x < 7, 0.0, -2.0 * (x - 7))
    where = np.zeros(GRID.shape, bool)
    where[:, :, 9:] = True
    assert folded_share(field, where) == 1.0
    assert folded_share(field) == pytest.approx(7 / 14)


def test_there_and_back() -> None:
    there, back = linear(np.eye(3), (1.0, -2.0, 0.5)), linear(np.eye(3), (-1.0, 2.0, 0.0))
    assert inverse_error_mm(there, back, points_mm()[::7]) == pytest.approx(0.5, abs=1e-5)


def test_points_between_and_beyond_the_grid() -> None:
    field = linear(np.diag([1.1, 1.0, 1.0]))
    inside = np.array([[9.37, 8.1, 1.3]])
    assert field.at(inside) == pytest.approx(np.array([[0.937, 0.0, 0.0]]), abs=1e-5)
    assert field.at(np.array([[1000.0, 8.0, 1.0]])) == pytest.approx(np.array([[2.0, 0.0, 0.0]]), abs=1e-5)


def test_a_field_on_a_finer_grid_is_the_same_map() -> None:
    field = linear(np.array([[1.0, 0.1, 0.0], [0.0, 0.9, 0.0], [0.2, 0.0, 1.0]]))
    finer = Grid((13, 20, 21), (1.3, 0.7, 0.6), (-4.0, 4.0, 8.0))
    assert field.on(finer).reshape(-1, 3) == pytest.approx(field.at(points_mm(finer)), abs=1e-4)
    assert field.on(finer, slice(3, 5)) == pytest.approx(field.on(finer)[3:5], abs=1e-5)


def test_target_error_of_a_map_that_is_one_millimetre_off() -> None:
    motion = np.zeros((*GRID.shape, 3), np.float32)
    motion[..., 2] = 3.0
    field = linear(np.eye(3), (0.0, 1.0, 3.0))
    assert target_error_mm(field, motion, GRID, np.ones(GRID.shape, bool)) == pytest.approx(1.0, abs=1e-5)


def test_near_a_surface_is_ten_millimetres() -> None:
    grid = Grid((40, 5, 5), (1.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[25:] = 1
    labels[30:32] = 21  # a tumour is part of the liver: its border is none
    near = near_surfaces(labels, grid)
    assert not near[:15].any() and near[15:].all()
    assert not near_surfaces(np.zeros(grid.shape, np.uint8), grid).any()


def test_a_structure_through_the_map_that_moved_it() -> None:
    grid = Grid((20, 20, 20), (1.0, 1.0, 1.0))
    fixed, moving = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    fixed[5:10, 5:10, 5:10], moving[5:10, 8:13, 5:10] = 6, 6
    shift = np.zeros((*grid.shape, 3), np.float32)
    still = DenseField(shift.copy(), grid)
    shift[..., 1] = 3.0
    moved = DenseField(shift, grid)
    assert structure_distances(moved, fixed, grid, moving, grid, (6, 22, 23)).assd_mm == 0.0
    assert structure_distances(still, fixed, grid, moving, grid, (6, 22, 23)).assd_mm > 1.0
    assert np.array_equal(resample(moving, grid, grid, 0, moved), fixed)
