"""Diffeomorphic demons with direction-dependent smoothing, the registration of HPN (PAPER 001).

Zhou et al., "Hyper-Pairing Network for Multi-Phase Pancreatic Ductal Adenocarcinoma Segmentation", MICCAI 2019, name
"a variant of diffeomorphic demons with direction-dependent regularizations" and give no more; what is here:

* force u = (f - m o phi) grad f / (|grad f|^2 + (f - m o phi)^2 / kappa^2), so |u| <= kappa / 2; over several channels
  numerators and denominators are summed. The sign is that of phi <- phi o exp(u).
* log domain: u is smoothed by a Gaussian ("fluid"), added to the stationary velocity v, and phi = exp(v) by scaling
  and squaring (Vercauteren et al., MICCAI 2008; first order of the Baker-Campbell-Hausdorff series).
* v is smoothed by a Gaussian whose sigma may differ per axis, and, where a label map is given, diffuses along organ
  surfaces but hardly across them: neighbours that slide on each other do not drag each other.

Deviation, because phases differ in intensity: f and m are MIND-SSC descriptors unless HU is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_multiphase.registration import velocity
from napari_multiphase.registration.descriptors import describe
from napari_multiphase.registration.pyramid import Level

OnStep = Callable[[int, int], None]
SURFACE_MM = 4.0
"""Gaussian by which masks are smoothed before their normals are taken."""
ACROSS = 0.1
"""Diffusion across an organ's surface, as a share of that along it."""

FLAT = 1e-6
"""Features that change less than this per mm, squared, push nothing: only rounding is left there."""


@dataclass(frozen=True)
class Demons:
    """Settings; the paper states none of them.

    Attributes
    ----------
    spacings_mm, steps : resolution and number of steps of each level, coarse to fine.
    features : "mind" (12 channels) or "hu", for scans of one contrast.
    kappa_mm : twice the longest step of a point, in mm, at most the level's spacing.
    fluid_vox : sigma of the update's smoothing, in voxels of the level.
    diffusion_vox : sigma (z, y, x) of the velocity's smoothing, in voxels of the level.
    """

    spacings_mm: tuple[float, ...] = (12.0, 8.0, 5.0, 3.5)
    steps: tuple[int, ...] = (40, 30, 20, 10)
    features: Literal["mind", "hu"] = "mind"
    kappa_mm: float = 6.0
    fluid_vox: float = 1.0
    diffusion_vox: tuple[float, float, float] = (0.7, 0.7, 0.7)

    def run(self, levels: Sequence[Level], on_step: OnStep, organs: Tensor | None = None) -> Tensor:
        """The velocity (3, D, H, W) in mm on the last of `levels` (coarse to fine).

        `organs` : label map (D, H, W) on the last level, or None; labels above 0 have surfaces.
        """
        v = levels[0].fixed.new_zeros((3, *levels[0].grid.shape))
        for number, level in enumerate(levels):
            spacing = level.grid.spacing_mm
            if number:
                v = velocity.resize(v, levels[number - 1].grid.spacing_mm, level.grid.shape, spacing)
            normals = None if organs is None else surface_normals(_nearest(organs, levels[-1], level), spacing)
            fixed = self._features(level.fixed)
            slope = velocity.gradient(fixed, spacing)
            for step in range(self.steps[number]):
                on_step(number, step)
                image, inside = level.warped(velocity.exp(v, spacing))
                u = force(fixed, self._features(image), slope, min(self.kappa_mm, *spacing))
                u = velocity.smooth(u * (level.weight * inside), (self.fluid_vox,) * 3)
                v = self._regular(v + u, normals, spacing)
        return v

    def _features(self, image: Tensor) -> Tensor:
        return describe(image) if self.features == "mind" else image[None]

    def _regular(self, v: Tensor, normals: Tensor | None, spacing: Sequence[float]) -> Tensor:
        if normals is None:
            return velocity.smooth(v, self.diffusion_vox)
        return diffuse_along(v, normals, [s * g for s, g in zip(self.diffusion_vox, spacing, strict=True)], spacing)


def force(fixed: Tensor, moving: Tensor, slope: Tensor, kappa_mm: float) -> Tensor:
    """The demons' update (3, D, H, W) in mm: features (C, D, H, W), `slope` (C, 3, D, H, W) of `fixed` per mm."""
    rest = fixed - moving
    below = (slope**2).sum(dim=(0, 1)) + (rest**2).sum(dim=0) / kappa_mm**2
    return (slope * rest[:, None]).sum(dim=0) / below.clamp_min(FLAT)


def surface_normals(organs: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """(3, D, H, W): normals of the organs' surfaces, of length 1 on a flat one and fading to 0 within a few mm.

    `organs` (D, H, W) holds labels; where surfaces of several meet, the clearest decides.
    """
    best = torch.zeros((3, *organs.shape), device=organs.device)
    sigma = [SURFACE_MM / s for s in spacing_mm]
    for label in torch.unique(organs).tolist():
        if label <= 0:
            continue
        soft = velocity.smooth((organs == label).float()[None], sigma)
        normal = velocity.gradient(soft, spacing_mm)[0] * (SURFACE_MM * math.sqrt(2 * math.pi))
        clearer = normal.norm(dim=0) > best.norm(dim=0)
        best = torch.where(clearer, normal, best)
    return best / best.norm(dim=0).clamp_min(1.0)


def diffuse_along(v: Tensor, normals: Tensor, sigma_mm: Sequence[float], spacing_mm: Sequence[float]) -> Tensor:
    """`v` (3, D, H, W) after diffusion to `sigma_mm` (z, y, x), held back across surfaces by their `normals`.

    Explicit steps of dv/dt = div(S (I - (1 - ACROSS) n n^T) S grad v), S = diag(sigma): away from surfaces what a
    Gaussian of these sigmas does. The discrete operator is symmetric, so the mean of v is kept.
    """
    rate = sum((g / s) ** 2 for g, s in zip(sigma_mm, spacing_mm, strict=True))
    rounds = max(1, math.ceil(2.0 * rate))
    for _ in range(rounds):
        slope = [_ahead(v, axis) * (sigma_mm[axis] / spacing_mm[axis]) for axis in range(3)]
        across = (1.0 - ACROSS) * sum(normals[axis] * slope[axis] for axis in range(3))
        change = torch.zeros_like(v)
        for axis in range(3):
            flux = (slope[axis] - normals[axis] * across) * (sigma_mm[axis] / spacing_mm[axis])
            change += _behind(flux, axis)
        v = v + change / (2.0 * rounds)
    return v


def _ahead(v: Tensor, axis: int) -> Tensor:
    """Difference to the next voxel along `axis`, 0 at the last."""
    out = torch.zeros_like(v)
    out.narrow(axis + 1, 0, v.shape[axis + 1] - 1).copy_(v.diff(dim=axis + 1))
    return out


def _behind(flux: Tensor, axis: int) -> Tensor:
    """What flows into a voxel: minus the adjoint of `_ahead`, whose last value is 0."""
    count = flux.shape[axis + 1]
    inner = flux.narrow(axis + 1, 0, count - 1)
    out = torch.zeros_like(flux)
    out.narrow(axis + 1, 0, count - 1).add_(inner)
    out.narrow(axis + 1, 1, count - 1).sub_(inner)
    return out


def _nearest(organs: Tensor, from_level: Level, to_level: Level) -> Tensor:
    """The label map of one level seen on another; both begin at the same point."""
    index = []
    for axis in range(3):
        at = torch.arange(to_level.grid.shape[axis], device=organs.device) * to_level.grid.spacing_mm[axis]
        whole = torch.round(at / from_level.grid.spacing_mm[axis]).long()
        index.append(whole.clamp_max(organs.shape[axis] - 1))
    return organs[index[0]][:, index[1]][:, :, index[2]]
