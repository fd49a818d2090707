"""The editing tools: closed forms on anisotropic grids, and what holds for any labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.imaging.components import components
from napari_multiphase.imaging.editing import (
    brush,
    fill_between,
    grow,
    grow_from,
    keep_largest,
    learn_range,
    remove_small,
    smooth,
    take,
)
from napari_multiphase.imaging.editing.shape import _level

SPACING = (2.5, 0.8, 1.1)
SHAPE = (40, 90, 80)
VOXEL_ML = float(np.prod(SPACING)) / 1000
MIDDLE = (20, 45, 40)


def distance(centre=MIDDLE, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    """(D, H, W) mm from a voxel."""
    z, y, x = (((np.arange(n) - c) * s) ** 2 for n, c, s in zip(shape, centre, spacing, strict=True))
    return np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])


def ball(radius_mm: float, centre=MIDDLE, value: int = 6) -> np.ndarray:
    return np.where(distance(centre) <= radius_mm, value, 0).astype(np.uint8)


def applied(labels: np.ndarray, change) -> np.ndarray:
    after = labels.copy()
    if change is not None:
        box, values = change
        assert values.dtype == np.uint8
        after[box] = values
    return after


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


# --- grow, shrink, smooth ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_mm", [2.0, 6.0, -4.0])
def test_a_ball_grows_and_shrinks_by_millimetres_in_every_direction(by_mm):
    labels = ball(20.0)
    after = applied(labels, grow(labels, 6, by_mm, SPACING)) == 6
    radius_mm = (3 * after.sum() * VOXEL_ML * 1000 / (4 * np.pi)) ** (1 / 3)  # of the ball with this volume
    assert radius_mm == pytest.approx(20.0 + by_mm, abs=0.5 * max(SPACING))
    reach = distance()[after].max()
    assert abs(reach - (20 + by_mm)) <= max(SPACING)
    for axis, spacing in enumerate(SPACING):
        line = after[tuple(slice(None) if a == axis else MIDDLE[a] for a in range(3))]
        assert abs(line.sum() * spacing / 2 - (20 + by_mm)) <= 1.5 * spacing


def test_growing_measures_from_voxel_to_voxel():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = 3
    after = applied(labels, grow(labels, 3, 3.0, (3.0, 1.0, 1.5)))
    assert after[:, 4, 4].sum() == 3 * 3
    assert after[4, :, 4].sum() == 7 * 3
    assert after[4, 4, :].sum() == 5 * 3
    plane = (slice(4, 5), slice(0, 9), slice(0, 9))
    flat = applied(labels, grow(labels, 3, 3.0, (3.0, 1.0, 1.5), within=plane))
    assert not flat[3].any()
    np.testing.assert_array_equal(flat[4], after[4])


@given(st.integers(0, 1000), st.floats(0.01, 0.9), st.floats(0.05, 0.95))
@settings(deadline=None, max_examples=40)
def test_the_level_of_smoothing_is_that_of_a_full_sort(seed, tied, share):
    rng = np.random.default_rng(seed)
    values = rng.random(400).astype(np.float32)
    values[rng.random(400) < tied] = 0
    values[rng.random(400) < tied / 2] = 1
    count = max(1, int(share * 400))
    assert _level(values, count) == np.sort(values)[-count]


def test_smoothing_keeps_a_balls_volume_and_takes_its_bristles():
    labels = ball(15.0)
    rough = labels.copy()
    rng = np.random.default_rng(0)
    shell = (distance() > 15.0) & (distance() < 18.0) & (rng.random(SHAPE) < 0.08)
    rough[shell] = 6
    after = applied(rough, smooth(rough, 6, 2.0, SPACING))
    assert abs(int((after == 6).sum()) - int((rough == 6).sum())) <= 4
    assert components(after == 6)[1] == 1 < components(rough == 6, 6)[1]
    far = distance() > 16.5
    assert (far & (after == 6)).sum() < 0.1 * (far & (rough == 6)).sum()
    thin = np.zeros(SHAPE, np.uint8)
    thin[:, 44:47, 39:42] = 5
    assert dice(applied(thin, smooth(thin, 5, 1.5, SPACING)) == 5, thin == 5) > 0.6, "a vessel is not lost"


# --- parts ------------------------------------------------------------------------------------------------------------


def test_islands_by_millilitres():
    labels = ball(14.0, (20, 45, 25)) | ball(8.0, (20, 45, 60)) | ball(3.0, (8, 10, 10))
    small_ml = 4 / 3 * np.pi * 8.0**3 / 1000
    after = applied(labels, remove_small(labels, 6, 0.5 * small_ml, VOXEL_ML))
    assert components(after)[1] == 2
    np.testing.assert_array_equal(after, labels & ~ball(3.0, (8, 10, 10)))
    np.testing.assert_array_equal(
        applied(labels, remove_small(labels, 6, 1.5 * small_ml, VOXEL_ML)), ball(14.0, (20, 45, 25))
    )
    np.testing.assert_array_equal(applied(labels, keep_largest(labels, 6)), ball(14.0, (20, 45, 25)))
    plane = (slice(20, 21), slice(0, 90), slice(0, 80))
    after = applied(labels, keep_largest(labels, 6, within=plane))
    assert not (after[20] & ball(8.0, (20, 45, 60))[20]).any()
    np.testing.assert_array_equal(np.delete(after, 20, 0), np.delete(labels, 20, 0))
    assert keep_largest(labels, 9) is None


# --- between slices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slanted_cylinder_comes_back_from_every_fifth_slice(axis):
    along = np.arange(SHAPE[axis])
    others = [a for a in range(3) if a != axis]
    place = np.indices(SHAPE)
    centre = [MIDDLE[a] + 0.25 * (place[axis] - SHAPE[axis] // 2) / SPACING[a] for a in others]
    apart = sum(((place[a] - c) * SPACING[a]) ** 2 for a, c in zip(others, centre, strict=True))
    truth = np.where(apart <= 12.0**2, 6, 0).astype(np.uint8)
    kept = along % 5 == 0
    sparse = np.where(kept.reshape([-1 if a == axis else 1 for a in range(3)]), truth, 0).astype(np.uint8)
    after = applied(sparse, fill_between(sparse, 6, SPACING, axis=axis))
    last = along[kept].max()
    inside = np.moveaxis(after, axis, 0)[: last + 1] == 6, np.moveaxis(truth, axis, 0)[: last + 1] == 6
    assert dice(*inside) > 0.96
    np.testing.assert_array_equal(after[sparse > 0], sparse[sparse > 0])


def test_outlines_that_do_not_meet_are_moved_onto_each_other():
    labels = np.zeros(SHAPE, np.uint8)
    labels[10, 10:20, 10:20] = 6
    labels[20, 60:70, 50:60] = 6
    after = applied(labels, fill_between(labels, 6, SPACING))
    assert after[15, 40, 35] == 6
    assert all(80 <= (after[z] == 6).sum() <= 120 for z in range(10, 21))


def test_branches_split_join_and_end():
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 30:60, 20:60] = 6
    labels[11, 32:40, 22:58] = labels[11, 50:58, 22:58] = 6  # one becomes two
    labels[17, 32:40, 22:58] = 6  # one of them ends
    after = applied(labels, fill_between(labels, 6, SPACING))
    counts = [components(after[z : z + 1] == 6)[1] for z in range(5, 18)]
    assert counts[0] == 1 and counts[6] == 2 and counts[-1] == 1
    assert all((after[z] == 6).any() for z in range(5, 18))
    sizes = [(after[z] == 6).sum() for z in range(5, 12)]
    assert all(a >= b for a, b in pairwise(sizes))
    assert fill_between(ball(10.0), 6, SPACING) is None, "no gap"
    assert fill_between(labels, 9, SPACING) is None


def test_between_corrected_slices_what_was_there_is_replaced():
    labels = ball(18.0)
    wrong = labels.copy()
    wrong[17:24, :, 40:] = 0
    wrong[20] = labels[20]
    wrong[16], wrong[24] = labels[16], labels[24]
    assert fill_between(wrong, 6, SPACING) is None, "every slice shows something"
    after = applied(wrong, fill_between(wrong, 6, SPACING, keys=[16, 20, 24, 39]))
    assert dice(after == 6, labels == 6) > 0.97
    np.testing.assert_array_equal(after[25:], wrong[25:])


# --- brush and growing ------------------------------------------------------------------------------------------------


def two_tissues() -> np.ndarray:
    """A bright ball of 100 HU in 40 HU, noise 8 HU."""
    rng = np.random.default_rng(4)
    return (np.where(distance() <= 20.0, 100.0, 40.0) + rng.normal(0, 8, SHAPE)).astype(np.int16)


def test_a_brush_is_round_in_millimetres_and_keeps_to_its_range():
    hu = two_tissues()
    empty = np.zeros(SHAPE, np.uint8)
    disc = applied(empty, brush(empty, hu, [MIDDLE], 9.0, SPACING, 6, axis=0))
    np.testing.assert_array_equal(disc[20] == 6, distance()[20] <= 9.0)
    assert not np.delete(disc, 20, 0).any()
    sphere = applied(empty, brush(empty, hu, [MIDDLE], 9.0, SPACING, 6))
    np.testing.assert_array_equal(sphere == 6, distance() <= 9.0)
    edge = (20, 45 + 25, 40)  # 20 mm behind the middle: on the border of the tissues
    painted = applied(empty, brush(empty, hu, [edge, (20, 68, 44)], 9.0, SPACING, 6, range_hu=(70, 130), axis=0))
    under = np.minimum(distance(edge), distance((20, 68, 44)))[20] <= 9.0
    np.testing.assert_array_equal(painted[20] == 6, under & (hu[20] >= 70) & (hu[20] <= 130))
    erased = applied(disc, brush(disc, hu, [MIDDLE], 4.0, SPACING, 6, axis=0, erase=True))
    np.testing.assert_array_equal(erased[20] == 6, (distance()[20] <= 9.0) & (distance()[20] > 4.0))


def test_a_connected_brush_leaves_islands_in_its_range():
    hu = np.zeros(SHAPE, np.int16)
    hu[20, 40:50, 30:42] = 100
    hu[20, 40:50, 46:50] = 100
    empty = np.zeros(SHAPE, np.uint8)
    stroke = {"range_hu": (90, 110), "axis": 0, "connected": True}
    after = applied(empty, brush(empty, hu, [(20, 45, 38)], 14.0, SPACING, 6, **stroke))
    assert after[20, 45, 41] == 6
    assert not after[20, :, 44:].any()
    assert brush(empty, hu, [(20, 45, 44)], 3.0, SPACING, 6, **stroke) is None, "its centre is out of range"


def test_growing_finds_the_tissue_and_stops_at_the_distance_and_at_neighbours():
    hu, labels = two_tissues(), np.zeros(SHAPE, np.uint8)
    low, high = learn_range(hu, MIDDLE, SPACING)
    assert 60 < low < 90 and 110 < high < 140
    edge = learn_range(hu, (20, 45 + 22, 40), SPACING, axis=0)
    assert edge[0] > 50 and 90 < sum(edge) / 2 < 110, "near the border its own side is learnt"
    found = applied(labels, grow_from(labels, hu, MIDDLE, SPACING, 6, (low, high), most_mm=40)) == 6
    assert dice(found, distance() <= 20.0) > 0.95
    near = applied(labels, grow_from(labels, hu, MIDDLE, SPACING, 6, (low, high), most_mm=10)) == 6
    assert distance()[near].max() <= 10.0
    assert near.sum() > 0.95 * (distance() <= 10.0).sum()
    flat = applied(labels, grow_from(labels, hu, MIDDLE, SPACING, 6, (low, high), most_mm=40, axis=1)) == 6
    assert flat[:, 45].sum() == pytest.approx(np.pi * 20**2 / (2.5 * 1.1), rel=0.05) and flat.sum() == flat[:, 45].sum()
    wall = labels.copy()
    wall[:, :, 44] = 2
    stopped = applied(wall, grow_from(wall, hu, MIDDLE, SPACING, 6, (low, high), most_mm=40))
    assert not (stopped[:, :, 44:] == 6).any() and (stopped[:, :, 44] == 2).all()
    through = applied(wall, grow_from(wall, hu, MIDDLE, SPACING, 6, (low, high), most_mm=40, over=(2,)))
    assert (through[:, :, 44:] == 6).sum() > 1000
    assert grow_from(wall, hu, (20, 45, 44), SPACING, 6, (low, high), most_mm=40) is None


# --- from elsewhere ---------------------------------------------------------------------------------------------------


def test_a_structure_is_taken_whole_or_in_part():
    mine, other = ball(10.0), ball(14.0, (22, 48, 40))
    mine[0, 0, :] = 2
    other[mine == 2] = 6
    after = applied(mine, take(mine, other, 6))
    np.testing.assert_array_equal(after == 6, (other == 6) & (mine != 2))
    upper = (slice(20, 40), slice(0, 90), slice(0, 80))
    part = applied(mine, take(mine, other, 6, within=upper))
    np.testing.assert_array_equal(part[:20], mine[:20])
    np.testing.assert_array_equal(part[20:], after[20:])
    seen = np.zeros(SHAPE, bool)
    np.testing.assert_array_equal(applied(mine, take(mine, other, 6, seen=seen)), mine)
    assert take(mine, other, 9) is None


# --- what holds for any labels ----------------------------------------------------------------------------------------

SMALL = (7, 9, 8)
spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5]) for _ in range(3)])


def some(seed: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(SMALL) < density, rng.integers(1, 4, SMALL), 0).astype(np.uint8)
    return labels, rng.integers(-100, 200, SMALL).astype(np.int16)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6), density=st.floats(0.0, 0.9), spacing=spacings, over=st.sampled_from([(), (2,), (2, 3)]),
    tool=st.sampled_from(["grow", "shrink", "smooth", "largest", "small", "between", "brush", "from", "take"]),
    axis=st.sampled_from([0, 1, 2]), amount=st.floats(0.5, 4.0),
)  # fmt: skip
def test_only_the_edited_structure_changes_and_others_only_where_allowed(
    seed, density, spacing, over, tool, axis, amount
):
    labels, hu = some(seed, density)
    was = labels.copy()
    at = (3, 4, 4)
    change = {
        "grow": lambda: grow(labels, 1, amount, spacing, over=over),
        "shrink": lambda: grow(labels, 1, -amount, spacing, over=over),
        "smooth": lambda: smooth(labels, 1, amount, spacing, over=over),
        "largest": lambda: keep_largest(labels, 1),
        "small": lambda: remove_small(labels, 1, amount, 1.0),
        "between": lambda: fill_between(labels, 1, spacing, axis=axis, keys=[0, 3, 6], over=over),
        "brush": lambda: brush(labels, hu, [at, (3, 5, 5)], amount, spacing, 1, range_hu=(0, 150), over=over),
        "from": lambda: grow_from(labels, hu, at, spacing, 1, (-50, 150), most_mm=amount, axis=axis, over=over),
        "take": lambda: take(labels, some(seed + 1, 0.4)[0], 1, over=over),
    }[tool]()
    np.testing.assert_array_equal(labels, was, err_msg="tools are pure")
    after = applied(labels, change)
    moved = after != labels
    assert set(np.unique(after[moved])) <= {0, 1}
    assert set(np.unique(labels[moved])) <= {0, 1, *over}
    if change is not None:
        box, values = change
        inner = values != labels[box]
        assert all(inner.any(axis=tuple(b for b in range(3) if b != a))[[0, -1]].all() for a in range(3)), (
            "the box is as small as it can be"
        )
    if tool in ("grow", "brush", "from"):
        assert not (moved & (after == 0)).any(), "they only add"
    if tool in ("shrink", "largest", "small"):
        assert not (moved & (after == 1)).any(), "they only take away"
    if tool in ("largest", "small"):
        again = keep_largest(after, 1) if tool == "largest" else remove_small(after, 1, amount, 1.0)
        assert again is None, "once is enough"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), density=st.floats(0.01, 0.5), spacing=spacings, by=st.floats(0.5, 4.0))
def test_growing_then_shrinking_keeps_every_voxel(seed, density, spacing, by):
    labels = (some(seed, density)[0] > 0).astype(np.uint8)
    grown = applied(labels, grow(labels, 1, by, spacing))
    closed = applied(grown, grow(grown, 1, -by, spacing))
    assert (closed[labels == 1] == 1).all()
    assert (closed <= grown).all()
    opened = applied(labels, grow(labels, 1, -by, spacing))
    opened = applied(opened, grow(opened, 1, by, spacing))
    assert (opened <= labels).all()
