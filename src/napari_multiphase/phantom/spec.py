"""What a phantom is asked to be, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.volume import Grid, Phase, Volume

Pathology = Literal["none", "liver", "pancreas"]

SMALLEST_VOX = 48
LARGEST_VOX = (512, 512, 751)
SPACING_LIMITS_MM = (0.3, 12.0)
LARGEST_MOTION_MM = 30.0
LARGEST_NOISE_HU = 200.0


@dataclass(frozen=True)
class PhantomSpec:
    """A phantom's settings; the only home of their defaults.

    Attributes
    ----------
    shape : (D, H, W) voxels, each at least 48; sorted, at most 512 x 512 x 751.
    spacing_mm : (z, y, x). The anatomy is centred on the abdomen and cropped where the field of view is smaller.
    seed : of the subject. Same seed, same patient, whatever the grid.
    pathology : "liver" adds lesions of up to five types, "pancreas" a mass with a dilated duct upstream of it.
    motion_mm : peak breathing displacement between the phases; 0 for none.
    noise_hu : standard deviation of the noise; None draws 8 to 20 HU per subject.
    """

    shape: tuple[int, int, int] = (96, 192, 192)
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0)
    seed: int = 0
    pathology: Pathology = "none"
    motion_mm: float = 12.0
    noise_hu: float | None = None

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_spacing(self.spacing_mm)
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise UserError(f"The phantom's seed is {self.seed!r}; give a whole number, 0 or larger.")
        if self.pathology not in get_args(Pathology):
            names = ", ".join(get_args(Pathology))
            raise UserError(f"The phantom knows no pathology {self.pathology!r}; choose one of {names}.")
        if not (_is_finite(self.motion_mm) and 0 <= self.motion_mm <= LARGEST_MOTION_MM):
            raise UserError(f"The phantom's motion_mm is {self.motion_mm}; give 0 to {LARGEST_MOTION_MM:g} mm.")
        if self.noise_hu is not None and not (_is_finite(self.noise_hu) and 0 <= self.noise_hu <= LARGEST_NOISE_HU):
            raise UserError(f"The phantom's noise_hu is {self.noise_hu}; give 0 to {LARGEST_NOISE_HU:g} HU or nothing.")

    @property
    def grid(self) -> Grid:
        """The grid of both phases, centred on the middle of the abdomen."""
        origin = tuple(-0.5 * (n - 1) * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        d, h, w = (int(n) for n in self.shape)
        sz, sy, sx = (float(s) for s in self.spacing_mm)
        return Grid((d, h, w), (sz, sy, sx), (origin[0], origin[1], origin[2]))


@dataclass(frozen=True)
class PhantomStudy:
    """One subject, scanned twice.

    Attributes
    ----------
    volumes : per phase (D, H, W) int16 HU, canonical axes (superior, posterior, left).
    labels : per phase (D, H, W) uint8, the exact ids of `labels.STRUCTURES` on that phase's grid.
    motion_mm : (D, H, W, 3) float32, last axis (x, y, z) in LPS mm, on the venous grid:
        venous point + motion = arterial point.
    spec : what was asked for.
    """

    volumes: Mapping[Phase, Volume]
    labels: Mapping[Phase, NDArray[np.uint8]]
    motion_mm: NDArray[np.float32]
    spec: PhantomSpec


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _check_shape(shape: tuple[int, int, int]) -> None:
    whole = len(shape) == 3 and all(isinstance(n, int | np.integer) for n in shape)
    if not whole or min(shape) < SMALLEST_VOX:
        raise UserError(f"The phantom's shape is {shape}; give three whole numbers of at least {SMALLEST_VOX} voxels.")
    if any(n > limit for n, limit in zip(sorted(shape), sorted(LARGEST_VOX), strict=True)):
        raise UserError(f"The phantom's shape is {shape}; the largest is 512 x 512 x 751 voxels, in any order.")


def _check_spacing(spacing_mm: tuple[float, float, float]) -> None:
    low, high = SPACING_LIMITS_MM
    if len(spacing_mm) != 3 or not all(_is_finite(s) and low <= s <= high for s in spacing_mm):
        raise UserError(f"The phantom's spacing is {spacing_mm} mm; give three values from {low} to {high} mm.")
