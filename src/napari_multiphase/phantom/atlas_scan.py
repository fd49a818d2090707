"""From a painted body to what a scanner shows: sampling, blur, table, noise of several kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.phantom.atlas_fields import Array
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.phantom.texture import Noise
from napari_multiphase.volume import Grid, Phase

NOISE_HU = {False: (6.0, 22.0), True: (3.0, 30.0)}
BAND_PER_MM = {False: (0.14, 0.34), True: (0.08, 0.6)}
BLUR_MM = {False: ((0.2, 0.9), (0.4, 1.6)), True: ((0.0, 1.8), (0.0, 2.6))}
"""By `AtlasSpec.wide`: standard deviation of the noise; band of the kernel; blur in plane and across slices."""


def sample_image(image: Array, index: NDArray[np.float32]) -> Array:
    """Trilinear, the border's value beyond it."""
    return np.asarray(ndimage.map_coordinates(image, index, order=1, mode="nearest", output=np.float32))


def sample_labels(labels: NDArray[np.uint8], index: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The label with the largest trilinear weight: smooth borders that lie where the image's do."""
    shape = np.array(labels.shape)
    low, rest = [], []
    for axis in range(3):
        at = np.clip(index[axis], 0, shape[axis] - 1.001)
        whole = at.astype(np.int32)
        low.append(whole)
        rest.append(at - whole)
    flat = labels.ravel()
    base = (low[0] * labels.shape[1] + low[1]) * labels.shape[2] + low[2]
    steps = [
        a * labels.shape[1] * labels.shape[2] + b * labels.shape[2] + c for a in (0, 1) for b in (0, 1) for c in (0, 1)
    ]
    out = flat[base]
    mixed = np.zeros(out.shape, bool)
    for step in steps[1:]:
        mixed |= flat[base + step] != out
    where = np.nonzero(mixed)
    corner = np.stack([flat[base[where] + step] for step in steps])
    sides = [(1 - r[where], r[where]) for r in rest]
    weight = np.stack([sides[0][a] * sides[1][b] * sides[2][c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    best, chosen = np.zeros(corner.shape[1], np.float32), corner[0].copy()
    for k in range(8):
        share = (weight * (corner == corner[k])).sum(axis=0)
        better = share > best
        best[better], chosen[better] = share[better], corner[k][better]
    out[where] = chosen
    return out


class Scanner:
    """One scanner with its kernel, dose and table, the same for both phases."""

    def __init__(self, grid: Grid, subject: Subject, spec: AtlasSpec) -> None:
        rng = subject.rng("table")
        wide = spec.wide
        self._grid, self._subject = grid, subject
        drawn = float(subject.rng("noise_hu").uniform(*NOISE_HU[wide]))
        self._noise_hu = drawn if spec.noise_hu is None else float(spec.noise_hu)
        self._band = float(rng.uniform(*BAND_PER_MM[wide]))
        self._neighbour = float(rng.uniform(0.05, 0.7))
        plane, across = (float(rng.uniform(*span)) for span in BLUR_MM[wide])
        self._blur = [across / grid.spacing_mm[0], plane / grid.spacing_mm[1], plane / grid.spacing_mm[2]]
        self._has_table = rng.random() < 0.85
        self._radius, self._shell, self._gap = rng.uniform(350, 900), rng.uniform(-150, 400), rng.uniform(-2, 9)
        self._offset = rng.uniform(-20, 20)
        self._bottom: float | None = None

    def scan(self, image: Array, phase: Phase) -> NDArray[np.int16]:
        """(D, H, W) float32 HU -> int16 HU with table, blur and noise."""
        if self._has_table:
            self._paint_table(image)
        if max(self._blur) > 0.05:
            image = ndimage.gaussian_filter(image, self._blur, mode="nearest")
        if self._noise_hu:
            noise = Noise(self._grid, self._subject.seeds(f"noise_{phase}"), self._band, self._neighbour)
            image = image + np.float32(self._noise_hu) * noise.slices(0, len(image))
        return np.rint(np.clip(image, -1024, 3071)).astype(np.int16)

    def _paint_table(self, image: Array) -> None:
        """A curved shell filled with foam, under the lowest part of the back."""
        grid = self._grid
        y = (grid.origin_mm[1] + grid.spacing_mm[1] * np.arange(grid.shape[1])).astype(np.float32)[:, None]
        x = (grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(grid.shape[2])).astype(np.float32)[None] - self._offset
        if self._bottom is None:
            rows = (image[:, :, image.shape[2] // 3 : -image.shape[2] // 3] > -400).any(axis=(0, 2))
            last = int(np.flatnonzero(rows).max()) if rows.any() else grid.shape[1] - 1
            self._bottom = float(y[last, 0]) + self._gap
        top = self._bottom - x * x / (2 * self._radius)
        depth = y - top
        air = image < -700
        shell = (((depth > 0) & (depth < 3)) | ((depth > 22) & (depth < 25))) & (np.abs(x) < 215)
        foam = (depth >= 3) & (depth <= 22) & (np.abs(x) < 215)
        image[air & foam] = -930
        image[air & shell] = self._shell
