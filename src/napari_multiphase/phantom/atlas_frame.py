"""A label map on an even grid with rounded surfaces, and where it lies in the frame of the parametric phantom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_tissues import AIR, BODY, CODES
from napari_multiphase.volume import Grid

MARGIN_MM = 40.0
"""Of air around the map in the axial plane, for fat outside a tight outline."""
LEAST_SIGMA_MM = 1.0
KIDNEYS_MM = (-25.0, 43.0, 0.0)
"""(z, y, x) between both kidneys in the parametric phantom."""
LIVER_MM = (25.0, -5.0, -65.0)
HOLLOW = (
    *("aorta", "inferior vena cava", "portal and splenic vein", "vein", "artery", "hepatic vein", "heart", "liver"),
    *("stomach", "duodenum", "small bowel", "colon", "gallbladder", "oesophagus", "urine", "airway"),
)
"""Some maps draw walls only: what these enclose is theirs."""


def smooth_codes(codes: NDArray[np.uint8], grid: Grid, step_mm: float) -> tuple[NDArray[np.uint8], Grid]:
    """Codes on a grid of `step_mm`: every voxel goes to the code whose blurred mask is largest there."""
    pad = [0.0, MARGIN_MM, MARGIN_MM]
    shape = [
        int(n * s / step_mm) + 2 * round(p / step_mm) for n, s, p in zip(grid.shape, grid.spacing_mm, pad, strict=True)
    ]
    centre = [o + 0.5 * (n - 1) * s for o, n, s in zip(grid.origin_mm, grid.shape, grid.spacing_mm, strict=True)]
    origin = [c - 0.5 * (n - 1) * step_mm for c, n in zip(centre, shape, strict=True)]
    out_grid = Grid((shape[0], shape[1], shape[2]), (step_mm,) * 3, (origin[0], origin[1], origin[2]))
    best, out = np.full(shape, 0.45, np.float32), np.full(shape, BODY, np.uint8)
    outline = codes > 0
    full = _filled(codes)
    for code, where in _boxes(full):
        if code not in (AIR, BODY):
            _vote(best, out, full[where] == code, where, code, grid, out_grid)
    inside = np.zeros(shape, np.float32)
    _vote(inside, out.copy(), outline, tuple(slice(0, n) for n in codes.shape), BODY, grid, out_grid)
    out[(inside < 0.5) & (out == BODY)] = AIR
    return out, out_grid


def centre_mm(codes: NDArray[np.uint8], grid: Grid) -> NDArray[np.float64]:
    """(z, y, x): what to subtract from the map's coordinates to come to the parametric phantom's."""
    kidneys = [_middle(codes == IDS_BY_NAME[name], grid) for name in ("right kidney", "left kidney")]
    if kidneys[0] is not None and kidneys[1] is not None:
        return 0.5 * (kidneys[0] + kidneys[1]) - np.array(KIDNEYS_MM)
    liver = _middle(codes == IDS_BY_NAME["liver"], grid)
    if liver is not None:
        return liver - np.array(LIVER_MM)
    middle = _middle(codes > 0, grid)
    assert middle is not None
    return middle


def _middle(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64] | None:
    if not mask.any():
        return None
    sums = [mask.sum(axis=tuple({0, 1, 2} - {k})) for k in range(3)]
    centre = np.array([float(np.average(np.arange(len(n)), weights=n)) for n in sums])
    return centre * np.array(grid.spacing_mm) + np.array(grid.origin_mm)


def _filled(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Holes of hollow structures filled, slice by slice in all three directions."""
    out = codes.copy()
    hollow = {CODES[name] for name in HOLLOW}
    for code, where in _boxes(codes):
        if code not in hollow:
            continue
        mask = codes[where] == code
        whole = mask.copy()
        for axis in range(3):
            for k in range(mask.shape[axis]):
                at: list[slice | int] = [slice(None)] * 3
                at[axis] = k
                whole[tuple(at)] |= ndimage.binary_fill_holes(mask[tuple(at)])
        view = out[where]
        view[whole & ((view == BODY) | (view == AIR))] = code
    return out


def _boxes(codes: NDArray[np.uint8]) -> list[tuple[int, tuple[slice, ...]]]:
    return [(k + 1, box) for k, box in enumerate(ndimage.find_objects(codes.astype(np.int32))) if box is not None]


def _vote(
    best: NDArray[np.float32],
    out: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    where: tuple[slice, ...],
    code: int,
    grid: Grid,
    target: Grid,
) -> None:
    sigma = [max(LEAST_SIGMA_MM, 0.6 * s) / s for s in grid.spacing_mm]
    padded = np.pad(mask.astype(np.float32), 3)
    blurred = ndimage.gaussian_filter(padded, sigma, mode="nearest")
    sub, at = [], []
    for k, box in enumerate(where):
        low = grid.origin_mm[k] + (box.start - 3) * grid.spacing_mm[k]
        high = grid.origin_mm[k] + (box.stop + 2) * grid.spacing_mm[k]
        first = max(int(np.ceil((low - target.origin_mm[k]) / target.spacing_mm[k])), 0)
        last = min(int(np.floor((high - target.origin_mm[k]) / target.spacing_mm[k])) + 1, target.shape[k])
        sub.append(slice(first, max(last, first)))
        mm = target.origin_mm[k] + np.arange(first, max(last, first)) * target.spacing_mm[k]
        at.append((mm - low) / grid.spacing_mm[k])
    if any(len(a) == 0 for a in at):
        return
    value = _linear(blurred, at)
    view_best, view_out = best[tuple(sub)], out[tuple(sub)]
    better = value > view_best
    view_out[better] = code
    view_best[better] = value[better]


def _linear(values: NDArray[np.float32], at: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Trilinear interpolation on a regular target, axis by axis."""
    for axis, positions in enumerate(at):
        low = np.clip(np.floor(positions).astype(int), 0, values.shape[axis] - 2)
        t = (positions - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        a, b = np.take(values, low, axis), np.take(values, low + 1, axis)
        values = a + (b - a) * t
    return values
