"""The gap analysis of PAPER 003."""

import pytest

from napari_multiphase.metrics.gap import gap_reduction


def test_six_of_ten_points_closed_is_a_reduction_of_0_6():
    assert gap_reduction(0.80, 0.70, 0.76) == pytest.approx(0.6, abs=1e-12)
    assert gap_reduction(80, 70, 70) == 0 and gap_reduction(80, 70, 80) == 1
    assert gap_reduction(80, 70, 65) == pytest.approx(-0.5)


@pytest.mark.parametrize("offline", [0.8, 0.9])
def test_where_generators_trained_apart_leave_no_gap_there_is_nothing_to_reduce(offline):
    assert gap_reduction(0.8, offline, 0.76) is None
