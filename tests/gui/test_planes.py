"""Which voxels a pane shows, and where its pixels lie."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.field import DenseField
from napari_multiphase.gui.planes import OUTSIDE_HU, Frame, Plane, cut
from napari_multiphase.imaging.resample import resample
from napari_multiphase.volume import Grid

GRID = Grid((6, 20, 24), (3.0, 1.0, 0.8), (-50.0, 10.0, 20.0))


def ramp(grid: Grid) -> np.ndarray:
    z, y, x = np.indices(grid.shape)
    return (100 * z + 10 * y + x).astype(np.float32)


def turned(degrees: float) -> np.ndarray:
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = (2.0, -1.0, 1.5)
    return matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_of_the_same_grid_is_the_array_itself(axis):
    data = ramp(GRID)
    plane = Plane(GRID, axis, 3)
    flat = cut(data, GRID, plane, 1, None, OUTSIDE_HU)
    np.testing.assert_array_equal(flat, np.take(data, 3, axis))
    if axis < 2:
        assert np.shares_memory(flat, data)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("how", ["apart", "rigid", "dense"])
def test_one_slice_is_what_resampling_the_volume_gives(axis, how):
    other = Grid((9, 14, 12), (2.0, 1.5, 1.6), (-51.0, 9.0, 19.0))
    data = ramp(other)
    through = None
    if how == "rigid":
        through = turned(4.0)
    elif how == "dense":
        coarse = Grid((3, 4, 4), (10.0, 8.0, 8.0), (-55.0, 5.0, 15.0))
        shift = np.random.default_rng(1).normal(0, 1.5, (*coarse.shape, 3)).astype(np.float32)
        through = DenseField(shift, coarse)
    whole = resample(data, other, GRID, 1, through, background=OUTSIDE_HU)
    plane = Plane(GRID, axis, 2)
    np.testing.assert_allclose(cut(data, other, plane, 1, through, OUTSIDE_HU), np.take(whole, 2, axis), atol=1e-2)


def test_scans_that_lie_apart_show_nothing():
    far = Grid((4, 4, 4), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0))
    flat = cut(ramp(far), far, Plane(GRID, 0, 2), 1, None, OUTSIDE_HU)
    assert flat.shape == (20, 24)
    assert (flat == OUTSIDE_HU).all()


def test_planes_are_found_and_stepped_within_the_scan():
    assert Plane.at(GRID, 0, (-44.2, 0, 0)).index == 2
    assert Plane.at(GRID, 0, (-500.0, 0, 0)).index == 0
    assert Plane(GRID, 0, 2).stepped(2) == -50.0 + 4 * 3.0
    assert Plane(GRID, 0, 4).stepped(9) == -50.0 + 5 * 3.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pixels_and_millimetres_are_inverse(axis):
    plane = Plane(GRID, axis, 1)
    frame = Frame.of(plane, (-42.0, 20.0, 30.0), (120, 200), 1.7, GRID)
    x, y = frame.to_px(*frame.to_mm(31.0, 77.0))
    assert (x, y) == pytest.approx((31.0, 77.0))


def test_the_head_is_up_and_the_back_is_down():
    coronal = Frame.of(Plane(GRID, 1, 3), (-42.0, 20.0, 30.0), (100, 100), 1.0, GRID)
    assert coronal.to_px(-40.0, 30.0)[1] < coronal.to_px(-44.0, 30.0)[1]
    axial = Frame.of(Plane(GRID, 0, 3), (-42.0, 20.0, 30.0), (100, 100), 1.0, GRID)
    assert axial.to_px(22.0, 30.0)[1] > axial.to_px(18.0, 30.0)[1]
    assert axial.to_px(20.0, 32.0)[0] > axial.to_px(20.0, 28.0)[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_overlays_lie_on_the_pixels_of_their_voxels(axis):
    plane = Plane(GRID, axis, 2)
    frame = Frame.of(plane, (-42.0, 20.0, 30.0), (160, 240), 2.0, GRID)
    rows, columns = frame.voxels(plane)
    v, h = plane.shown
    for y, x in ((10, 30), (80, 120), (150, 200)):
        vertical, horizontal = frame.to_mm(x + 0.5, y + 0.5)
        index_v = round((vertical - GRID.origin_mm[v]) / GRID.spacing_mm[v])
        index_h = round((horizontal - GRID.origin_mm[h]) / GRID.spacing_mm[h])
        assert rows[y] == (index_v if 0 <= index_v < GRID.shape[v] else -1)
        assert columns[x] == (index_h if 0 <= index_h < GRID.shape[h] else -1)
    left, top, width, height = frame.rectangle(plane)
    inside = np.flatnonzero(columns >= 0)
    assert inside[0] == pytest.approx(max(left, 0), abs=1)
    assert inside[-1] + 1 == pytest.approx(min(left + width, 240), abs=1)
    assert top + height > top
