"""Fluid where a healthy map has none: beside the lungs, with lung without air next to it, and in the belly.

Without it "soft and under the lungs" means liver or spleen, and all that is grey between organs is bowel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Array
from napari_multiphase.phantom.atlas_tissues import ASCITES, COLLAPSED, EFFUSION, VISCERAL

CHEST_SHARE, BELLY_SHARE = 0.3, 0.25
"""Subjects with fluid or collapsed lung in the chest, with fluid in the belly."""
DRY_SHARE = 0.35
"""Of those with something in the chest, the share in whom it is collapsed lung alone."""
FILM_MM, APART_MM = 14.0, 15.0
"""Thickest film between liver or spleen and the wall; no fluid in fat this near to what lies behind the peritoneum."""
LUNGS, LIVER, SPLEEN = (IDS_BY_NAME[name] for name in ("lungs", "liver", "spleen"))
BEHIND = [
    IDS_BY_NAME[name]
    for name in ("right kidney", "left kidney", "aorta", "inferior vena cava", "spine and bones", "heart")
]


def flood_chest(canvas: Canvas, rng: np.random.Generator) -> None:
    """In some subjects the lowest, hindmost part of one or both lungs becomes fluid, and the lung beside it collapsed
    lung, with air left in its bronchi; changes `canvas.tissue`."""
    there, dry = rng.random() < CHEST_SHARE, rng.random() < DRY_SHARE
    sides, shares = rng.random(2) < 0.75, rng.uniform(0.02, 0.6, 2)
    collapsed, tilt = rng.uniform(0.0, 0.15, 2), float(rng.uniform(0.0, 0.8))
    if not there:
        return
    z, y, x = canvas.axes_mm
    low = y - np.float32(tilt) * z + np.float32(6) * canvas.coarse
    bronchi = canvas.fields.network(9.0) < rng.uniform(0.5, 1.5)
    for side, found, share, beside in zip((x < 0, x >= 0), sides, shares, collapsed, strict=True):
        lung = (canvas.tissue == LUNGS) & side
        if not found or not lung.any():
            continue
        height = low[lung]
        fluid = 0.0 if dry else float(share)
        wet = lung & (low > np.quantile(height, 1 - fluid)) if fluid else np.zeros_like(lung)
        solid = lung & ~wet & (low > np.quantile(height, 1 - fluid - beside * (2 if dry else 1)))
        canvas.tissue[wet] = EFFUSION
        canvas.tissue[solid & ~bronchi] = COLLAPSED


def flood_belly(canvas: Canvas, wall_mm: NDArray[np.int8], rng: np.random.Generator) -> None:
    """In some subjects fluid takes the place of fat between the organs, and of a film of liver and spleen under the
    wall and the diaphragm; changes `canvas.tissue` and the depth of what is left of both organs.

    wall_mm : (D, H, W) mm to the surface of the body's cavity, negative inside.
    """
    there, share = rng.random() < BELLY_SHARE, float(rng.uniform(0.1, 1.1))
    film = float(rng.uniform(0, FILM_MM)) * (rng.random() < 0.7)
    if not there:
        return
    tissue = canvas.tissue
    fat = (tissue == VISCERAL) & (wall_mm < 0) & (_away_mm(canvas, BEHIND) > APART_MM)
    if share < 1:
        fat &= canvas.fields(14.0) > np.float32(ndtri(1 - share))
    tissue[fat] = ASCITES
    outer = np.minimum(-wall_mm.astype(np.float32), _away_mm(canvas, [LUNGS, EFFUSION, COLLAPSED]))
    rest = np.maximum(outer, 0) - np.float32(film) * np.clip(1 + np.float32(0.5) * canvas.coarse, 0, 2)
    organ = np.isin(tissue, [LIVER, SPLEEN])
    tissue[organ & (rest < 0)] = ASCITES
    kept = organ & (rest >= 0)
    canvas.depth_mm[kept] = np.minimum(canvas.depth_mm[kept], np.maximum(rest[kept], 1))


def _away_mm(canvas: Canvas, codes: list[int]) -> Array:
    """Distance to the nearest voxel of any of these codes, measured on every second voxel."""
    coarse = np.isin(canvas.tissue[::2, ::2, ::2], codes)
    if not coarse.any():
        return np.full(canvas.tissue.shape, 1e4, np.float32)
    step = [2 * s for s in canvas.grid.spacing_mm]
    far = ndimage.distance_transform_edt(~coarse, sampling=step).astype(np.float32)
    full = np.repeat(np.repeat(np.repeat(far, 2, 0), 2, 1), 2, 2)
    return np.asarray(full[tuple(slice(0, n) for n in canvas.tissue.shape)])
