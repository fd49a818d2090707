"""Stored numbers to Hounsfield units: what is accepted, what is refused, and in which type it is kept."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError

_SLOPE_RANGE = (1e-6, 1e4)
_LARGEST_INTERCEPT = 1e6
_COARSEST_STEP_HU = 10.0


def check_scaling(slope: float, intercept: float, name: str) -> None:
    """Raise a UserError unless stored * slope + intercept can be HU."""
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UserError(
            f"{name}: its slope ({slope}) or intercept ({intercept}) is not a number; export the scan again"
        )
    if not _SLOPE_RANGE[0] <= abs(slope) <= _SLOPE_RANGE[1] or abs(intercept) > _LARGEST_INTERCEPT:
        raise UserError(
            f"{name}: its slope {slope:g} and intercept {intercept:g} cannot give Hounsfield units; "
            "export the scan again"
        )


def check_steps(slope: float, name: str) -> None:
    """Raise a UserError where neighbouring stored values lie so far apart that organs merge (8-bit copies of CT)."""
    if abs(slope) > _COARSEST_STEP_HU:
        raise UserError(
            f"{name}: stores HU in steps of {abs(slope):.3g}, too coarse to tell organs apart; get the original"
        )


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise a UserError for pixel types that are no scan: complex numbers, colours, structures."""
    if dtype.kind == "c":
        raise UserError(
            f"{name}: holds complex numbers, not Hounsfield units; export the magnitude or choose a CT scan"
        )
    if dtype.kind not in "iufb":
        raise UserError(f"{name}: holds colours or several values per voxel; choose a scan with one value per voxel")


def to_hu(stored: NDArray[Any], slope: float, intercept: float, name: str) -> NDArray[Any]:
    """Stored values as HU: int16 where nothing is lost, float32 otherwise. Same shape, memory order kept.

    Raises
    ------
    UserError : for values that are not numbers, with how many there are.
    """
    check_scaling(slope, intercept, name)
    if stored.dtype.kind == "f":
        _check_finite(stored, name)
    if slope == 1 and float(intercept).is_integer():
        whole = _as_int16(stored, int(intercept))
        if whole is not None:
            return whole
    values = stored.astype(np.float32)
    values *= np.float32(slope)
    values += np.float32(intercept)
    _check_finite(values, name)  # a large slope can overflow
    whole = _as_int16(values, 0)
    return values if whole is None else whole


def _check_finite(stored: NDArray[Any], name: str) -> None:
    # The sum is one pass without a temporary; only a suspicious one is looked at voxel by voxel.
    with np.errstate(all="ignore"):
        if math.isfinite(float(np.sum(stored, dtype=np.float64))):
            return
    bad = stored.size - int(np.count_nonzero(np.isfinite(stored)))
    if bad:
        raise UserError(f"{name}: {bad:,} of {stored.size:,} voxels are not numbers (NaN or infinite); repair the scan")


def _as_int16(stored: NDArray[Any], intercept: int) -> NDArray[np.int16] | None:
    if stored.size == 0:
        return None
    low, high = float(stored.min()), float(stored.max())
    if low + intercept < -32768 or high + intercept > 32767:
        return None
    if stored.dtype.kind == "f":
        middle = stored[tuple(slice(n // 2, n // 2 + 1) for n in stored.shape[:-1])]
        if not (np.array_equal(middle, np.rint(middle)) and np.array_equal(stored, np.rint(stored))):
            return None
    if not intercept:
        return stored.astype(np.int16)
    return (stored.astype(np.int32 if stored.dtype.itemsize <= 2 else np.int64) + intercept).astype(np.int16)


def to_labels(stored: NDArray[Any], slope: float, intercept: float, name: str) -> NDArray[Any]:
    """Stored values as label ids: uint8 or uint16, same shape.

    Raises
    ------
    UserError : for values that are not whole numbers in [0, 65535].
    """
    check_scaling(slope, intercept, name)
    values = stored
    if slope != 1 or intercept != 0:
        values = stored.astype(np.float64) * slope + intercept
    if values.dtype.kind == "f":
        _check_finite(values, name)
        rounded = np.rint(values)
        if not np.allclose(values, rounded, atol=1e-3):
            raise UserError(f"{name}: is not a label map, it holds fractions; choose a file of whole label numbers")
        values = rounded
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise UserError(f"{name}: is not a label map, its values run from {low} to {high}; labels lie in 0 to 65535")
    return values.astype(np.uint8 if high <= 255 else np.uint16)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
