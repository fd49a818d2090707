"""Stationary velocity fields and the diffeomorphisms they generate, in torch on any device.

A field is a tensor (3, D, H, W) in mm, its first axis in the order of the array's axes (z, y, x); it displaces the
points of a regular lattice of `spacing_mm` (z, y, x). Beyond the lattice it continues with its edge values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_STEP_VOX = 0.25
"""Scaling and squaring starts from a displacement no longer than this."""


def exp(velocity: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """The displacement (3, D, H, W) in mm of exp(velocity), by scaling and squaring (Arsigny et al., MICCAI 2006)."""
    longest = float((velocity.flatten(1).abs().amax(dim=1) / velocity.new_tensor(spacing_mm)).max())
    squarings = max(0, math.ceil(math.log2(max(longest, 1e-9) / LARGEST_STEP_VOX)))
    out = velocity / 2**squarings
    for _ in range(squarings):
        out = compose(out, out, spacing_mm)
    return out


def compose(outer: Tensor, inner: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """The displacement of (id + outer) o (id + inner)."""
    return inner + warp(outer, inner, spacing_mm)


def warp(image: Tensor, displacement: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """`image` (C, D, H, W) at the displaced points, trilinear, edge values beyond its lattice."""
    return sample(image, lattice(displacement, spacing_mm) + displacement, spacing_mm)


def sample(image: Tensor, points: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """`image` (C, d, h, w) at `points` (3, D, H, W), in mm from its first voxel's centre (z, y, x)."""
    size = points.new_tensor([max(n - 1, 1) for n in image.shape[1:]])
    scale = 2.0 / (size * points.new_tensor(spacing_mm))
    at = (points * scale[:, None, None, None] - 1.0).flip(0).permute(1, 2, 3, 0)[None]
    out = functional.grid_sample(image[None], at, mode="bilinear", padding_mode="border", align_corners=True)
    return out[0]


def lattice(like: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """(3, D, H, W): where the lattice's own points lie, in mm from its first (z, y, x)."""
    sizes = zip(like.shape[1:], spacing_mm, strict=True)
    axes = [spacing * torch.arange(n, dtype=like.dtype, device=like.device) for n, spacing in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def gradient(image: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """(C, 3, D, H, W): central differences of `image` (C, D, H, W) per mm, zero slope beyond the ends."""
    parts = []
    for axis, spacing in enumerate(spacing_mm, start=1):
        ahead = torch.cat([image.narrow(axis, 1, image.shape[axis] - 1), image.narrow(axis, -1, 1)], axis)
        behind = torch.cat([image.narrow(axis, 0, 1), image.narrow(axis, 0, image.shape[axis] - 1)], axis)
        parts.append((ahead - behind) / (2.0 * spacing))
    return torch.stack(parts, dim=1)


def smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """`image` (C, D, H, W) convolved with a Gaussian; `sigma_vox` (z, y, x) may differ per axis, 0 leaves one alone."""
    for axis, sigma in enumerate(sigma_vox):
        if sigma > 0:
            image = _along(image, axis, _gaussian(image.shape[axis + 1], sigma, image))
    return image


def resize(field: Tensor, spacing_mm: Sequence[float], shape: Sequence[int], target_mm: Sequence[float]) -> Tensor:
    """`field` (C, d, h, w) on a lattice of other `shape` and spacing that has the same first point."""
    for axis in range(3):
        field = _along(
            field, axis, _linear(field.shape[axis + 1], shape[axis], target_mm[axis] / spacing_mm[axis], field)
        )
    return field


def coarsen(field: Tensor, spacing_mm: Sequence[float], shape: Sequence[int], target_mm: Sequence[float]) -> Tensor:
    """`resize` to a coarser lattice, after a Gaussian that averages over its voxels."""
    for axis in range(3):
        count, factor = field.shape[axis + 1], target_mm[axis] / spacing_mm[axis]
        rows = _linear(count, shape[axis], factor, field)
        if factor > 1.0:
            rows = rows @ _gaussian(count, 0.45 * (factor**2 - 1.0) ** 0.5, field)
        field = _along(field, axis, rows)
    return field


def _along(image: Tensor, axis: int, rows: Tensor) -> Tensor:
    """`image` (C, D, H, W) with the matrix `rows` (m, n) applied along one of its three axes of n points."""
    rule = ("md,cdhw->cmhw", "mh,cdhw->cdmw", "mw,cdhw->cdhm")[axis]
    return torch.einsum(rule, rows, image).contiguous()


def _gaussian(count: int, sigma: float, like: Tensor) -> Tensor:
    """(count, count): convolution with a Gaussian, edge values beyond the ends. Faster than conv3d."""
    reach = min(max(1, math.ceil(3 * sigma)), 4 * count)
    steps = torch.arange(-reach, reach + 1, device=like.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2).to(like.dtype)
    at = (torch.arange(count, device=like.device)[:, None] + steps).clamp(0, count - 1)
    rows = like.new_zeros((count, count))
    return rows.scatter_add_(1, at, (kernel / kernel.sum()).expand(count, -1).contiguous())


def _linear(count: int, target: int, step: float, like: Tensor) -> Tensor:
    """(target, count): linear interpolation at 0, `step`, 2 `step`, ... voxels, edge values beyond the end."""
    at = (torch.arange(target, dtype=like.dtype, device=like.device) * step).clamp_max(count - 1)
    return (1.0 - (at[:, None] - torch.arange(count, device=like.device)).abs()).clamp_min(0.0)
