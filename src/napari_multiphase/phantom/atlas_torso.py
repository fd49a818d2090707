"""What a label map lacks around its organs: spine, ribs, great vessels, lungs, muscles, arms, and two distance maps.

The parametric phantom's own spine, muscles and great vessels stand in, at its own place: the map was moved there by
its kidneys. Nothing is painted over what the map holds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom import torso, vessels
from napari_multiphase.phantom.atlas_gaps import fill_stomach, mend_vessels, paint_crura
from napari_multiphase.phantom.atlas_tissues import AIR, BODY, CODES
from napari_multiphase.phantom.render import Structure
from napari_multiphase.phantom.shapes import Tube
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid

BONE, LUNGS, MUSCLE = IDS_BY_NAME["spine and bones"], IDS_BY_NAME["lungs"], CODES["muscle"]
VISCERA = [
    *(i for i in range(1, 21) if i != BONE),
    *(CODES[name] for name in ("urine", "bowel", "heart cavity", "mesentery", "stomach or duodenum")),
]
UNDER_DIAPHRAGM = [1, 2, 3, 4, 6, 7, 8, 12, 13, 15, 16, 17, CODES["bowel"], CODES["stomach or duodenum"]]
CLOSING_MM = 40.0
RIB_PITCH_MM = 27.0
STOMACH_RADIUS_MM = 11.0

Codes = NDArray[np.uint8]
Bytes = NDArray[np.int8]


def complete(codes: Codes, grid: Grid) -> tuple[Codes, Bytes, Bytes]:
    """The codes with everything filled in, and the distances (mm, int8) to the cavity's surface and to the skin."""
    codes = codes.copy()
    average = Subject(0)
    z, y, x = _axes(grid)
    _split_stomach(codes, grid)
    skin = _signed(codes != AIR, grid)
    _paint_missing_spine(codes, grid, average, (z, y, x))
    _paint_missing_vessels(codes, grid, average)
    mend_vessels(codes, grid)
    cavity = _cavity(codes, grid, average, skin)
    wall = _signed(cavity, grid)
    fill_stomach(codes, grid, average, wall)
    paint_crura(codes, grid)
    if not _large(codes == LUNGS, grid, 100.0):
        _fill_lungs(codes, grid, wall)
    if not _large((codes == BONE) & (np.abs(x) > 70) & (z > -20) & (np.abs(x) < 170), grid, 25.0):
        _paint_ribs(codes, wall, (z, y, x))
    if not _large(codes == MUSCLE, grid, 1500.0):
        _paint_muscles(codes, grid, average, wall, skin)
    arm = (codes == BODY) & (wall > 70) & (np.abs(x) > 165) & (z > -200)
    codes[arm] = CODES["arm"]
    return codes, wall, skin


def _axes(grid: Grid) -> tuple[NDArray[np.float32], ...]:
    z, y, x = (
        (o + s * np.arange(n)).astype(np.float32)
        for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)
    )
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _large(mask: NDArray[np.bool_], grid: Grid, ml: float) -> bool:
    return bool(np.count_nonzero(mask) * grid.voxel_ml >= ml)


def _signed(mask: NDArray[np.bool_], grid: Grid) -> Bytes:
    """Signed distance to the mask's surface in mm, measured on every second voxel."""
    step = grid.spacing_mm[0]
    coarse = mask[::2, ::2, ::2]
    # A mask that reaches the map's first or last slice goes on beyond it.
    coarse = np.pad(coarse, ((8, 8), (1, 1), (1, 1)), mode="edge")
    outside = ndimage.distance_transform_edt(~coarse) if not coarse.all() else np.zeros(coarse.shape)
    inside = ndimage.distance_transform_edt(coarse)
    d = ((outside - inside + np.where(coarse, 0.5, -0.5)) * (2 * step))[8:-8, 1:-1, 1:-1]
    fine = ndimage.zoom(np.clip(d, -126, 126).astype(np.float32), 2, order=1, grid_mode=False, mode="nearest")
    out = np.empty(mask.shape, np.int8)
    index = [np.minimum(np.arange(n), m - 1) for n, m in zip(mask.shape, fine.shape, strict=True)]
    out[:] = np.rint(fine[np.ix_(*index)]).astype(np.int8)
    return out


def _split_stomach(codes: Codes, grid: Grid) -> None:
    """Where a map does not tell stomach and duodenum apart, the wide part is stomach; the rest stays unknown."""
    both = codes == CODES["stomach or duodenum"]
    if not both.any():
        return
    core = ndimage.distance_transform_edt(both) * grid.spacing_mm[0] > STOMACH_RADIUS_MM
    near = ndimage.distance_transform_edt(~core) * grid.spacing_mm[0] < STOMACH_RADIUS_MM + 6
    codes[both & near & (_axes(grid)[2] > -25)] = IDS_BY_NAME["stomach"]


def _paint(
    codes: Codes, grid: Grid, structures: Iterable[Structure], code: int, over: tuple[int, ...] = (BODY,)
) -> None:
    """Structures of the parametric phantom, where the map holds nothing."""
    z, y, x = _axes(grid)
    for structure in structures:
        box = structure.shape.box
        where = []
        for k, (lo, hi) in enumerate(zip(box.lo[::-1], box.hi[::-1], strict=True)):
            first = int(np.clip(np.floor((lo - grid.origin_mm[k]) / grid.spacing_mm[k]), 0, grid.shape[k]))
            where.append(
                slice(first, int(np.clip(np.ceil((hi - grid.origin_mm[k]) / grid.spacing_mm[k]) + 1, 0, grid.shape[k])))
            )
        view = codes[tuple(where)]
        if not view.size:
            continue
        px, py, pz = x[:, :, where[2]], y[:, where[1]], z[where[0]]
        shape = structure.shape
        d = shape.distance(px, py, pz) if isinstance(shape, Tube) else np.asarray(shape.distance(px, py, pz))
        view[np.broadcast_to(d < 0, view.shape) & np.isin(view, over)] = code


def _paint_missing_spine(codes: Codes, grid: Grid, average: Subject, axes: tuple[NDArray[np.float32], ...]) -> None:
    z, y, x = axes
    middle = (np.abs(x) < 30) & (y > 15) & (np.abs(z) < 60)
    if _large((codes == BONE) & middle, grid, 60.0):
        return
    parts = torso.spine(average)
    for names, code in (({"disc"}, CODES["disc"]), ({"canal", "cord", "cauda"}, CODES["spinal cord"])):
        _paint(codes, grid, (p for p in parts if p.name in names and code != CODES["disc"]), code)
    bones = [p for p in parts if p.name not in {"disc", "canal", "cord", "cauda"}]
    _paint(codes, grid, bones, BONE)
    _paint(codes, grid, (p for p in parts if p.name == "disc"), CODES["disc"])


def _paint_missing_vessels(codes: Codes, grid: Grid, average: Subject) -> None:
    arteries, veins = vessels.arteries(average), vessels.veins(average)
    if not _large(codes == IDS_BY_NAME["aorta"], grid, 5.0):
        _paint(codes, grid, (p for p in arteries if p.name == "aorta"), IDS_BY_NAME["aorta"])
        _paint(codes, grid, (p for p in arteries if p.name == "iliac artery"), CODES["artery"])
    if not _large(codes == IDS_BY_NAME["inferior vena cava"], grid, 5.0):
        _paint(codes, grid, (p for p in veins if p.name == "cava"), IDS_BY_NAME["inferior vena cava"])


def _cavity(codes: Codes, grid: Grid, average: Subject, skin: Bytes) -> NDArray[np.bool_]:
    """All that ribs and abdominal wall enclose: the organs' closing by 40 mm."""
    z, y, x = _axes(grid)
    inner = np.isin(codes, VISCERA)
    inner |= (codes == BONE) & (np.abs(x) < 150) & (z > -100) & (z < 150) & (y < 85)
    inner |= (codes == BONE) & (np.abs(x) < 45) & (y < 75)
    if not _large((codes == BONE) & (np.abs(x) > 70) & (z > -20), grid, 25.0):  # no ribs: the parametric chest
        half = np.abs(np.broadcast_to(x, codes.shape)[(skin < -2) & (np.abs(x) < 190) & (z > -20) & (z < 60)])
        scale = float(np.quantile(half, 0.98)) / 165.0 if half.size else 1.0
        chest = average.torso.cavity(x / np.float32(scale), y / np.float32(min(scale, 1.15)), z)[2] < 0
        inner |= chest & (z > -10) & (skin < -18)
    coarse = (
        inner[::2, ::2, ::2] | _within_ribs((codes == BONE) & (np.abs(x) < 150) & (y < 85) & (z > 20))[::2, ::2, ::2]
    )
    pad = int(CLOSING_MM / (2 * grid.spacing_mm[0])) + 1
    padded = np.pad(coarse, pad, mode="edge")
    padded[:, :pad], padded[:, -pad:], padded[:, :, :pad], padded[:, :, -pad:] = False, False, False, False
    step = 2 * grid.spacing_mm[0]
    grown = ndimage.distance_transform_edt(~padded) * step <= CLOSING_MM
    closed = ndimage.distance_transform_edt(grown) * step > CLOSING_MM
    closed = ndimage.gaussian_filter(closed.astype(np.float32), 1.5) > 0.5
    closed = closed[pad:-pad, pad:-pad, pad:-pad] | coarse
    fine = np.repeat(np.repeat(np.repeat(closed, 2, 0), 2, 1), 2, 2)
    return np.asarray(fine[tuple(slice(0, n) for n in codes.shape)] & (skin < -3))


def _within_ribs(bones: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of each slice's bones, where there are several."""
    out = np.zeros(bones.shape, bool)
    for k in range(0, len(bones), 2):
        points = np.argwhere(bones[k])
        if len(points) < 60 or np.ptp(points, axis=0).min() < 30:
            continue
        hull = ConvexHull(points)
        at = np.indices(bones[k].shape).reshape(2, -1)
        normals, offsets = hull.equations[:, :2], hull.equations[:, 2:]
        out[k] = ((normals @ at + offsets).max(axis=0) <= -2).reshape(bones[k].shape)
    return out


def _fill_lungs(codes: Codes, grid: Grid, wall: Bytes) -> None:
    """Air above a diaphragm that the organs under it mould; none around heart, great vessels and spine."""
    z, y, x = _axes(grid)
    below = np.isin(codes, UNDER_DIAPHRAGM)
    if not below.any():
        return
    step = grid.spacing_mm[0]
    top = np.where(below.any(axis=0), len(codes) - 1 - np.argmax(below[::-1], axis=0), -1000).astype(np.float32) * step
    for _ in range(70):  # a cone of 1.3 mm per mm over every column
        for axis in (0, 1):
            for shift in (-1, 1):
                top = np.maximum(top, np.roll(top, shift, axis) - 1.3 * step)
    top = ndimage.gaussian_filter(top, 3.0) + 5.0
    height = (np.arange(len(codes), dtype=np.float32) * step)[:, None, None]
    middle = np.isin(codes, [5, 9, 14, 20, CODES["heart cavity"]])
    away = ndimage.distance_transform_edt(~middle[::2, ::2, ::2]) * 2 * step > 6
    away = np.repeat(np.repeat(np.repeat(away, 2, 0), 2, 1), 2, 2)[tuple(slice(0, n) for n in codes.shape)]
    mediastinum = (np.abs(x) < 24) & (y < 60)
    rest = (codes == BODY) & (wall < -3) & away & ~mediastinum & (z > -40)
    codes[rest & (height > top)] = LUNGS
    codes[(codes == BODY) & (wall < 0) & (height > top - 4) & (height <= top) & (z > 0)] = MUSCLE


def _paint_ribs(codes: Codes, wall: Bytes, axes: tuple[NDArray[np.float32], ...]) -> None:
    """Oblique arcs in the chest's wall, lower in front; the lowest end at the sides."""
    z, y, x = axes
    run = z + np.float32(0.45) * (60 - y)
    stripe = np.abs(np.mod(run, RIB_PITCH_MM) - RIB_PITCH_MM / 2) < 5.5
    margin = z > -25 + np.float32(0.55) * np.maximum(40 - y, 0)
    back = np.abs(x) > 30
    sternum = (np.abs(x) < 16) & (y < 0) & (z > 75)
    shell = (codes == BODY) & (wall >= 0) & (wall <= 8) & (z < 320)
    codes[shell & (((stripe & back) & margin) | sternum)] = BONE


def _paint_muscles(codes: Codes, grid: Grid, average: Subject, wall: Bytes, skin: Bytes) -> None:
    """Psoas, quadratus and paraspinal muscles, and flesh around the pelvis."""
    z, y, x = _axes(grid)
    _paint(codes, grid, torso.muscles(average), MUSCLE)
    spine = np.vectorize(torso.spine_y)(z.ravel()).astype(np.float32)[:, None, None]
    behind = (y - spine - 12) / 42
    codes[(codes == BODY) & (behind > 0) & ((x / 66) ** 2 + behind**2 < 1) & (skin < -12)] = MUSCLE
    bone = codes == BONE
    near = ndimage.distance_transform_edt(~bone[::2, ::2, ::2]) * 2 * grid.spacing_mm[0] < 24
    near = np.repeat(np.repeat(np.repeat(near, 2, 0), 2, 1), 2, 2)[tuple(slice(0, n) for n in codes.shape)]
    codes[(codes == BODY) & near & (z < -110) & (skin < -10) & (wall > -4)] = MUSCLE
