"""Deformable registration of the arterial scan to the venous one, robust to contrast, after a rigid start.

Both scans are averaged to a few mm and described by self-similarity, which contrast medium hardly changes; a stationary
velocity on the venous body's box is found from coarse to fine, and its exponential, with that of its negative, gives
the map and its inverse without folds. Runs in torch on a CPU or a CUDA device, so the window's process must not import
this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.field import DenseField, map_points
from napari_multiphase.imaging.resample import resample
from napari_multiphase.registration import velocity
from napari_multiphase.registration.demons import Demons
from napari_multiphase.registration.descriptors import describe
from napari_multiphase.registration.field_quality import inverse_error_mm, jacobian
from napari_multiphase.registration.gauss_newton import GaussNewton
from napari_multiphase.registration.pyramid import Level
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Grid, Volume

Method = GaussNewton | Demons
METHODS: Mapping[str, Callable[[], Method]] = {"mind": GaussNewton, "demons": Demons}
"""Names that a user may give, and their settings: "mind" is the default, "demons" the registration of HPN."""
CHECKED_POINTS = 50_000
WORTH = 1e-6
"""Descriptors must come closer by this (mean square) for a deformation to be kept; two phases differ by about 0.02."""


def register_deformable(
    venous: Volume,
    arterial: Volume,
    start_mm: NDArray[np.floating[Any]],
    *,
    method: str | Method = "mind",
    organs: NDArray[np.integer[Any]] | None = None,
    device: str = "auto",
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> PhaseTransform:
    """The dense map from venous to arterial points (LPS mm) that aligns two CT volumes in HU, with its inverse.

    Its `quality` holds "folded_share" and "jacobian_min" (in the body), "inverse_mean_mm" and "inverse_max_mm" (there
    and back), "moved_mean_mm" and "moved_max_mm" beyond the start, "difference_before" and "difference_after" (mean
    squared difference of the descriptors) and "sentence". Where deforming did not make the scans more alike, the start
    alone comes back, its method "rigid".

    Parameters
    ----------
    start_mm : 4 x 4, venous point -> arterial point in LPS mm: where to begin, usually `register_rigid`'s.
    method : a name of `METHODS`, or settings.
    organs : labels (D, H, W) on the venous grid, whose surfaces "demons" does not smooth across.
    device : "auto" is CUDA where there is one; what is neither that nor "cuda" is the CPU.

    Raises
    ------
    UserError : an unknown method, no such device, one of the scans shows no body, or they do not overlap.
    Cancelled : `cancel` was set.
    """
    name, settings = _settings(method)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is here to register on: choose the device auto or cpu")
    where = "cuda" if device in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    start = np.asarray(start_mm, float)
    on_event(Event("progress", "deforming, preparing", 0.0))

    def on_step(number: int, step: int) -> None:
        if cancel is not None:
            cancel.check()
        share = _share(settings, levels, number, step)
        on_event(Event("progress", f"deforming, level {number + 1} of {len(levels)}", 0.05 + 0.85 * share))

    with torch.inference_mode():
        levels = _levels(venous, arterial, start, settings.spacings_mm, where)
        fine = levels[-1]
        if not float((fine.weight * fine.warped(torch.zeros((3, *fine.grid.shape), device=where))[1]).sum()) > 100:
            raise UserError("the two scans cannot be registered: no part of the body is in both")
        if isinstance(settings, Demons):
            v = settings.run(levels, on_step, _organs_on(organs, venous.grid, fine))
        else:
            v = settings.run(levels, on_step)
        if cancel is not None:
            cancel.check()
        on_event(Event("progress", "deforming, measuring the fit", 0.92))
        result = _result(fine, v, start, name, (venous.grid, arterial.grid))
    on_event(Event("progress", "registered", 1.0))
    return result


def _settings(method: str | Method) -> tuple[str, Method]:
    if not isinstance(method, str):
        return ("demons" if isinstance(method, Demons) else "mind"), method
    if method not in METHODS:
        raise UserError(f"there is no deformable registration {method!r}: choose one of {', '.join(METHODS)}")
    return method, METHODS[method]()


def _levels(
    venous: Volume, arterial: Volume, start: NDArray[np.float64], spacings_mm: tuple[float, ...], device: str
) -> list[Level]:
    fine = Level.of(venous, arterial, start, spacings_mm[-1], device)
    return [*(fine.coarser(spacing) for spacing in spacings_mm[:-1]), fine]


def _share(settings: Method, levels: list[Level], number: int, step: int) -> float:
    """Share of the work that lies before a step; a step costs its level's number of voxels."""
    costs = [level.fixed.numel() for level in levels]
    work = [count * cost for count, cost in zip(settings.steps, costs, strict=True)]
    return (sum(work[:number]) + step * costs[number]) / sum(work)


def _organs_on(organs: NDArray[np.integer[Any]] | None, grid: Grid, level: Level) -> Tensor | None:
    if organs is None:
        return None
    return torch.from_numpy(resample(organs, grid, level.grid, order=0).astype(np.int64)).to(level.fixed.device)


def _result(level: Level, v: Tensor, start: NDArray[np.float64], name: str, grids: tuple[Grid, Grid]) -> PhaseTransform:
    """Both maps with their figures, or the start alone where deforming made nothing more alike."""
    spacing = level.grid.spacing_mm
    forward, still = velocity.exp(v, spacing), torch.zeros_like(v)
    before, after = _difference(level, still), _difference(level, forward)
    quality: dict[str, Any] = {"difference_before": round(before, 5), "difference_after": round(after, 5)}
    if after >= before - WORTH:
        sentence = "Rigid only: deforming the arterial scan made it no more like the venous one."
        return PhaseTransform(start, "rigid", quality | {"sentence": sentence})
    inner = _as_field(forward, level.grid)
    there = _field(inner, _covering(grids[0], spacing), np.eye(4), start)
    inverse = _as_field(velocity.exp(-v, spacing), level.grid)
    back = _field(inverse, _covering(grids[1], spacing), np.asarray(np.linalg.inv(start), float), np.eye(4))
    body = level.weight.cpu().numpy() > 0
    moved = forward.norm(dim=0).cpu().numpy()[body]
    determinants = jacobian(inner)[body]
    points = _points_mm(level.grid, body)
    points = points[:: max(1, len(points) // CHECKED_POINTS)]
    apart = inverse_error_mm(there, back, points[_within(grids[1], there.map(points))])
    quality |= {
        "folded_share": float((determinants <= 0).mean()),
        "jacobian_min": round(float(determinants.min()), 3),
        "inverse_mean_mm": round(float(apart.mean()), 3),
        "inverse_max_mm": round(float(apart.max()), 3),
        "moved_mean_mm": round(float(moved.mean()), 2),
        "moved_max_mm": round(float(moved.max()), 2),
    }
    return PhaseTransform(start, name, quality | {"sentence": _sentence(quality)}, there, back)


def _difference(level: Level, displacement: Tensor) -> float:
    """Mean squared difference of the descriptors in the body, where the moving scan reaches."""
    image, inside = level.warped(displacement)
    weight = level.weight * inside
    difference = ((describe(level.fixed) - describe(image)) ** 2).mean(dim=0)
    return float((difference * weight).sum() / weight.sum().clamp_min(1.0))


def _within(grid: Grid, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether LPS points (N, 3) lie in the grid: beyond it nothing was seen that could lead back."""
    index = (points_mm[:, ::-1] - grid.origin_mm) / grid.spacing_mm
    return np.asarray(((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=1), bool)


def _as_field(displacement: Tensor, grid: Grid) -> DenseField:
    """(3, D, H, W) in mm, its first axis (z, y, x), as a field on the same grid."""
    return DenseField(np.ascontiguousarray(np.moveaxis(displacement.flip(0).cpu().numpy(), 0, -1)), grid)


def _field(inner: DenseField, target: Grid, before: NDArray[np.float64], after: NDArray[np.float64]) -> DenseField:
    """`after` o inner o `before` as a field on `target`; `before` and `after` are 4 x 4 on LPS mm."""
    out = np.empty((*target.shape, 3), np.float32)
    first = _points_mm(replace(target, shape=(1, *target.shape[1:])), np.ones((1, *target.shape[1:]), bool))
    for z, plane in enumerate(out):  # a whole scan's points at once would take a gigabyte
        points = first + np.array([0.0, 0.0, z * target.spacing_mm[0]])
        plane[:] = (map_points(after, inner.map(map_points(before, points))) - points).reshape(plane.shape)
    return DenseField(out, target)


def _covering(grid: Grid, spacing_mm: Sequence[float]) -> Grid:
    """A grid of this spacing or finer over all of `grid`, so that a map says something of the whole scan."""
    reach = [(n - 1) * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    d, h, w = (max(1, math.ceil(length / s)) + 1 for length, s in zip(reach, spacing_mm, strict=True))
    sz, sy, sx = (max(length, 1e-3) / (n - 1) for length, n in zip(reach, (d, h, w), strict=True))
    return Grid((d, h, w), (sz, sy, sx), grid.origin_mm)


def _points_mm(grid: Grid, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 3) LPS mm (x, y, z) of the grid's points that are set in `where`."""
    return (np.argwhere(where) * np.array(grid.spacing_mm) + np.array(grid.origin_mm))[:, ::-1]


def _sentence(quality: Mapping[str, Any]) -> str:
    found = (
        f"Deformed by {quality['moved_mean_mm']:.1f} mm on average, {quality['moved_max_mm']:.1f} mm at most, beyond "
        f"the rigid start; there and back misses by {quality['inverse_mean_mm']:.2f} mm"
    )
    if quality["folded_share"] > 0:
        return f"{found}; the map folds in {quality['folded_share']:.2%} of the body: look at it before using it."
    return f"{found}; nothing folds."
