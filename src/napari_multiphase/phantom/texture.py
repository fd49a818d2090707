"""Noise with the texture of reconstructed CT: its power rises with frequency and falls off beyond the kernel's band.

White noise of each slice is filtered to a power spectrum |f| exp(-(f / f0)^2) (filtered back-projection with a
soft-tissue kernel; Riederer et al., Phys Med Biol 1978;23:446) and mixed with its neighbours, since thick slices are
reconstructed with overlap. Every slice has its own seed, so any chunk can be made alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from napari_multiphase.volume import Grid

BAND_PER_MM = 0.22
NEIGHBOUR = 0.35


class Noise:
    """Correlated noise of one scan, unit standard deviation.

    band_per_mm : f0 of the kernel; 0.12 is soft, 0.4 sharp. neighbour : share of each neighbouring slice.
    """

    def __init__(
        self, grid: Grid, seed: np.random.SeedSequence, band_per_mm: float = BAND_PER_MM, neighbour: float = NEIGHBOUR
    ) -> None:
        self._grid, self._seed, self._neighbour = grid, seed, np.float32(neighbour)
        _, h, w = grid.shape
        fy = np.fft.fftfreq(h, grid.spacing_mm[1])[:, None]
        fx = np.fft.rfftfreq(w, grid.spacing_mm[2])[None]
        f = np.hypot(fy, fx)
        amplitude = np.sqrt((f + 0.02) * np.exp(-((f / band_per_mm) ** 2)))
        twice = np.ones(w // 2 + 1)
        twice[1 : (w + 1) // 2] = 2.0
        power = float((amplitude**2 * twice).sum() / (h * w))
        self._filter = (amplitude / np.sqrt(power * (1 + 2 * neighbour**2))).astype(np.float32)
        self._cache: dict[int, NDArray[np.float32]] = {}

    def _plane(self, z: int) -> NDArray[np.float32]:
        if z not in self._cache:
            key = (*self._seed.spawn_key, z + 1)
            child = np.random.SeedSequence(self._seed.entropy, spawn_key=key)
            _, h, w = self._grid.shape
            white = np.random.Generator(np.random.PCG64(child)).standard_normal((h, w), np.float32)
            self._cache[z] = fft.irfft2(fft.rfft2(white) * self._filter, s=(h, w))
        return self._cache[z]

    def slices(self, z0: int, z1: int) -> NDArray[np.float32]:
        """(z1 - z0, H, W) float32."""
        neighbour = self._neighbour
        out = np.stack([self._plane(z) + neighbour * (self._plane(z - 1) + self._plane(z + 1)) for z in range(z0, z1)])
        self._cache = {z: plane for z, plane in self._cache.items() if z >= z1 - 1}
        return out
