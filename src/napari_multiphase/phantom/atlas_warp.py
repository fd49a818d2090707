"""The random shape of one subject of a map: size, build, turn, three octaves of displacement, organs' own sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.phantom.motion import Points, Waves
from napari_multiphase.phantom.shapes import rotation

SIZE, AXES, TURN_DEG = 0.12, 0.10, 6.0
OCTAVES = ((10, (380.0, 640.0), 21.0), (14, (170.0, 300.0), 12.0), (24, (75.0, 130.0), 5.0))
"""Waves, wavelengths and largest standard deviation (mm) of each octave."""
ORGAN_SHIFT_MM = 6.0
LEAST_DETERMINANT = 0.2
"""No volume shrinks below this share on its way to the map, size and axes apart: nothing folds or is torn off."""
_PROBE_MM = 10.0


@dataclass(frozen=True)
class Organ:
    """An organ that also grows and moves on its own.

    Attributes
    ----------
    centre : (3,) mm x, y, z.
    radius_mm : its reach.
    growth : standard deviation, least and most of `Bump.growth`.
    """

    centre: NDArray[np.float64]
    radius_mm: float
    growth: tuple[float, float, float]


@dataclass(frozen=True)
class Bump:
    """An organ's own size and shift about its centre; fades with a Gaussian of `radius_mm`. It leads from the subject
    to the map: a positive `growth` makes the subject's organ smaller."""

    centre: NDArray[np.float64]
    radius_mm: float
    growth: float
    shift_mm: NDArray[np.float64]

    def __call__(self, points: Points) -> Points:
        """(..., 3) mm -> displacement."""
        away = points - self.centre
        near = np.exp(-(away**2).sum(axis=-1, keepdims=True) / (2 * self.radius_mm**2))
        return near * (self.growth * away + self.shift_mm)


@dataclass(frozen=True)
class Warp:
    """Maps a point of the subject (venous scan) to the map's frame."""

    matrix: NDArray[np.float64]
    waves: tuple[Waves, ...]
    bumps: tuple[Bump, ...]
    strength: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator, organs: Sequence[Organ], strength: float) -> Warp:
        """Of `strength` at most 1.5; less where anything would fold."""
        size = float(np.clip(rng.normal(1.0, SIZE), 0.78, 1.26))
        scale = size * np.clip(rng.normal(1.0, AXES, 3), 0.82, 1.18)
        turn = rotation(*np.clip(rng.normal(0.0, TURN_DEG, 3), -15, 15))
        full = turn / scale[None, :]
        matrix = np.eye(3) + min(strength, 1.0) * (full - np.eye(3))
        waves = tuple(Waves.draw(rng, n, lengths, sd * float(rng.uniform(0.25, 1.0))) for n, lengths, sd in OCTAVES)
        bumps = tuple(
            Bump(
                organ.centre,
                organ.radius_mm,
                float(np.clip(rng.normal(0, organ.growth[0]), *organ.growth[1:])),
                np.clip(rng.normal(0, ORGAN_SHIFT_MM, 3), -12, 12),
            )
            for organ in organs
        )
        warp = Warp(matrix, waves, bumps, strength)
        while warp.strength > 0.02 and warp.least_determinant() < LEAST_DETERMINANT:
            warp = replace(warp, strength=0.85 * warp.strength)
        return warp

    def __call__(self, points: Points) -> Points:
        """(..., 3) venous mm (x, y, z) -> (..., 3) mm of the map."""
        straight = points @ self.matrix.T
        shift = np.zeros(3)
        for wave in self.waves:
            shift = shift + wave(straight)
        for bump in self.bumps:
            shift = shift + bump(straight)
        return straight + self.strength * shift

    def least_determinant(self) -> float:
        """Smallest determinant of the displacement's derivative over the torso, without the linear part."""
        axes = (np.arange(-190, 191, _PROBE_MM), np.arange(-150, 151, _PROBE_MM), np.arange(-230, 231, _PROBE_MM))
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        moved = self(points @ np.linalg.inv(self.matrix).T)
        rows = np.stack([np.gradient(moved, _PROBE_MM, axis=k) for k in range(3)], axis=-1)
        return float(np.linalg.det(rows).min())
