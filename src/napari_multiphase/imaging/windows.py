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
