"""Both scans at one resolution, as a registration sees them: tensors on the venous body's box, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.imaging.resample import resample
from napari_multiphase.registration import velocity
from napari_multiphase.volume import Grid, Volume

MARGIN_MM = 16.0
"""Air kept around the body."""
FLIP = np.eye(4)[[2, 1, 0, 3]]
"""Turns (x, y, z, 1) into (z, y, x, 1) and back."""


@dataclass(frozen=True)
class Level:
    """The pair at one resolution.

    Attributes
    ----------
    fixed : (D, H, W) float32 HU on `grid`; `weight` (D, H, W) is 1 in the body and 0 elsewhere.
    moving : (d, h, w) float32 HU on `moving_grid`.
    turn, shift : a point of `grid` in mm from its first voxel (z, y, x) lies at ``turn @ point + shift`` of
        `moving_grid`, before any deformation.
    """

    grid: Grid
    moving_grid: Grid
    fixed: Tensor
    weight: Tensor
    moving: Tensor
    turn: Tensor
    shift: Tensor

    @staticmethod
    def of(venous: Volume, arterial: Volume, start: NDArray[np.floating[Any]], spacing_mm: float, device: str) -> Level:
        """Both scans averaged to `spacing_mm`, each cut to its body; `start` is 4 x 4, venous -> arterial LPS mm."""
        (grid, body), (moving_grid, _) = (_body_grid(volume, spacing_mm) for volume in (venous, arterial))
        weight = torch.from_numpy(body.on(grid)).to(device, torch.float32)
        turn, shift = _between(grid, moving_grid, start)
        fixed, moving = _on(venous, grid, device), _on(arterial, moving_grid, device)
        return Level(grid, moving_grid, fixed, weight, moving, turn.to(device), shift.to(device))

    def coarser(self, spacing_mm: float) -> Level:
        """The same pair at a larger spacing; the grids' first points stay."""
        factors = [max(1.0, spacing_mm / s) for s in self.grid.spacing_mm]
        sigma = [0.45 * (f**2 - 1.0) ** 0.5 for f in factors]
        grid, moving_grid = _spaced(self.grid, spacing_mm), _spaced(self.moving_grid, spacing_mm)
        fixed, weight, moving = (
            velocity.resize(velocity.smooth(image[None], sigma), old.spacing_mm, new.shape, new.spacing_mm)[0]
            for image, old, new in (
                (self.fixed, self.grid, grid),
                (self.weight, self.grid, grid),
                (self.moving, self.moving_grid, moving_grid),
            )
        )
        return Level(grid, moving_grid, fixed, (weight > 0.5).float(), moving, self.turn, self.shift)

    def warped(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """The moving scan (D, H, W) seen through `displacement` (3, D, H, W), and 1 where it reaches, 0 beyond."""
        points = velocity.lattice(displacement, self.grid.spacing_mm) + displacement
        points = torch.einsum("ij,jdhw->idhw", self.turn, points) + self.shift[:, None, None, None]
        inside = torch.ones_like(self.weight)
        for axis, (count, spacing) in enumerate(zip(self.moving_grid.shape, self.moving_grid.spacing_mm, strict=True)):
            inside *= (points[axis] >= -spacing) & (points[axis] <= count * spacing)
        return velocity.sample(self.moving[None], points, self.moving_grid.spacing_mm)[0], inside


def _body_grid(volume: Volume, spacing_mm: float) -> tuple[Grid, Body]:
    """The box of a scan's body with its margin, at `spacing_mm` or the scan's own where that is coarser; the body."""
    found = find_body(volume.data, volume.grid)
    if not found.found:
        raise UserError(f"{volume.source.path} cannot be registered: no body is seen in it")
    coarse = _spaced(volume.grid, 4.0)
    body = found.on(coarse)
    low, high = [], []
    for axis in range(3):
        where = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = volume.grid.origin_mm[axis], volume.grid.origin_mm[axis] + volume.grid.extent_mm[axis]
        at = [coarse.origin_mm[axis] + coarse.spacing_mm[axis] * float(where[end]) for end in (0, -1)]
        low.append(max(first, at[0] - MARGIN_MM))
        high.append(min(last - volume.grid.spacing_mm[axis], at[1] + MARGIN_MM))
    spacing = [max(spacing_mm, s) for s in volume.spacing_mm]
    d, h, w = (max(8, round((b - a) / s) + 1) for a, b, s in zip(low, high, spacing, strict=True))
    return Grid((d, h, w), (spacing[0], spacing[1], spacing[2]), (low[0], low[1], low[2])), found


def _spaced(grid: Grid, spacing_mm: float) -> Grid:
    """`grid` with another spacing (never a finer one) and the same first point, reaching at least as far."""
    sz, sy, sx = (max(spacing_mm, s) for s in grid.spacing_mm)
    d, h, w = (
        max(4, int(np.ceil((n - 1) * s / t)) + 1)
        for n, s, t in zip(grid.shape, grid.spacing_mm, (sz, sy, sx), strict=True)
    )
    return Grid((d, h, w), (sz, sy, sx), grid.origin_mm)


def _on(volume: Volume, grid: Grid, device: str) -> Tensor:
    data = resample(volume.data, volume.grid, grid).astype(np.float32)
    return torch.from_numpy(np.nan_to_num(data, nan=-1024.0, posinf=3071.0, neginf=-1024.0)).to(device)


def _between(grid: Grid, moving_grid: Grid, start: NDArray[np.floating[Any]]) -> tuple[Tensor, Tensor]:
    matrix = FLIP @ np.asarray(start, float) @ FLIP  # (z, y, x) -> (z, y, x), LPS mm
    turn = matrix[:3, :3]
    shift = turn @ np.array(grid.origin_mm) + matrix[:3, 3] - np.array(moving_grid.origin_mm)
    return torch.from_numpy(turn).float(), torch.from_numpy(shift).float()
