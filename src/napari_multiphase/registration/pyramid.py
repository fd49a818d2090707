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
BEYOND_MM = 24.0
"""Space added where a scan ends in the body: points that leave the scan still have a way, and a way back."""
Pads = list[tuple[int, int]]
"""Voxels before and after, per axis."""
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
    reach_mm : where the moving scan begins and ends, in mm from `moving_grid`'s first voxel (z, y, x). Both grids go
        `BEYOND_MM` further where their scan cuts through the body; the edge values stand there.
    """

    grid: Grid
    moving_grid: Grid
    fixed: Tensor
    weight: Tensor
    moving: Tensor
    turn: Tensor
    shift: Tensor
    reach_mm: tuple[tuple[float, float], ...]

    @staticmethod
    def of(venous: Volume, arterial: Volume, start: NDArray[np.floating[Any]], spacing_mm: float, device: str) -> Level:
        """Both scans averaged to `spacing_mm`, each cut to its body; `start` is 4 x 4, venous -> arterial LPS mm."""
        (inner, more, body), (moving_inner, moving_more, _) = (_body_grid(v, spacing_mm) for v in (venous, arterial))
        grid, moving_grid = _wider(inner, more), _wider(moving_inner, moving_more)
        weight = torch.from_numpy(np.pad(body.on(inner), more)).to(device, torch.float32)
        turn, shift = _between(grid, moving_grid, start)
        fixed, moving = _on(venous, inner, more, device), _on(arterial, moving_inner, moving_more, device)
        spans = zip(moving_more, moving_grid.shape, moving_grid.spacing_mm, strict=True)
        reach = tuple(((before - 1) * s, (n - after) * s) for (before, after), n, s in spans)
        return Level(grid, moving_grid, fixed, weight, moving, turn.to(device), shift.to(device), reach)

    def coarser(self, spacing_mm: float) -> Level:
        """The same pair at a larger spacing; the grids' first points stay."""
        grid, moving_grid = spaced(self.grid, spacing_mm), spaced(self.moving_grid, spacing_mm)
        fixed, weight, moving = (
            velocity.coarsen(image[None], old.spacing_mm, new.shape, new.spacing_mm)[0]
            for image, old, new in (
                (self.fixed, self.grid, grid),
                (self.weight, self.grid, grid),
                (self.moving, self.moving_grid, moving_grid),
            )
        )
        return Level(grid, moving_grid, fixed, (weight > 0.5).float(), moving, self.turn, self.shift, self.reach_mm)

    def warped(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """The moving scan (D, H, W) seen through `displacement` (3, D, H, W), and 1 where it reaches, 0 beyond."""
        points = velocity.lattice(displacement, self.grid.spacing_mm) + displacement
        points = torch.einsum("ij,jdhw->idhw", self.turn, points) + self.shift[:, None, None, None]
        inside = torch.ones_like(self.weight)
        for axis, (first, last) in enumerate(self.reach_mm):
            inside *= (points[axis] >= first) & (points[axis] <= last)
        return velocity.sample(self.moving[None], points, self.moving_grid.spacing_mm)[0], inside


def _body_grid(volume: Volume, spacing_mm: float) -> tuple[Grid, Pads, Body]:
    """The box of a scan's body with its margin, at `spacing_mm` or the scan's own where that is coarser.

    Also how many voxels it lacks on either side of each axis where the scan ends in the body; and the body.
    """
    found = find_body(volume.data, volume.grid)
    if not found.found:
        raise UserError(f"{volume.source.path} cannot be registered: no body is seen in it")
    coarse = spaced(volume.grid, 4.0)
    body = found.on(coarse)
    spacing = [max(spacing_mm, s) for s in volume.spacing_mm]
    low, shape, more = [], [], []
    for axis in range(3):
        where = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis)))
        first = volume.grid.origin_mm[axis]
        last = first + volume.grid.extent_mm[axis] - volume.grid.spacing_mm[axis]
        at = [coarse.origin_mm[axis] + coarse.spacing_mm[axis] * float(where[end]) for end in (0, -1)]
        cut = (at[0] - MARGIN_MM < first, at[1] + MARGIN_MM > last)
        low.append(max(first, at[0] - MARGIN_MM))
        shape.append(max(8, round((min(last, at[1] + MARGIN_MM) - low[-1]) / spacing[axis]) + 1))
        lacking = int(np.ceil(BEYOND_MM / spacing[axis]))
        more.append((lacking * cut[0], lacking * cut[1]))
    grid = Grid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), (low[0], low[1], low[2]))
    return grid, more, found


def _wider(grid: Grid, more: Pads) -> Grid:
    """`grid` with so many voxels more on either side of each axis."""
    d, h, w = (n + before + after for n, (before, after) in zip(grid.shape, more, strict=True))
    z, y, x = (o - before * s for o, (before, _), s in zip(grid.origin_mm, more, grid.spacing_mm, strict=True))
    return Grid((d, h, w), grid.spacing_mm, (z, y, x))


def spaced(grid: Grid, spacing_mm: float) -> Grid:
    """`grid` with another spacing (never a finer one) and the same first point, reaching at least as far."""
    sz, sy, sx = (max(spacing_mm, s) for s in grid.spacing_mm)
    d, h, w = (
        max(4, int(np.ceil((n - 1) * s / t)) + 1)
        for n, s, t in zip(grid.shape, grid.spacing_mm, (sz, sy, sx), strict=True)
    )
    return Grid((d, h, w), (sz, sy, sx), grid.origin_mm)


def _on(volume: Volume, grid: Grid, more: Pads, device: str) -> Tensor:
    data = np.pad(resample(volume.data, volume.grid, grid), more, mode="edge").astype(np.float32)
    return torch.from_numpy(np.nan_to_num(data, nan=-1024.0, posinf=3071.0, neginf=-1024.0)).to(device)


def _between(grid: Grid, moving_grid: Grid, start: NDArray[np.floating[Any]]) -> tuple[Tensor, Tensor]:
    matrix = FLIP @ np.asarray(start, float) @ FLIP  # (z, y, x) -> (z, y, x), LPS mm
    turn = matrix[:3, :3]
    shift = turn @ np.array(grid.origin_mm) + matrix[:3, 3] - np.array(moving_grid.origin_mm)
    return torch.from_numpy(turn).float(), torch.from_numpy(shift).float()
