"""Every source grid goes canonical and back: where points land, what is named, what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.errors import UserError
from napari_multiphase.io.geometry import (
    Lattice,
    canonical_grid,
    check_affine,
    departures,
    from_canonical,
    to_canonical,
)

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def aligned_affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Column i points along world axis order[i], in direction signs[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column in range(3):
        affine[order[column], column] = signs[column] * spacing[column]
    affine[:3, 3] = origin
    return affine


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        p, q = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[p, p] = turn[q, q] = np.cos(angle)
        turn[p, q], turn[q, p] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def world_mm(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(n, 3) indices -> (n, 3) LPS mm."""
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_each_of_the_48_orientations_is_a_lossless_permutation(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    shape = (4, 5, 6)
    data = rng.permutation(np.arange(np.prod(shape), dtype=np.int16)).reshape(shape)
    affine = aligned_affine(order, signs, np.array([0.7, 0.9, 2.5]), np.array([12.5, -30.25, 101.0]))
    lattice = Lattice(shape, affine)
    canonical, grid, words = to_canonical(data, lattice, order=1, background=-1024)
    assert words == ""
    index = np.argwhere(np.ones(shape, bool))
    source_points = world_mm(affine, index)
    canonical_index = np.argwhere(np.ones(grid.shape, bool))
    points = world_mm(grid.affine_mm, canonical_index)
    by_value = {int(v): p for v, p in zip(canonical.ravel(), points, strict=True)}
    errors = [np.abs(by_value[int(v)] - p).max() for v, p in zip(data.ravel(), source_points, strict=True)]
    assert max(errors) < 1e-9
    back = from_canonical(canonical, grid, lattice, order=0, background=0)
    assert np.array_equal(back, data)


@settings(max_examples=60, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*[st.floats(0.06, 19.0)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    noise=st.floats(-1e-4, 1e-4),
)
def test_round_trip_is_exact_for_aligned_grids(orientation, spacing, origin, shape, noise) -> None:
    order, signs = orientation
    affine = aligned_affine(order, signs, np.array(spacing), np.array(origin))
    affine[:3, :3] = rotation((noise, -noise, noise)) @ affine[:3, :3]  # degrees: the noise of stored cosines
    lattice = Lattice(shape, affine)
    data = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    canonical, grid, words = to_canonical(data, lattice, order=1, background=-1024)
    assert words == ""
    assert min(grid.spacing_mm) > 0
    assert np.array_equal(from_canonical(canonical, grid, lattice, order=0, background=0), data)


@settings(max_examples=25, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    degrees=st.tuples(*[st.floats(-25, 25)] * 3),
    gradient=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_an_oblique_scan_keeps_linear_images_in_place(orientation, degrees, gradient) -> None:
    """A linear function of world position must survive resampling exactly wherever it is not outside."""
    order, signs = orientation
    affine = aligned_affine(order, signs, np.array([0.8, 1.1, 2.0]), np.array([5.0, -7.0, 11.0]))
    affine[:3, :3] = rotation(degrees) @ affine[:3, :3]
    shape = (9, 8, 7)
    lattice = Lattice(shape, affine)
    data = (world_mm(affine, np.argwhere(np.ones(shape, bool))) @ gradient).reshape(shape).astype(np.float32)
    canonical, grid, words = to_canonical(data, lattice, order=1, background=-9999)
    index = np.argwhere(np.ones(grid.shape, bool))
    wanted = (world_mm(grid.affine_mm, index) @ gradient).reshape(grid.shape)
    source_index = world_mm(np.linalg.inv(affine), world_mm(grid.affine_mm, index)).reshape(*grid.shape, 3)
    inner = ((source_index > 0) & (source_index < np.array(shape) - 1)).all(axis=-1)
    assert inner.any()
    assert np.abs(canonical[inner] - wanted[inner]).max() < 1e-3
    outer = ((source_index < -0.51) | (source_index > np.array(shape) - 0.49)).any(axis=-1)
    if words:
        assert (canonical[outer] == -9999).all()


def test_oblique_labels_come_back_to_the_source_grid() -> None:
    """A ball drawn in the source, seen canonical, written back: same place to a fraction of a voxel."""
    affine = np.eye(4)
    affine[:3, :3] = rotation((12, -8, 20)) @ np.diag([0.8, 0.8, 1.5])
    affine[:3, 3] = (-30, 20, 5)
    shape = (48, 44, 30)
    index = np.argwhere(np.ones(shape, bool))
    centre = world_mm(affine, np.array([[24.0, 22.0, 15.0]]))
    ball = (np.linalg.norm(world_mm(affine, index) - centre, axis=1) < 12).reshape(shape).astype(np.uint8)
    lattice = Lattice(shape, affine)
    canonical, grid, words = to_canonical(ball, lattice, order=0, background=0)
    assert "oblique" in words
    back = from_canonical(canonical, grid, lattice, order=0, background=0)
    assert back.shape == shape
    dice = 2 * np.count_nonzero(back & ball) / (back.sum() + ball.sum())
    moved_mm = np.linalg.norm(
        world_mm(affine, np.argwhere(back)).mean(axis=0) - world_mm(affine, np.argwhere(ball)).mean(axis=0)
    )
    print(f"oblique round trip: Dice {dice:.4f}, centre of mass moved {moved_mm:.4f} mm")
    assert dice > 0.97
    assert moved_mm < 0.1


def test_gantry_tilt_is_named_and_straightened() -> None:
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    affine[1, 2] = 4.0 * np.tan(np.radians(18.5))
    lattice = Lattice((6, 40, 12), affine)
    assert "sheared by 18.50 degrees" in departures(lattice)
    index = np.argwhere(np.ones(lattice.shape, bool))
    data = world_mm(affine, index)[:, 1].reshape(lattice.shape).astype(np.float32)  # HU = y in mm
    canonical, grid, _ = to_canonical(data, lattice, order=1, background=-1024)
    y_mm = grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])
    seen = canonical > -1024
    assert seen.mean() > 0.3
    error = np.abs(canonical - y_mm[None, :, None])[seen & (np.abs(canonical - y_mm[None, :, None]) > 0)]
    assert error.size == 0 or np.percentile(error, 95) < 0.26  # half a row where the edge voxel is continued


def test_missing_slices_are_interpolated_and_the_stored_ones_untouched() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    stored_k = np.array([0.0, 1, 2, 4, 5, 8])
    data = np.broadcast_to((10 * stored_k).astype(np.int16), (3, 3, 6)).copy()
    canonical, grid, words = to_canonical(data, Lattice((3, 3, 9), affine, stored_k), order=1, background=-1024)
    assert words == "3 missing slices interpolated"
    assert grid.shape == (9, 3, 3)
    assert canonical[:, 1, 1].tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80]


def test_uneven_slices_keep_a_linear_image_linear() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    stored_k = np.array([0.0, 0.6, 2.1, 3.3, 4.0])
    data = np.broadcast_to((100 * stored_k).astype(np.float32), (3, 3, 5)).copy()
    canonical, _, words = to_canonical(data, Lattice((3, 3, 5), affine, stored_k), order=1, background=-1024)
    assert words == "uneven slice steps of 1.20 to 3.00 mm"
    assert np.allclose(canonical[:, 1, 1], [0, 100, 200, 300, 400], atol=1e-3)


def test_a_tiny_rotation_counts_as_aligned_and_stays_within_a_tenth_of_a_millimetre() -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation((0.0, 0.0, 0.009)) @ np.diag([0.7, 0.7, 2.5])
    lattice = Lattice((512, 512, 100), affine)
    assert departures(lattice) == ""
    grid = canonical_grid(lattice)
    corners = np.array(list(itertools.product((0, 511), (0, 511), (0, 99))), float)
    error = np.abs(world_mm(affine, corners) - world_mm(grid.affine_mm, corners[:, ::-1])).max()
    print(f"worst error of a 0.009 degree rotation taken as aligned: {error:.3f} mm")
    assert error < 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.__setitem__((0, 0), np.nan), "not numbers"),
        (lambda a: a.__setitem__((slice(0, 3), 1), a[:3, 0]), "singular"),
        (lambda a: a.__setitem__((slice(0, 3), 1), 0), "singular"),
        (lambda a: a.__setitem__((2, 2), 0.01), "not those of a CT"),
        (lambda a: a.__setitem__((2, 2), 40.0), "not those of a CT"),
        (lambda a: a.__setitem__((0, 3), 1e7), "100 m"),
    ],
)
def test_impossible_geometry_is_refused_in_words(change, words: str) -> None:
    affine = np.eye(4)
    change(affine)
    with pytest.raises(UserError, match=words) as caught:
        check_affine(affine, (10, 10, 10), "scan.nii.gz")
    assert "scan.nii.gz" in str(caught.value)


def test_more_voxels_than_memory_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(UserError, match="more than can be opened"):
        check_affine(np.eye(4), (30000, 30000, 30000), "scan.nii.gz")
