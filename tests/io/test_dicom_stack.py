"""Slice positions become one lattice whose stored planes lie where the slices do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.errors import UserError
from napari_multiphase.io.dicom_stack import Placed, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def placed(z_mm: np.ndarray, lean: float = 0.0, orientation: tuple[float, ...] = AXIAL) -> list[Placed]:
    normal = np.cross(orientation[:3], orientation[3:])
    direction = normal + lean * np.array(orientation[3:])
    return [Placed(tuple(np.array([5.0, -3, 7]) + z * direction), orientation, 4, 6, 0.7, 0.8) for z in z_mm]


def worst_mm(slices: list[Placed]) -> tuple[float, np.ndarray | None]:
    """Largest distance between a slice's first pixel and the lattice's point for it."""
    lattice = stack(slices, "test")
    k = np.arange(len(slices)) if lattice.stored_k is None else lattice.stored_k
    points = lattice.affine_mm[:3, 3] + np.outer(k, lattice.affine_mm[:3, 2])
    assert len(k) == len(slices)
    assert lattice.shape[2] >= len(slices) if lattice.stored_k is None else True
    return float(np.linalg.norm(points - [s.position_mm for s in slices], axis=1).max()), lattice.stored_k


@settings(max_examples=60, deadline=None)
@given(st.floats(0.3, 10), st.integers(5, 60), st.floats(-0.5, 0.5), st.integers(0, 10_000))
def test_regular_and_tilted_stacks_with_rounded_positions(step: float, count: int, lean: float, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.002, 0.002, count)
    error, stored_k = worst_mm(placed(step * np.arange(count) + noise, lean))
    assert stored_k is None
    assert error < 0.02


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 8), st.lists(st.sampled_from([1, 1, 1, 1, 2, 3]), min_size=6, max_size=40), st.floats(-0.4, 0.4))
def test_missing_slices_leave_the_stored_ones_in_place(step: float, steps: list[int], lean: float) -> None:
    if np.median(steps) != 1:
        steps = [1] * len(steps) + steps
    error, stored_k = worst_mm(placed(step * np.concatenate([[0], np.cumsum(steps)]), lean))
    assert error < 0.01
    assert (stored_k is None) == (max(steps) == 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1.0, 2.9), min_size=6, max_size=40))
def test_uneven_slices_keep_their_places(steps: list[float]) -> None:
    error, _ = worst_mm(placed(np.concatenate([[0], np.cumsum(steps)])))
    assert error <= max(0.05, 0.02 * float(np.mean(steps))) + 1e-6


@pytest.mark.parametrize(("gap", "fits"), [(2, True), (3, True), (4, False), (10, False)])
def test_gaps_up_to_three_steps_are_repaired(gap: int, fits: bool) -> None:
    z = 2.5 * np.array([0, 1, 2, 3, 3 + gap, 4 + gap, 5 + gap, 6 + gap])
    if fits:
        lattice = stack(placed(z), "test")
        assert lattice.shape == (6, 4, 7 + gap)
        assert lattice.stored_k is not None
        assert lattice.stored_k.tolist() == [0, 1, 2, 3, 3 + gap, 4 + gap, 5 + gap, 6 + gap]
    else:
        with pytest.raises(UserError, match=rf"a gap of {2.5 * gap} mm after slice 4"):
            stack(placed(z), "test")


def test_columns_and_rows_are_not_confused() -> None:
    lattice = stack(placed(2.5 * np.arange(6)), "test")
    assert lattice.shape == (6, 4, 6)  # columns, rows, slices
    assert np.allclose(lattice.affine_mm[:3, :3], np.diag([0.8, 0.7, 2.5]))  # PixelSpacing is rows first
