"""Resampling: linear images stay linear, centres stay in place, coarse targets average, transforms move points."""

from __future__ import annotations

import time

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_multiphase.imaging.resample import resample
from napari_multiphase.volume import Grid

spacings = st.tuples(*[st.floats(0.4, 5.0)] * 3)


def points_mm(grid: Grid) -> np.ndarray:
    """(D, H, W, 3) LPS (x, y, z) of every voxel centre."""
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    return np.stack([xx, yy, zz], axis=-1)


def linear(grid: Grid, gradient: tuple[float, float, float] = (0.3, -1.2, 2.1)) -> np.ndarray:
    return (points_mm(grid) @ gradient + 5).astype(np.float32)


def inside(points: np.ndarray, grid: Grid, margin_vox: float = 0.0) -> np.ndarray:
    """Whether points lie between the grid's outermost centres, `margin_vox` away from them."""
    index = (points[..., ::-1] - grid.origin_mm) / grid.spacing_mm
    return ((index >= margin_vox) & (index <= np.array(grid.shape) - 1 - margin_vox)).all(axis=-1)


@settings(max_examples=40, deadline=None)
@given(spacings, spacings, st.tuples(*[st.floats(-3, 3)] * 3))
def test_linear_images_are_reproduced_exactly_at_any_two_spacings(first, second, origin) -> None:
    grid, target = Grid((9, 10, 11), first), Grid((8, 7, 6), second, origin)
    out = resample(linear(grid), grid, target)
    seen = inside(points_mm(target), grid)
    wanted = linear(target)
    assert np.abs(out[seen] - wanted[seen]).max(initial=0) < 2e-3
    border = ~inside(points_mm(target), grid, -0.501)
    assert (out[border] == -1024).all()


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-20, 20)] * 3), st.tuples(*[st.floats(-10, 10)] * 3))
def test_linear_images_are_reproduced_exactly_through_a_rigid_transform(degrees, shift) -> None:
    grid = Grid((12, 14, 16), (2.0, 1.1, 0.9), (-10.0, -8.0, -7.0))
    target = Grid((10, 9, 8), (1.9, 1.2, 1.3), (-9.0, -7.0, -6.0))
    transform = sitk.Euler3DTransform((0, 0, 0), *np.radians(degrees), shift)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = shift
    out = resample(linear(grid), grid, target, 1, matrix)
    moved = points_mm(target) @ matrix[:3, :3].T + matrix[:3, 3]
    seen = inside(moved, grid)
    assert np.abs(out - (moved @ (0.3, -1.2, 2.1) + 5))[seen].max(initial=0) < 2e-3
    assert (out[~inside(moved, grid, -0.501)] == -1024).all()


def test_a_transform_means_the_same_as_in_simpleitk() -> None:
    rng = np.random.default_rng(0)
    data = ndimage.gaussian_filter(rng.normal(0, 300, (20, 24, 28)), 2).astype(np.float32)
    grid = Grid(data.shape, (2.0, 1.0, 1.5), (5.0, -3.0, 2.0))
    target = Grid((18, 20, 22), (2.1, 1.1, 1.6), (6.0, -2.0, 3.0))
    transform = sitk.Euler3DTransform((20, 10, 25), 0.1, -0.05, 0.2, (3, -2, 4))
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    image = sitk.GetImageFromArray(data)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm[::-1])
    wanted = sitk.Resample(
        image, target.shape[::-1], transform, sitk.sitkLinear, target.origin_mm[::-1], target.spacing_mm[::-1],
        (1, 0, 0, 0, 1, 0, 0, 0, 1), -1024.0,
    )  # fmt: skip
    out = resample(data, grid, target, 1, matrix)
    assert np.allclose(out, sitk.GetArrayFromImage(wanted), atol=0.01)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7, 3.0])
def test_a_ball_stays_where_it_is(factor: float) -> None:
    grid = Grid((40, 50, 60), (1.5, 1.0, 1.0), (-30.0, -25.0, -30.0))
    centre = np.array([2.3, 1.2, -1.7])
    ball = (np.linalg.norm(points_mm(grid) - centre, axis=-1) < 14).astype(np.float32)
    sz, sy, sx = (s * factor for s in grid.spacing_mm)
    d, h, w = (int(e / s) for e, s in zip(grid.extent_mm, (sz, sy, sx), strict=True))
    target = Grid((d, h, w), (sz, sy, sx), (-29.0, -24.5, -29.5))
    out = resample(ball, grid, target, background=0)
    mass = (points_mm(target) * out[..., None]).sum(axis=(0, 1, 2)) / out.sum()
    assert np.abs(mass - (points_mm(grid) * ball[..., None]).sum(axis=(0, 1, 2)) / ball.sum()).max() < 0.1
    assert out.sum() * target.voxel_ml == pytest.approx(ball.sum() * grid.voxel_ml, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(spacings, spacings, st.tuples(*[st.floats(-3, 3)] * 3))
def test_nearest_picks_the_voxel_whose_centre_is_nearest(first, second, origin) -> None:
    grid, target = Grid((6, 7, 8), first), Grid((5, 6, 7), second, origin)
    ids = np.arange(1, 6 * 7 * 8 + 1, dtype=np.int32).reshape(grid.shape)
    out = resample(ids, grid, target, 0)
    picked = points_mm(grid).reshape(-1, 3)[out[out > 0] - 1]
    apart = np.abs(picked - points_mm(target)[out > 0])
    assert (apart <= np.array(first[::-1]) / 2 + 1e-5).all()
    assert ((out > 0) | ~inside(points_mm(target), grid, -0.499)).all()


def test_a_coarser_target_averages_noise_instead_of_picking_it() -> None:
    noise = np.random.default_rng(0).normal(0, 100, (24, 64, 64)).astype(np.float32)
    grid, target = Grid(noise.shape, (1.0, 1.0, 1.0)), Grid((6, 16, 16), (4.0, 4.0, 4.0), (1.5, 1.5, 1.5))
    plain = resample(noise, grid, target)[1:-1, 1:-1, 1:-1]
    eye = np.eye(4)
    eye[0, 3] = 1e-6
    turned = resample(noise, grid, target, 1, eye)[1:-1, 1:-1, 1:-1]
    assert plain.std() < 100 / np.sqrt(4**3) * 1.2
    assert turned.std() < 35


def test_blocks_are_averaged_exactly() -> None:
    """Two voxels into one: half of each neighbour's own mean and of the line between them, in closed form."""
    data = np.array([0.0, 0, 8, 8, 0, 0], np.float32)[None, None, :]
    grid, target = Grid((1, 1, 6), (1, 1, 1)), Grid((1, 1, 3), (1, 1, 2), (0, 0, 0.5))
    # Mean of the linear interpolant over [1.5, 3.5]: 0.5 * 6 + 1 * 8 + 0.5 * 6 = 14, over 2 mm = 7.
    assert resample(data, grid, target).ravel().tolist() == pytest.approx([0.0, 7.0, 0.0])


def test_nearest_takes_whole_labels_only() -> None:
    labels = np.random.default_rng(0).integers(0, 24, (10, 12, 14)).astype(np.uint8)
    grid = Grid(labels.shape, (2, 1, 1))
    out = resample(labels, grid, Grid((20, 24, 28), (1, 0.5, 0.5), (-0.5, -0.25, -0.25)), 0)
    assert np.array_equal(out, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert (resample(labels, grid, Grid((3, 3, 3), (1, 1, 1), (500, 0, 0)), 0) == 0).all()


def test_the_same_grid_is_a_copy() -> None:
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    grid = Grid((2, 3, 4), (1, 1, 1))
    out = resample(data, grid, grid)
    assert np.array_equal(out, data)
    assert not np.shares_memory(out, data)


def test_integers_are_rounded_and_kept_in_range() -> None:
    data = np.array([32767, 32767, -32768, 3], np.int16)[None, None, :]
    out = resample(data, Grid((1, 1, 4), (1, 1, 1)), Grid((1, 1, 7), (1, 1, 0.5)))
    assert out.dtype == np.int16
    assert out.ravel().tolist() == [32767, 32767, 32767, 0, -32768, -16382, 3]


def test_a_clinical_volume_reaches_the_networks_grid_quickly() -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, (100, 512, 512), dtype=np.int16)
    grid, target = Grid(data.shape, (2.5, 0.7, 0.7)), Grid((83, 179, 179), (3.0, 2.0, 2.0))
    start = time.process_time()
    resample(data, grid, target)
    print(f"512 x 512 x 100 to 3 x 2 x 2 mm: {time.process_time() - start:.2f} s of processor time")
    assert time.process_time() - start < 6  # 0.2 s when nothing else runs


def test_wrong_shapes_are_a_defect() -> None:
    with pytest.raises(ValueError, match="its grid"):
        resample(np.zeros((2, 2, 2)), Grid((3, 3, 3), (1, 1, 1)), Grid((3, 3, 3), (1, 1, 1)))
