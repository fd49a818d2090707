"""Random changes of a patch: where its voxels come from, and what their HU become.

The geometry is drawn before anything is read, so that `sampling` can cut all that a turned patch needs: nothing is
smeared at its border. No mirroring: left and right are different organs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_multiphase.config import AugmentConfig

Vox = tuple[int, int, int]
PLANAR = 3
"""Patches of at most so many slices are changed in plane only."""


@dataclass(frozen=True)
class Move:
    """Output voxel o of a patch is read at ``centre + shift_vox + matrix @ (o - (patch - 1) / 2)``, all (z, y, x).

    Attributes
    ----------
    matrix : 3 x 3, voxels to voxels.
    shift_vox : (3,).
    """

    matrix: NDArray[np.float64]
    shift_vox: NDArray[np.float64]

    def reach(self, start: NDArray[np.int_], patch_vox: Vox) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """First and one-past-last voxel that the patch beginning at `start` reads from."""
        half = (np.array(patch_vox) - 1) / 2
        corners = np.array(list(itertools.product(*((-h, h) for h in half)))) @ self.matrix.T
        centre = start + half + self.shift_vox
        low, high = corners.min(0) + centre, corners.max(0) + centre
        return np.floor(low + 1e-6).astype(int), np.ceil(high - 1e-6).astype(int) + 1

    def grid(self, start: NDArray[np.int_], patch_vox: Vox, first: NDArray[np.int_], cut_vox: Vox) -> Tensor:
        """(1, D, H, W, 3) for ``grid_sample`` (x, y, z; corners aligned) over a cut of `cut_vox` from `first` on."""
        half = (np.array(patch_vox) - 1) / 2
        scale = 2 / np.maximum(np.array(cut_vox) - 1, 1)
        matrix = torch.from_numpy((scale[:, None] * self.matrix).astype(np.float32))
        offset = torch.from_numpy((scale * (start + half + self.shift_vox - first) - 1).astype(np.float32))
        z, y, x = (torch.arange(n, dtype=torch.float32) - h for n, h in zip(patch_vox, half.tolist(), strict=True))
        rows = [
            offset[i] + matrix[i, 0] * z[:, None, None] + matrix[i, 1] * y[:, None] + matrix[i, 2] * x for i in range(3)
        ]
        return torch.stack(rows[::-1], dim=-1)[None]


def draw_move(
    config: AugmentConfig, patch_vox: Vox, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> Move | None:
    """A rotation (in mm, so that anatomy is turned and not sheared), scaling and shift; None for a patch left alone."""
    if rng.random() >= config.share:
        return None
    planar = patch_vox[0] <= PLANAR
    lowest = 0.0 if config.one_sided else -1.0
    angles = np.deg2rad(rng.uniform(lowest, 1.0, 3) * config.rotate_deg)
    factors, shift = _factors(config, rng), rng.uniform(-1, 1, 3) * config.shift_vox
    if planar:
        angles[1:], factors[0], shift[0] = 0.0, 1.0, 0.0
    spacing = np.array(spacing_mm)
    turn_mm = _rotation(angles) / factors[None, :]
    return Move(turn_mm * spacing[None, :] / spacing[:, None], shift)


def _factors(config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """How much larger things become along z, y, x."""
    count = 1 if config.isotropic else 3
    if config.scales:
        return np.repeat(rng.choice(np.array(config.scales, float)), 3)
    smallest, largest = (float(np.log(s)) for s in config.scale)
    return np.repeat(np.exp(rng.uniform(smallest, largest, count)), 3 // count)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """About the z, y and x axis in turn, on (z, y, x)."""
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    return rotation


def moved(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """(D, H, W) float32 read at `grid`; mode "bilinear" or "nearest"."""
    return F.grid_sample(values[None, None], grid, mode=mode, padding_mode="border", align_corners=True)[0, 0]


def change_hu(hu: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """(D, H, W) float32 HU, blurred, scaled, shifted and made noisy at random."""
    if rng.random() < config.blur_share:
        flat = hu.shape[0] <= PLANAR
        kernel, pad = ((1, 3, 3), (0, 1, 1)) if flat else ((3, 3, 3), (1, 1, 1))
        hu = F.avg_pool3d(hu[None], kernel, 1, pad, count_include_pad=False)[0] * 0.6 + hu * 0.4
    gain, offset = 1 + config.gain * rng.uniform(-1, 1), config.offset_hu * rng.uniform(-1, 1)
    if config.gain or config.offset_hu:
        hu = hu * gain + offset
    noise = abs(rng.normal(0, 1)) * config.noise_hu
    return hu + noise * torch.from_numpy(rng.standard_normal(tuple(hu.shape), np.float32)) if noise else hu
