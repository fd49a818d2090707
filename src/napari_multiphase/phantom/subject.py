"""One subject: independent random streams by purpose, build, and HU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from napari_multiphase.phantom.kinetics import Kinetics, WideKinetics
from napari_multiphase.phantom.render import Hu, Site
from napari_multiphase.phantom.shapes import Array, Box, superellipse
from napari_multiphase.volume import Phase

PURPOSES = (
    "shape",
    "motion",
    "kinetics",
    "torso",
    "spine",
    "chest",
    "liver",
    "spleen",
    "kidneys",
    "pancreas",
    "adrenals",
    "stomach",
    "bowel",
    "colon",
    "vessels",
    "pathology",
    "fields",
    "noise_hu",
    "noise_arterial",
    "noise_venous",
    "table",
    "oral",
    "mesentery",
    "atlas_build",
    "atlas_hu",
    "atlas_texture",
    "atlas_scan",
    "atlas_fluid",
    "atlas_ascites",
)
"""Each has its own stream, so that a change to one structure leaves all others as they were. Append only."""


@dataclass(frozen=True)
class Torso:
    """The cavity and the layers around it, in reference mm. Half-axes of superellipses in the axial plane."""

    side: float = 131.0
    depth: float = 84.0
    centre_y: float = -6.0
    wall_side: float = 12.0
    wall_front: float = 9.0
    fat_side: float = 18.0
    fat_front: float = 16.0
    fat_back: float = 12.0

    BACK_MUSCLE_MM = 113.0

    @staticmethod
    def girth(z: Array) -> Array:
        """Waist at L3, wider at chest and hips."""
        t = (z + 45.0) * np.float32(1 / 130.0)
        return np.float32(0.97) + np.float32(0.07) * t * t / (1 + t * t)

    def cavity(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """`superellipse` of the inner surface of ribs and abdominal wall."""
        g = self.girth(z)
        return superellipse(x, y - np.float32(self.centre_y), np.float32(self.side) * g, np.float32(self.depth) * g)

    def muscle(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the outer surface of the muscles."""
        lateral = np.minimum(np.abs(x) * np.float32(1 / 80.0), 1)
        thickness = self.wall_front + (self.wall_side - self.wall_front) * lateral
        return np.asarray(self.cavity(x, y, z)[2] - thickness, np.float32)

    def skin(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the skin."""
        front = self.centre_y - self.depth - self.wall_front - self.fat_front
        back = self.BACK_MUSCLE_MM + self.fat_back
        g = self.girth(z)
        half = np.float32(0.5 * (back - front)) * g
        centre = np.float32(back) - half
        return superellipse(x, y - centre, np.float32(self.side + self.wall_side + self.fat_side) * g, half)[2]

    def below_diaphragm(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the diaphragm, negative below it: two domes that fall to the costophrenic recess."""
        level, slope, _ = self.cavity(x, y, z)
        right, left = (x + 68) * np.float32(1 / 60.0), (x - 66) * np.float32(1 / 52.0)
        peak = 78 + 22 / (1 + right * right) ** 2 + 13 / (1 + left * left) ** 2
        edge = 55 - np.float32(72 / 168.0) * (y + 90)
        fall = level * level * np.sqrt(level)
        height = peak - (peak - edge) * fall
        steep = np.float32(2.5) * level * np.sqrt(level) * slope * (peak - edge)
        return np.asarray((z - height) / np.sqrt(1 + steep * steep), np.float32)


EVERYWHERE = Box((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))


class Subject:
    """What every builder of structures is given."""

    def __init__(self, seed: int, wide: bool = False) -> None:
        """`wide`: HU drawn anew per tissue and phase from ranges that cover both phases."""
        self._seed = seed
        rng = self.rng("torso")
        self.weight = float(np.clip(rng.normal(), -1.6, 1.8))
        fat = 1.0 + 0.5 * self.weight
        self.torso = Torso(
            side=131 + 3 * self.weight + rng.uniform(-2, 2),
            depth=84 + 5 * max(self.weight, 0) + rng.uniform(-1, 3),
            wall_side=rng.uniform(11, 14),
            wall_front=rng.uniform(8, 11),
            fat_side=float(np.clip(16 * fat, 4, 30)) + rng.uniform(0, 4),
            fat_front=float(np.clip(19 * fat, 5, 40)) + rng.uniform(0, 6),
            fat_back=float(np.clip(12 * fat, 3, 22)) + rng.uniform(0, 4),
        )
        self.kinetics = WideKinetics(self.rng("kinetics")) if wide else Kinetics(self.rng("kinetics"), self.weight)

    def seeds(self, purpose: str) -> np.random.SeedSequence:
        """The seed sequence of one purpose."""
        return np.random.SeedSequence(self._seed, spawn_key=(PURPOSES.index(purpose),))

    def rng(self, purpose: str) -> np.random.Generator:
        """The random stream of one purpose, from its start."""
        return np.random.Generator(np.random.PCG64(self.seeds(purpose)))

    def hu(self, tissue: str) -> dict[Phase, Hu]:
        """The tissue's HU in both phases."""
        return {phase: self.kinetics.hu(tissue, phase) for phase in Phase}

    def mix(self, tissues: tuple[str, ...], how: Callable[..., Array]) -> dict[Phase, Hu]:
        """A HU function per phase: ``how(site, phase, *HU of the tissues)``."""

        def bind(phase: Phase) -> Callable[[Site], Array]:
            values = [np.float32(self.kinetics.hu(name, phase)) for name in tissues]
            return lambda site: np.asarray(how(site, phase, *values), np.float32)

        return {phase: bind(phase) for phase in Phase}


def jitter(rng: np.random.Generator, sd: float, size: int | tuple[int, ...] = 3) -> np.ndarray:
    """Normal deviations that stop at two standard deviations."""
    return np.clip(rng.normal(0.0, sd, size), -2 * sd, 2 * sd)


def both(value: Hu) -> Mapping[Phase, Hu]:
    """The same HU in both phases."""
    return dict.fromkeys(Phase, value)
