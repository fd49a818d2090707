"""Dense maps: what they say at points and on grids, against SciPy and against the matrices they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_multiphase.field import DenseField, map_points
from napari_multiphase.imaging.fusion import carry_maps
from napari_multiphase.imaging.resample import resample
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Grid, Phase

GRID = Grid((5, 6, 7), (6.0, 5.0, 4.0), (-10.0, 3.0, 20.0))


def random_field(seed: int = 0, size_mm: float = 5.0) -> DenseField:
    values = np.random.default_rng(seed).normal(scale=size_mm, size=(*GRID.shape, 3))
    return DenseField(values.astype(np.float32), GRID)


def field_of(matrix: np.ndarray, grid: Grid) -> DenseField:
    """The dense map that does what a 4 x 4 does, on `grid`."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    points = (index * grid.spacing_mm + grid.origin_mm)[..., ::-1]
    return DenseField((points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3]).astype(np.float32), grid)


TURN = np.array([[0.99, -0.08, 0.02, 5.0], [0.08, 0.99, 0.0, -3.0], [-0.02, 0.01, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.floats(-80, 80)] * 3), min_size=1, max_size=20))
def test_points_are_displaced_as_scipy_interpolates_and_constantly_beyond(points):
    field, points = random_field(), np.array(points)
    index = ((points[:, ::-1] - GRID.origin_mm) / GRID.spacing_mm).T
    parts = [ndimage.map_coordinates(field.displacement_mm[..., k], index, order=1, mode="nearest") for k in range(3)]
    assert field.at(points) == pytest.approx(np.stack(parts, 1), abs=1e-3)
    assert field.map(points) == pytest.approx(points + np.stack(parts, 1), abs=1e-3)


def test_on_a_grid_it_says_what_it_says_at_its_points():
    field, target = random_field(), Grid((9, 8, 10), (3.0, 4.5, 3.5), (-14.0, 0.0, 18.0))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij"), -1)
    points = (index * target.spacing_mm + target.origin_mm)[..., ::-1].reshape(-1, 3)
    expected = field.at(points).reshape(*target.shape, 3)
    assert field.on(target) == pytest.approx(expected, abs=1e-4)
    assert field.on(target, slice(3, 5)) == pytest.approx(expected[3:5], abs=1e-4)
    assert field.on(target, slice(4, 4)).shape == (0, 8, 10, 3)
    source = Grid((4, 4, 4), (7.0, 6.0, 5.0), (1.0, 2.0, 3.0))
    voxels = (field.map(points)[:, ::-1] - source.origin_mm) / source.spacing_mm
    found = field.voxels(source, target)
    assert np.moveaxis(found, 0, -1).reshape(-1, 3) == pytest.approx(voxels, abs=1e-4)
    assert field.voxels(source, target, slice(2, 4)) == pytest.approx(found[:, 2:4], abs=1e-5)


def test_a_single_plane_is_a_field_too():
    flat = DenseField(np.ones((1, 2, 2, 3), np.float32), Grid((1, 2, 2), (5.0, 5.0, 5.0)))
    assert flat.at(np.array([[2.0, 3.0, 40.0]])) == pytest.approx(np.ones((1, 3)))


@pytest.mark.parametrize("order", [0, 1])
def test_resampling_through_a_field_is_resampling_through_its_matrix(order):
    source, target = Grid((14, 20, 22), (3.0, 2.0, 2.0)), Grid((12, 18, 25), (2.5, 2.2, 1.9), (4.0, 1.0, 2.0))
    rng = np.random.default_rng(3)
    data = ndimage.gaussian_filter(rng.normal(size=source.shape), 2.0)
    data = (data > 0).astype(np.uint8) if order == 0 else (1000 * data / data.std()).astype(np.float32)
    whole = Grid((8, 8, 8), (9.0, 9.0, 9.0), (-5.0, -5.0, -5.0))
    by_matrix = resample(data, source, target, order, TURN)
    by_field = resample(data, source, target, order, field_of(TURN, whole))
    assert by_field.dtype == data.dtype
    if order == 0:
        assert (by_field == by_matrix).mean() > 0.999  # but for voxels on a border
        (carried,) = carry_maps((data,), source, target, field_of(TURN, whole))
        (expected,) = carry_maps((data,), source, target, TURN)
        assert (carried == expected).mean() > 0.999
        assert np.array_equal(carry_maps((data,), source, target, field_of(TURN, whole), slice(3, 7))[0], carried[3:7])
    else:
        inside = (by_field > -1024) & (by_matrix > -1024)
        assert inside.mean() > 0.3 and (inside == (by_matrix > -1024)).mean() > 0.999
        assert np.abs(by_field - by_matrix)[inside].max() < 1.0


def test_a_transform_names_its_maps_by_where_they_lead():
    matrix = PhaseTransform(TURN, "rigid")
    points = np.array([[1.0, 2.0, 3.0], [-30.0, 20.0, 5.0]])
    assert map_points(matrix.into(Phase.ARTERIAL), points) == pytest.approx(points @ TURN[:3, :3].T + TURN[:3, 3])
    assert matrix.map(matrix.map(points, Phase.ARTERIAL), Phase.VENOUS) == pytest.approx(points)
    there, back = random_field(1), random_field(2)
    dense = PhaseTransform(TURN, "mind", {}, there, back)
    assert dense.dense and not matrix.dense
    assert dense.into(Phase.ARTERIAL) is there and dense.into(Phase.VENOUS) is back
    with pytest.raises(ValueError, match="inverse"):
        PhaseTransform(TURN, "mind", {}, there)
    with pytest.raises(ValueError, match="does not fit"):
        DenseField(np.zeros((2, 2, 2, 3), np.float32), GRID)
