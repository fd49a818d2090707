"""Overlap figures against the closed-form values of the papers' definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_multiphase.metrics import Overlap, dice_global, dice_per_case

counts = st.integers(0, 1000)


@st.composite
def overlaps(draw: st.DrawFn) -> Overlap:
    p, g = draw(counts), draw(counts)
    return Overlap(p, g, draw(st.integers(0, min(p, g))))


def test_dice_per_case_and_global() -> None:
    cases = [Overlap(10, 10, 10), Overlap(0, 90, 0)]
    assert dice_per_case(cases) == pytest.approx(0.5, abs=1e-6)
    assert dice_global(cases) == pytest.approx(20 / 110, abs=1e-6)


def test_volumetric_overlap_error_of_dice_four_fifths() -> None:
    case = Overlap(10, 10, 8)
    assert case.dice == pytest.approx(0.8, abs=1e-6)
    assert case.voe == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(("convention", "expected"), [("natural", -0.20), ("lits", 0.25)])
def test_relative_volume_difference_in_both_conventions(convention: str, expected: float) -> None:
    assert Overlap(80, 100, 50).rvd(convention) == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="natural or lits"):
        Overlap(1, 1, 1).rvd("official")  # type: ignore[arg-type]


def test_identity() -> None:
    case = Overlap(7, 7, 7)
    assert (case.dice, dice_global([case]), case.voe, case.rvd()) == (1.0, 1.0, 0.0, 0.0)


def test_both_empty_counts_as_perfect_and_is_marked() -> None:
    case = Overlap(0, 0, 0)
    assert case.both_empty
    assert (case.dice, case.voe, case.rvd()) == (1.0, 0.0, 0.0)


def test_one_empty_scores_zero_and_has_no_volume_difference() -> None:
    case = Overlap(5, 0, 0)
    assert case.dice == 0.0
    assert case.voe == 1.0
    assert math.isnan(case.rvd("natural"))
    assert case.rvd("lits") == -1.0


def test_no_case_has_no_mean() -> None:
    assert math.isnan(dice_per_case([]))
    assert math.isnan(dice_global([]))


def test_counts_come_from_masks() -> None:
    p, g = np.array([[1, 1, 0]]), np.array([[0, 3, 3]])
    assert Overlap.of(p, g) == Overlap(2, 2, 1)
    with pytest.raises(ValueError, match="shapes"):
        Overlap.of(p, g.T)


@given(overlaps())
def test_overlap_error_follows_from_dice(case: Overlap) -> None:
    assert case.voe == pytest.approx(1 - case.dice / (2 - case.dice), abs=1e-12)
    assert 0 <= case.dice <= 1


@given(st.lists(overlaps(), min_size=1, max_size=5))
def test_global_dice_lies_between_the_cases(cases: list[Overlap]) -> None:
    filled = [case for case in cases if not case.both_empty]
    if filled:
        values = [case.dice for case in filled]
        assert min(values) - 1e-12 <= dice_global(cases) <= max(values) + 1e-12
