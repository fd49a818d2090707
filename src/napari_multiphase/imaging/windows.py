"""Hounsfield windows: what a person looks through, and what a network is given."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOWS_HU = MappingProxyType(
    {
        "soft tissue": (-160.0, 240.0),
        "liver": (-30.0, 150.0),
        "pancreas": (-50.0, 200.0),
        "bone": (-500.0, 1300.0),
        "lung": (-1350.0, 150.0),
        "angiography": (-100.0, 600.0),
    }
)
"""(lowest, highest) HU shown by each preset."""


def normalise(hu: NDArray[Any], window_hu: tuple[float, float]) -> NDArray[np.float32]:
    """HU clipped to `window_hu` and mapped linearly to [-1, 1], float32 of the same shape."""
    low, high = window_hu
    out = np.clip(hu, low, high).astype(np.float32)
    out -= np.float32((low + high) / 2)
    out *= np.float32(2 / (high - low))
    return np.clip(out, -1, 1, out=out)


def mean_and_std(hu: NDArray[Any], window_hu: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of `normalise`'s values over all of a scan (D, H, W), slice by slice in float64."""
    total = squares = 0.0
    for plane in hu:
        x = normalise(plane, window_hu).astype(np.float64)
        total += float(x.sum())
        squares += float((x * x).sum())
    mean = total / hu.size
    return mean, float(np.sqrt(max(squares / hu.size - mean * mean, 0.0)))


LEFT_IN_WINDOW, AT_ITS_END = 0.6, 0.9
"""Of translated values in [-1, 1]: up to here a voxel that had been clipped has moved into the window, from there on it
stayed at the window's end."""


def translated_hu(
    x: NDArray[np.float32], source_hu: NDArray[Any], window_hu: tuple[float, float]
) -> NDArray[np.float32]:
    """HU of translated values `x` in [-1, 1], of the same shape as the `source_hu` they were made from.

    What `normalise` cut off the source (air below the window, dense bone above it) the network never saw. It is added
    again where the translation leaves the voxel at the same end of the window, so that these stay as they were, and not
    where it moved the voxel into the window (an artery above it, pale in the other phase); between `LEFT_IN_WINDOW` and
    `AT_ITS_END` in proportion. So where x is `normalise` of the source, the answer is the source.
    """
    low, high = window_hu
    cut_off = source_hu - np.clip(source_hu, low, high).astype(np.float32)
    share = np.clip((np.sign(cut_off) * x - LEFT_IN_WINDOW) / (AT_ITS_END - LEFT_IN_WINDOW), 0, 1)
    return (x * np.float32((high - low) / 2) + np.float32((low + high) / 2) + share * cut_off).astype(np.float32)
