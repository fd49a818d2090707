"""Windows: ends, middle, and every preset in order."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.imaging.windows import WINDOWS_HU, normalise


@pytest.mark.parametrize(
    ("hu", "wanted"), [(-200, -1.0), (600, 1.0), (200, 0.0), (-2000, -1.0), (3000, 1.0), (0, -0.5), (400, 0.5)]
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_hu_map_linearly_and_are_clipped(hu: float, wanted: float, dtype: type) -> None:
    data = np.full((2, 2, 2), hu, dtype)
    out = normalise(data, (-200, 600))
    assert out.dtype == np.float32
    assert np.allclose(out, wanted, atol=1e-6)
    assert (data == hu).all()


def test_values_never_leave_the_range() -> None:
    out = normalise(np.linspace(-1e5, 1e5, 100_001), (-133.7, 271.3))
    assert out.min() == pytest.approx(-1)
    assert out.max() == pytest.approx(1)
    assert np.abs(out).max() <= 1


def test_presets_hold_what_they_are_named_for() -> None:
    assert {"soft tissue", "liver", "pancreas", "bone"} <= WINDOWS_HU.keys()
    for low, high in WINDOWS_HU.values():
        assert low < 40 < high or high == 150
