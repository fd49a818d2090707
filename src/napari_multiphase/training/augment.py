"""Random changes of a patch, alike for image and labels where they move voxels. Ranges are ours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def augment(hu: Tensor, channels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """hu (1, 1, D, H, W) float32 and channels (1, D, H, W) int64, both changed at random.

    Half of the patches are rotated (up to 12 degrees about each axis) and scaled (0.85 to 1.18 per axis). No mirroring:
    left and right are different organs.
    """
    if rng.random() < 0.5:
        hu, channels = _affine(hu, channels, rng)
    return _intensity(hu, rng), channels


def _affine(hu: Tensor, channels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    sides = np.array(hu.shape[:1:-1], float)  # (W, H, D): grid_sample's x, y, z
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-12, 12, 3))):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    matrix = rotation @ np.diag(np.exp(rng.uniform(-0.165, 0.165, 3)))
    matrix = matrix * sides[None, :] / sides[:, None]  # voxels, not the unit cube, are turned
    theta = torch.zeros(1, 3, 4)
    theta[0, :, :3] = torch.from_numpy(matrix)
    grid = F.affine_grid(theta, list(hu.shape), align_corners=False)
    moved = F.grid_sample(hu + 1024, grid, align_corners=False) - 1024
    labels = F.grid_sample(channels[:, None].float(), grid, mode="nearest", align_corners=False)
    return moved, labels[:, 0].round().long()


def _intensity(hu: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < 0.3:
        hu = F.avg_pool3d(hu, 3, 1, 1, count_include_pad=False) * 0.6 + hu * 0.4
    hu = hu * rng.uniform(0.9, 1.1) + rng.uniform(-20, 20)
    noise = np.abs(rng.normal(0, 10))
    return hu + noise * torch.from_numpy(rng.standard_normal(hu.shape, np.float32))
