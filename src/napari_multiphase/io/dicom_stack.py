"""From slice positions to one lattice: regular, tilted, with missing or uneven slices, or refused in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.io.geometry import Lattice

LARGEST_GAP_STEPS = 3
SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Placed:
    """The place of one slice: LPS mm of its first pixel, row and column directions, (rows, columns) and spacings."""

    position_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    rows: int
    columns: int
    row_spacing_mm: float
    column_spacing_mm: float
    thickness_mm: float = 1.0


def offsets_mm(slices: list[Placed]) -> NDArray[np.float64]:
    """Position of each slice along the common slice normal."""
    row, column = np.array(slices[0].orientation[:3]), np.array(slices[0].orientation[3:])
    return np.array([s.position_mm for s in slices]) @ np.cross(row, column)


def stack(slices: list[Placed], name: str) -> Lattice:
    """The lattice of slices that are sorted by `offsets_mm` and lie at different places.

    Raises
    ------
    UserError : gaps of more than three steps, slices off one line.
    """
    first = slices[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * first.column_spacing_mm
    affine[:3, 1] = column / np.linalg.norm(column) * first.row_spacing_mm
    affine[:3, 3] = first.position_mm
    if len(slices) == 1:
        affine[:3, 2] = normal * first.thickness_mm
        return Lattice((first.columns, first.rows, 1), affine)
    count, stored_k, step = _spread(slices, name)
    affine[:3, 2] = step
    return Lattice((first.columns, first.rows, count), affine, stored_k)


def _spread(slices: list[Placed], name: str) -> tuple[int, NDArray[np.float64] | None, NDArray[np.float64]]:
    """How many regular planes the slices span, where the stored ones lie among them, and the step as a vector."""
    positions = np.array([s.position_mm for s in slices])
    along = offsets_mm(slices)
    share = (along - along[0]) / (along[-1] - along[0])
    whole = positions[-1] - positions[0]
    length = float(np.linalg.norm(whole))
    off_line = np.abs(positions - positions[0] - share[:, None] * whole).max()
    if off_line > max(0.2, 0.02 * length / len(slices)):
        raise UserError(f"{name}: its slices do not lie on one line (off by {off_line:.1f} mm); choose another series")
    at_mm = share * length
    steps = np.diff(at_mm)
    regular = at_mm[-1] / (len(slices) - 1)
    if np.abs(at_mm - regular * np.arange(len(slices))).max() <= max(0.05, 0.02 * regular):
        return len(slices), None, whole / (len(slices) - 1)
    usual = float(np.median(steps))
    if steps.max() > (LARGEST_GAP_STEPS + 0.1) * usual:
        worst = int(steps.argmax())
        raise UserError(
            f"{name}: slices are missing, a gap of {steps[worst]:.1f} mm after slice {worst + 1} "
            f"where slices are {usual:.2f} mm apart (at most three steps are repaired); get the whole series"
        )
    multiples = np.rint(steps / usual)
    if np.abs(steps - multiples * usual).max() <= 0.02 + 0.05 * usual and multiples.min() >= 1:
        stored = np.concatenate([[0.0], np.cumsum(multiples)])
        count = int(stored[-1]) + 1
    else:
        count = max(2, round(length / usual) + 1)
        stored = share * (count - 1)
    return count, stored, whole / (count - 1)
