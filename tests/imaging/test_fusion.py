"""Eq. 3 and fusing: exact numbers first, then the stated error bound on random softmaxes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.imaging.fusion import (
    carry,
    confidence_map,
    decode_ratio,
    dropped_bound,
    encode_confidence,
    eq3,
    fuse,
)
from napari_multiphase.study import TwoBest
from napari_multiphase.volume import Grid


@pytest.mark.parametrize(
    ("best", "second", "expected"),
    [(0.5, 0.5, 0.0), (0.6, 0.4, 0.393469), (0.75, 0.25, 0.864665), (0.9, 0.1, 0.999665), (1.0, 0.0, 1.0)],
)
def test_eq3_oracles(best: float, second: float, expected: float) -> None:
    with np.errstate(divide="ignore"):
        assert eq3(np.float64(best) / np.float64(second)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "encoded"), [(1.0, 0), (1000.0, 255), (np.inf, 255), (10.0, 85), (np.sqrt(1000), 128), (1e9, 255)]
)
def test_encoding_oracles(ratio: float, encoded: int) -> None:
    assert encode_confidence(np.array([ratio]))[0] == encoded


def test_encoding_and_map_are_monotone() -> None:
    ratios = np.geomspace(1, 2000, 5000)
    assert (np.diff(encode_confidence(ratios).astype(int)) >= 0).all()
    shown = confidence_map(np.arange(256, dtype=np.uint8))
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == 0
    assert shown[255] == 1
    np.testing.assert_allclose(
        decode_ratio(encode_confidence(ratios[ratios < 1000])), ratios[ratios < 1000], rtol=0.014
    )


def two(first: int, second: int, p_first: int, p_second: int) -> TwoBest:
    return TwoBest(*(np.array([[v]], np.uint8) for v in (first, second, p_first, p_second)))


@pytest.mark.parametrize(
    ("arterial", "venous", "weight", "label", "ratio"),
    [
        (two(1, 0, 200, 50), two(1, 0, 200, 50), 0.5, 1, 4.0),  # agreement keeps the ratio
        (two(1, 0, 200, 50), two(0, 1, 200, 50), 0.5, 1, 1.0),  # a tie of equals has no confidence
        (two(1, 0, 200, 40), two(2, 0, 100, 90), 0.5, 1, 200 / 130),  # the shared second class sums up
        (two(1, 3, 200, 40), two(2, 3, 160, 90), 0.25, 2, 120 / (10 + 67.5)),  # and may overtake
        (two(1, 3, 120, 118), two(2, 3, 120, 118), 0.5, 3, 118 / 60),  # the second of both wins
        (two(1, 0, 255, 0), two(2, 0, 255, 0), 0.0, 2, np.inf),
        (two(1, 0, 255, 0), two(2, 0, 255, 0), 1.0, 1, np.inf),
        (two(0, 0, 0, 0), two(2, 5, 150, 75), 1.0, 2, 2.0),  # outside the arterial scan: venous decides
        (two(4, 5, 150, 75), two(0, 0, 0, 0), 0.0, 4, 2.0),
        (two(0, 0, 255, 0), two(0, 0, 255, 0), 0.3, 0, np.inf),  # outside the body
        (two(0, 0, 255, 0), two(1, 0, 204, 51), 0.5, 0, 153 / 102),  # one phase's certain background
    ],
)
def test_fuse_oracles(arterial: TwoBest, venous: TwoBest, weight: float, label: int, ratio: float) -> None:
    labels, confidence = fuse(arterial, venous, weight)
    assert labels[0, 0] == label
    assert int(confidence[0, 0]) == int(encode_confidence(np.array([ratio]))[0])


def keep_two(p: np.ndarray) -> TwoBest:
    """The two best of probabilities (K, n)."""
    order = np.argsort(-p, axis=0, kind="stable")[:2]
    best = np.take_along_axis(p, order, 0)
    quantised = np.floor(best * 255 + 0.5).astype(np.uint8)
    return TwoBest(order[0].astype(np.uint8), order[1].astype(np.uint8), quantised[0], quantised[1])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 24), sharp=st.floats(0.1, 12), weight=st.floats(0, 1))
def test_error_of_keeping_two_classes_stays_within_its_bound(
    seed: int, classes: int, sharp: float, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = sharp * rng.normal(size=(2, classes, 400))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    arterial, venous = keep_two(p[0]), keep_two(p[1])
    labels, _ = fuse(arterial, venous, weight)
    full = weight * p[0] + (1 - weight) * p[1]
    regret = full.max(0) - np.take_along_axis(full, labels[None].astype(int), 0)[0]
    # The bound is taken from quantised values here: twice half a step of rounding each for m, once for the scores.
    bound = dropped_bound(arterial, venous, weight) + 3 / 255
    assert (regret <= bound + 2e-6).all()
    assert (dropped_bound(arterial, venous, weight) <= 1 / 3 + 1 / 255).all()


def test_two_classes_lose_nothing_but_rounding() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(size=(2, 1, 5000))
    p = np.concatenate([p, 1 - p], axis=1)
    labels, _ = fuse(keep_two(p[0]), keep_two(p[1]), 0.3)
    full = 0.3 * p[0] + 0.7 * p[1]
    clear = np.abs(full[0] - full[1]) > 1 / 255
    assert (labels == full.argmax(0))[clear].all()


def test_swapping_the_phases_and_their_weights_changes_no_confidence() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.full(6, 0.5), size=(2, 4000)).transpose(0, 2, 1)
    arterial, venous = keep_two(p[0]), keep_two(p[1])
    _, one = fuse(arterial, venous, 0.35)
    _, other = fuse(venous, arterial, 0.65)
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_weight_outside_its_range_and_unequal_shapes_are_refused() -> None:
    best = two(1, 0, 200, 50)
    with pytest.raises(ValueError, match="phase_weight"):
        fuse(best, best, 1.5)
    with pytest.raises(ValueError, match="shapes"):
        fuse(best, TwoBest(*(np.zeros((2, 2), np.uint8) for _ in range(4))), 0.5)


def labelled(shape: tuple[int, int, int], seed: int = 0) -> TwoBest:
    rng = np.random.default_rng(seed)
    return TwoBest(*(rng.integers(1, 255, shape, dtype=np.uint8) for _ in range(4)))


def test_carry_by_identity_is_the_same() -> None:
    grid = Grid((3, 4, 5), (3.0, 2.0, 2.0))
    best = labelled(grid.shape)
    assert carry(best, grid, grid, np.eye(4)).first is not None
    np.testing.assert_array_equal(carry(best, grid, grid, np.eye(4), slice(1, 3)).p_second, best.p_second[1:3])


def test_carry_by_whole_voxels_shifts_and_marks_what_was_not_seen() -> None:
    grid = Grid((4, 5, 6), (3.0, 2.0, 1.0))
    best, shift = labelled(grid.shape), np.eye(4)
    shift[:3, 3] = (1.0, -2.0, 3.0)  # x, y, z mm: one voxel along each axis, y backwards
    moved = carry(best, grid, grid, shift)
    np.testing.assert_array_equal(moved.first[:-1, 1:, :-1], best.first[1:, :-1, 1:])
    assert (moved.p_first[-1] == 0).all()
    assert (moved.p_first[:, 0] == 0).all()
    assert (moved.p_first[:, :, -1] == 0).all()


def test_carry_through_a_rotation_hits_the_nearest_voxel() -> None:
    grid, target = Grid((6, 20, 22), (3.0, 2.0, 2.0), (1.0, -4.0, 2.0)), Grid((7, 18, 25), (2.5, 2.2, 1.9))
    angle = 0.2
    matrix = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0, 3.0],
            [np.sin(angle), np.cos(angle), 0.05, -2.0],
            [0, 0, 1, 1.5],
            [0, 0, 0, 1],
        ]
    )
    best = labelled(grid.shape)
    moved = carry(best, grid, target, matrix)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij"), -1).reshape(-1, 3)
    mm = np.c_[index, np.ones(len(index))] @ target.affine_mm.T @ matrix.T
    at = mm @ np.linalg.inv(grid.affine_mm).T
    nearest = np.floor(at[:, :3] + 0.5).astype(int)
    off_border = (np.abs(at[:, :3] + 0.5 - np.rint(at[:, :3] + 0.5)) > 1e-3).all(1)
    inside = ((nearest >= 0) & (nearest < grid.shape)).all(1)
    expected = np.zeros(len(index), np.uint8)
    expected[inside] = best.first[tuple(nearest[inside].T)]
    np.testing.assert_array_equal(moved.first.ravel()[off_border], expected[off_border])
    assert inside.mean() > 0.2


def test_a_slice_is_fused_while_a_slider_moves() -> None:
    best, other = labelled((1, 512, 512), 1), labelled((1, 512, 512), 2)
    spent = []
    for _ in range(7):
        began = time.thread_time()
        fuse(best, other, 0.4)
        spent.append(time.thread_time() - began)
    print(f"fuse 512 x 512: {1000 * np.median(spent):.1f} ms of one core")
    assert np.median(spent) < 0.03
