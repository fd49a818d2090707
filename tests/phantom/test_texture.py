"""Noise: deviation, spectrum, independence of how it is asked for."""

import numpy as np
import pytest

from napari_multiphase.phantom.texture import Noise
from napari_multiphase.volume import Grid

GRID = Grid((12, 160, 144), (3.0, 0.8, 0.8))


def noise(seed: int = 0) -> Noise:
    return Noise(GRID, np.random.SeedSequence(seed, spawn_key=(3,)))


def test_its_deviation_is_one() -> None:
    values = noise().slices(0, 12)
    assert values.std() == pytest.approx(1.0, rel=0.02) and values.mean() == pytest.approx(0, abs=0.01)


def test_any_slice_can_be_had_alone() -> None:
    whole = noise().slices(0, 12)
    assert (noise().slices(5, 6) == whole[5:6]).all()
    parts = noise()
    assert (np.concatenate([parts.slices(0, 5), parts.slices(5, 12)]) == whole).all()


def test_its_power_peaks_between_the_lowest_and_the_highest_frequencies() -> None:
    power = np.mean([np.abs(np.fft.fft2(s)) ** 2 for s in noise().slices(0, 12)], axis=0)
    f = np.hypot(np.fft.fftfreq(160, 0.8)[:, None], np.fft.fftfreq(144, 0.8)[None])
    low, middle, high = (power[(f >= a) & (f < b)].mean() for a, b in ((0.005, 0.03), (0.12, 0.18), (0.45, 0.6)))
    assert middle > 2 * low and middle > 20 * high


def test_seeds_differ() -> None:
    a, b = noise(0).slices(0, 4), noise(1).slices(0, 4)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
