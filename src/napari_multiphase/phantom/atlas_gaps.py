"""Organs whose place a map leaves empty: the stomach in its bed, the crura beside the aorta, the sinus of the kidneys,
pieces of the aorta and of the vena cava.

A map that holds everything around the stomach but not the stomach has a gap of its shape. It is filled, since fat
there would teach that a full abdomen has none. Other organs are never invented.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom import gut
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_tissues import BODY, CODES, VISCERAL
from napari_multiphase.phantom.shapes import Box, ellipsoid, rotation
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid

STOMACH, AORTA, MUSCLE = IDS_BY_NAME["stomach"], IDS_BY_NAME["aorta"], CODES["muscle"]
KIDNEYS = {IDS_BY_NAME["right kidney"]: -1, IDS_BY_NAME["left kidney"]: 1}
"""Kidneys, and the side of the spine that each lies on (x grows to the left)."""
BED = tuple(IDS_BY_NAME[name] for name in ("liver", "spleen", "pancreas", "colon"))
BED_MM, CLEAR_MM, NECK_MM = 20.0, 3.0, 7.0
"""How far the stomach may reach beyond the parametric one; its distance to other organs; what is narrower goes."""
PELVIS_SHARE, PELVIS_MM = 0.4, (5.0, 14.0)
"""Hollow kidneys with a wide pelvis, and its half axes."""
LEAST_STOMACH_ML = 60.0
CRUS_MM, CRUS_Z_MM = 7.0, (-15.0, 70.0)
VESSELS = {
    AORTA: (BODY,),
    IDS_BY_NAME["inferior vena cava"]: (BODY, IDS_BY_NAME["liver"], CODES["hepatic vein"]),
}
"""Great vessels, and what may lie where a map breaks them off: the liver was drawn over the cava within it."""
BROKEN_SHARE, VESSEL_TOP_MM = 0.6, 160.0
"""A level with less than this share of the vessel's usual area is a gap; above the top it is an arch, or a heart."""

Codes = NDArray[np.uint8]


def fill_stomach(codes: Codes, grid: Grid, average: Subject, wall: NDArray[np.int8]) -> None:
    """A stomach in the gap between liver, spleen, pancreas and colon, where the map holds those and none itself.

    codes : (D, H, W), changed; wall : (D, H, W) mm to the surface of the body cavity, negative inside.
    """
    held = set(np.unique(codes[::2, ::2, ::2]).tolist())
    if not held.issuperset(BED) or held & {STOMACH, CODES["stomach or duodenum"]}:
        return
    shape = gut.stomach(average)[0].shape
    where, axes = _part(grid, shape.reach(BED_MM))
    view = codes[where]
    near = np.asarray(shape.distance(*(np.broadcast_to(a, view.shape) for a in axes[::-1]))) < BED_MM
    step = grid.spacing_mm[0]
    empty = (view == BODY) & (wall[where] < -CLEAR_MM)
    gap = ndimage.distance_transform_edt(empty) * step > CLEAR_MM
    gap &= near
    core = ndimage.distance_transform_edt(gap) * step > NECK_MM
    parts, count = ndimage.label(core)
    if not count:
        return
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    grown = (ndimage.distance_transform_edt(~largest) * step <= NECK_MM) & gap
    smooth = (ndimage.gaussian_filter(grown.astype(np.float32), 2.0) > 0.5) & empty
    if np.count_nonzero(smooth) * grid.voxel_ml >= LEAST_STOMACH_ML:
        view[smooth] = STOMACH


def mend_vessels(codes: Codes, grid: Grid) -> None:
    """Aorta and vena cava as one piece: across levels where the map has less than its usual area, a disc is drawn.

    Its centre and radius lie between those of the levels below and above. The highest level counts, whatever its area:
    a cava that ends in crumbs inside the liver goes there. `codes` is changed.
    """
    top = int(np.clip((VESSEL_TOP_MM - grid.origin_mm[0]) / grid.spacing_mm[0], 0, len(codes)))
    for code, over in VESSELS.items():
        where = codes[:top] == code
        areas = where.sum(axis=(1, 2))
        levels = np.flatnonzero(areas)
        if len(levels) < 10:
            continue
        usual = float(np.median(areas[levels]))
        whole = np.flatnonzero(areas >= BROKEN_SHARE * usual)
        known = np.unique([*whole, levels[-1]])
        centres = np.array([np.argwhere(where[max(k - 2, 0) : k + 3])[:, 1:].mean(axis=0) for k in known])
        radii = np.sqrt(np.maximum(areas[known], BROKEN_SHARE * usual) / np.pi)
        broken = np.setdiff1d(np.arange(known[0], known[-1] + 1), whole)
        y, x = (np.arange(n) for n in codes.shape[1:])
        for k in broken:
            row, column, radius = (np.interp(k, known, of) for of in (centres[:, 0], centres[:, 1], radii))
            disc = np.hypot(y[:, None] - row, x[None, :] - column) < radius
            codes[k][disc & np.isin(codes[k], over)] = code


def paint_crura(codes: Codes, grid: Grid) -> None:
    """The diaphragm's two legs beside and behind the aorta, where the map tells nothing apart; `codes` is changed."""
    low, high = ((z - grid.origin_mm[0]) / grid.spacing_mm[0] for z in CRUS_Z_MM)
    first, last = (int(np.clip(round(k), 0, len(codes))) for k in (low, high))
    level = codes[first:last] == AORTA
    if not level.any():
        return
    margin = int(CRUS_MM / grid.spacing_mm[0]) + 1
    y, x = (np.flatnonzero(level.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    around = tuple(slice(max(int(k[0]) - margin, 0), int(k[-1]) + margin + 1) for k in (y, x))
    view, aorta = codes[first:last, *around], level[:, *around]
    away, nearest = ndimage.distance_transform_edt(~aorta, return_indices=True)
    front = nearest[1] - np.arange(view.shape[1])[None, :, None] > 0.6 * away
    view[(view == BODY) & (away * grid.spacing_mm[0] < CRUS_MM) & ~front] = MUSCLE


def hollow_kidneys(canvas: Canvas, rng: np.random.Generator) -> None:
    """The fat of the sinus, open towards the spine, where a map draws solid kidneys; in some a wide pelvis."""
    z, y, x = canvas.axes_mm
    for code, side in KIDNEYS.items():
        found = np.nonzero(canvas.tissue == code)
        size, turn = rng.uniform(0.6, 1.25, 3), float(rng.uniform(15, 45))
        if len(found[0]) < 50:
            continue
        mm = np.stack([np.broadcast_to(a, canvas.tissue.shape)[found] for a in (x, y, z)], axis=1)
        centre, spread = mm.mean(axis=0), mm.std(axis=0)
        inward = rotation(z_deg=side * turn) @ np.array([-side, 0.0, 0.0])
        radii = np.array([1.15, 0.55, 0.85]) * spread * size
        sinus = ellipsoid(centre + 1.15 * spread[0] * inward, radii, rotation(z_deg=side * turn))
        d = sinus.distance(*(a.astype(np.float32) for a in mm.T)) + 2.5 * canvas.fine[found]
        inside = tuple(k[d < 0] for k in found)
        canvas.tissue[inside] = np.where(canvas.fields(6.0)[inside] > 0.9, CODES["urine"], VISCERAL)
        if rng.random() < PELVIS_SHARE:
            _paint_pelvis(canvas, code, centre + float(rng.uniform(1.3, 2.2)) * spread[0] * inward, side * turn, rng)


def _paint_pelvis(
    canvas: Canvas, kidney: int, centre: NDArray[np.float64], turn_deg: float, rng: np.random.Generator
) -> None:
    """A pelvis full of urine that reaches out of the kidney, over fat and kidney alone."""
    pelvis = ellipsoid(centre, rng.uniform(*PELVIS_MM, 3), rotation(z_deg=turn_deg))
    where, (z, y, x) = _part(canvas.grid, pelvis.box)
    view = canvas.tissue[where]
    d = np.asarray(pelvis.distance(*(np.broadcast_to(a, view.shape) for a in (x, y, z)))) + canvas.fine[where]
    view[(d < 0) & np.isin(view, (VISCERAL, kidney))] = CODES["urine"]


def _part(grid: Grid, box: Box) -> tuple[tuple[slice, slice, slice], tuple[NDArray[np.float32], ...]]:
    """The voxels of a grid within a box (x, y, z mm), and their z, y, x in mm, to be broadcast."""
    where, axes = [], []
    for k, (lo, hi) in enumerate(zip(box.lo[::-1], box.hi[::-1], strict=True)):
        first, last = ((v - grid.origin_mm[k]) / grid.spacing_mm[k] for v in (lo, hi))
        part = slice(int(np.clip(np.floor(first), 0, grid.shape[k])), int(np.clip(np.ceil(last), 0, grid.shape[k])))
        mm = (grid.origin_mm[k] + grid.spacing_mm[k] * np.arange(part.start, part.stop)).astype(np.float32)
        where.append(part)
        axes.append(mm.reshape([-1 if j == k else 1 for j in range(3)]))
    return (where[0], where[1], where[2]), tuple(axes)
