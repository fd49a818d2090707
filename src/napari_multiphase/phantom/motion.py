"""Where a point of a scan lies in the reference subject: breathing between the phases, and the subject's own shape.

Both are smooth functions of position (sums of sines, rational bumps): no control-point grid, so a registration by
splines is not scored against its own model. Three frames, all LPS mm: the arterial scan, the venous scan, the
reference subject that `anatomy` describes. ``venous + motion(venous) = arterial``; ``reference = shape(venous)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

INVERSE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Waves:
    """A smooth random vector field: a sum of sines. wave: (K, 3) rad/mm; phase: (K,); amplitude: (K, C)."""

    wave: NDArray[np.float64]
    phase: NDArray[np.float64]
    amplitude: NDArray[np.float64]

    @staticmethod
    def draw(
        rng: np.random.Generator, count: int, wavelengths_mm: tuple[float, float], sd: float, channels: int = 3
    ) -> Waves:
        """`count` waves of random direction; each channel of the sum has standard deviation `sd`."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = rng.uniform(*wavelengths_mm, size=(count, 1))
        amplitude = rng.normal(size=(count, channels))
        amplitude *= sd * np.sqrt(2.0 / (amplitude**2).sum(axis=0))
        return Waves(2 * np.pi * direction / length, rng.uniform(0, 2 * np.pi, count), amplitude)

    def __call__(self, points: Points) -> Points:
        """(..., 3) mm -> (..., C)."""
        # Single precision is good to 1e-4 mm here and several times faster.
        x, y, z = (np.ascontiguousarray(points[..., k], np.float32) for k in range(3))
        amplitudes = self.amplitude.astype(np.float32)
        out = np.zeros((amplitudes.shape[1], *x.shape), np.float32)
        for (wx, wy, wz), phase, amplitude in zip(
            self.wave.astype(np.float32), self.phase.astype(np.float32), amplitudes, strict=True
        ):
            crest = np.sin(wx * x + wy * y + wz * z + phase)
            for channel, a in zip(out, amplitude, strict=True):
                channel += a * crest
        return np.moveaxis(out, 0, -1).astype(np.float64)


@dataclass(frozen=True)
class Shape:
    """A subject's size and build: scale per axis, then a smooth warp. Maps a venous point to the reference subject."""

    scale: NDArray[np.float64]
    waves: tuple[Waves, ...]

    @staticmethod
    def draw(rng: np.random.Generator) -> Shape:
        """Scale within about 8 %, waves of 130-260 mm (2.2 mm) and 45-80 mm (0.6 mm)."""
        size = np.clip(rng.normal(1.0, 0.03), 0.94, 1.06)
        scale = size * np.clip(rng.normal(1.0, 0.02, 3), 0.96, 1.04)
        return Shape(scale, (Waves.draw(rng, 10, (130, 260), 2.2), Waves.draw(rng, 14, (45, 80), 0.6)))

    def __call__(self, points: Points) -> Points:
        """(..., 3) venous mm (x, y, z) -> (..., 3) reference mm."""
        unit = points / self.scale
        return unit + sum((wave(unit) for wave in self.waves), np.zeros(3))


@dataclass(frozen=True)
class Breathing:
    """Displacement from venous to arterial scan: along the body axis, strongest at the dome, none at the spine."""

    peak_mm: float
    sign: float
    anterior: float
    waves: Waves
    norm: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator, peak_mm: float) -> Breathing:
        """A random direction, a random share forwards, and a small random component, scaled to `peak_mm`."""
        sign, anterior = float(rng.choice([-1.0, 1.0])), float(rng.uniform(0.12, 0.28))
        waves = Waves.draw(rng, 8, (90, 180), 0.05)
        field = Breathing(1.0, sign, anterior, waves)
        axes = (np.arange(-180, 181, 8.0), np.arange(-136, 137, 8.0), np.arange(-160, 161, 8.0))
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        norm = float(np.linalg.norm(field(points), axis=-1).max())
        return Breathing(peak_mm, sign, anterior, waves, norm)

    def __call__(self, points: Points) -> Points:
        """(..., 3) venous mm (x, y, z) -> (..., 3) displacement in mm."""
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        along = 1.0 / (1.0 + ((z - 80.0) / np.where(z < 80, 120.0, 90.0)) ** 2)
        inside = 1.0 / (1.0 + (x / 125.0) ** 8)
        spine = 1.0 - 1.0 / (1.0 + ((x / 42.0) ** 2 + ((y - 72.0) / 42.0) ** 2) ** 2)
        back = 1.0 / (1.0 + np.exp((y - 62.0) / 11.0))
        front = 1.0 / (1.0 + np.exp((-96.0 - y) / 9.0))
        weight = along * inside * spine * back
        out = self.waves(points) * weight[..., None]
        out[..., 2] += self.sign * weight * front
        out[..., 1] -= self.sign * self.anterior * weight * np.clip(-y / 70.0, -0.4, 1.2)
        return out * (self.peak_mm / self.norm)

    def inverse(self, arterial: Points) -> Points:
        """The venous points that move to the given arterial points, by fixed-point iteration (to 0.001 mm)."""
        venous = arterial - self(arterial)
        for _ in range(60):
            better = arterial - self(venous)
            change = float(np.abs(better - venous).max())
            venous = better
            if change < INVERSE_TOLERANCE_MM:
                return venous
        raise ArithmeticError(f"the breathing field of {self.peak_mm} mm could not be inverted")
