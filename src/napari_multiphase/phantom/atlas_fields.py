"""Smooth random fields over a body model: a tile that repeats, seen from random places and directions."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
TURNS = tuple(itertools.permutations(range(3)))


class Fields:
    """Fields of standard deviation 1 on a grid of `step_mm`."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], step_mm: float) -> None:
        self._rng, self._shape, self._step = rng, shape, step_mm
        self._tiles: dict[float, Array] = {}

    def __call__(self, sigma_mm: float) -> Array:
        """A new field, smooth over `sigma_mm`, clipped to 2.6 standard deviations."""
        tile = self._tile(sigma_mm)
        start = self._rng.integers(0, len(tile), 3)
        turned = tile.transpose(TURNS[int(self._rng.integers(len(TURNS)))])
        index = [np.mod(np.arange(n) + s, len(tile)) for n, s in zip(self._shape, start, strict=True)]
        return np.asarray(turned[np.ix_(*index)])

    def _tile(self, sigma_mm: float) -> Array:
        if sigma_mm not in self._tiles:
            count = 96 if sigma_mm > 8 else 64
            white = self._rng.standard_normal((count, count, count), np.float32)
            smooth = ndimage.gaussian_filter(white, sigma_mm / self._step, mode="wrap", truncate=3.0)
            self._tiles[sigma_mm] = np.clip(smooth / smooth.std(), -2.6, 2.6)
        return self._tiles[sigma_mm]

    def network(self, sigma_mm: float) -> Array:
        """Distance in mm, roughly, to a network of curves: where two fields are zero at once."""
        a, b = self(sigma_mm), self(sigma_mm)
        return np.asarray(np.sqrt(a * a + b * b) * np.float32(sigma_mm))
