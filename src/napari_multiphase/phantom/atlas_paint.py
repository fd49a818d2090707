"""One subject of a body model, before any deformation: what lies in every voxel, its label, its HU in both phases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from napari_multiphase.labels import IDS_BY_NAME, IGNORE
from napari_multiphase.phantom.atlas_body import DEPTH_UNIT_MM, BodyModel
from napari_multiphase.phantom.atlas_calibre import widen_vessels
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Array, Fields
from napari_multiphase.phantom.atlas_fluid import flood_belly, flood_chest
from napari_multiphase.phantom.atlas_gaps import hollow_kidneys
from napari_multiphase.phantom.atlas_hu import paint_hu
from napari_multiphase.phantom.atlas_lesions import add_lesions
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.atlas_tissues import (
    AIR,
    BODY,
    CODES,
    FLESH,
    GUT,
    ISLAND,
    PORTAL_BRANCH,
    SKIN,
    SUBCUTANEOUS,
    TWIG,
    VISCERAL,
    label_table,
)
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid, Phase

LIVER, LUNGS, BONE, MUSCLE = IDS_BY_NAME["liver"], IDS_BY_NAME["lungs"], IDS_BY_NAME["spine and bones"], CODES["muscle"]
HOLLOW_SHARE = 0.85
"""Subjects with fat in the sinus of their kidneys."""
Where = tuple[slice, slice, slice]


def paint_subject(
    body: BodyModel, where: Where, subject: Subject, spec: AtlasSpec
) -> tuple[Grid, dict[Phase, NDArray[np.uint8]], dict[Phase, Array]]:
    """The part `where` of the body: its grid, labels (uint8) and HU (float32, no noise) per phase."""
    canvas = _canvas(body, where, subject, spec)
    images = paint_hu(canvas, subject, spec)
    labels = add_lesions(canvas, images, subject, spec)
    return canvas.grid, dict.fromkeys(Phase, labels), images


def _canvas(body: BodyModel, where: Where, subject: Subject, spec: AtlasSpec) -> Canvas:
    grid = body.grid
    for axis, part in enumerate(where):
        grid = grid.part(axis, part.start, part.stop)
    rng = subject.rng("atlas_build")
    fields = Fields(subject.rng("atlas_texture"), grid.shape, grid.spacing_mm[0])
    tissue = np.array(body.codes[where])
    depth = np.array(body.depth[where]).astype(np.float32) * np.float32(DEPTH_UNIT_MM)
    canvas = Canvas(grid, tissue, depth, np.empty(0, np.uint8), fields(14.0), fields(3.0), fields)
    _layers(canvas, np.array(body.wall[where]), np.array(body.skin[where]), subject, rng)
    lacks_gut = not set(GUT) <= body.structures
    _islands(canvas, np.array(body.wall[where]), lacks_gut, rng)
    if rng.random() < HOLLOW_SHARE:  # after the islands: no loop lies in a kidney
        hollow_kidneys(canvas, rng)
    if spec.wide:
        flood_chest(canvas, subject.rng("atlas_fluid"))
        flood_belly(canvas, np.array(body.wall[where]), subject.rng("atlas_ascites"))
    _vessels(canvas, rng)
    if spec.wide:
        widen_vessels(canvas, rng)
    table = label_table()
    table[ISLAND] = IGNORE if lacks_gut else 0
    canvas.labels = table[canvas.tissue]
    return canvas


def _layers(
    canvas: Canvas, wall: NDArray[np.int8], skin: NDArray[np.int8], subject: Subject, rng: np.random.Generator
) -> None:
    """Skin, fat under it, the muscular wall, visceral fat, arms up or down."""
    tissue = canvas.tissue
    x = canvas.axes_mm[2]
    rest = tissue == BODY
    thick = float(rng.uniform(6, 13)) + 2.5 * canvas.coarse + 4 * np.clip((np.abs(x) - 60) / 60, 0, 1)
    tissue[rest] = SUBCUTANEOUS
    tissue[rest & (wall < thick)] = MUSCLE
    tissue[rest & (wall < 0)] = VISCERAL
    arm = tissue == CODES["arm"]
    if rng.random() < 0.7:
        tissue[arm] = AIR
        gone = 165.0
    else:
        tissue[arm] = SUBCUTANEOUS
        tissue[arm & (skin < -float(rng.uniform(4, 12)))] = MUSCLE
        tissue[arm & (skin < -34)] = BONE
        gone = 1e4
    fat = float(np.clip(rng.normal(8 + 8 * subject.weight, 6), 0, 32))
    outside = (tissue == AIR) & (skin > 0) & (skin <= fat) & ((np.abs(x) < gone) | (wall < 70))
    tissue[outside] = SUBCUTANEOUS
    tissue[(tissue != AIR) & (skin > fat - 2.5) & (skin <= fat)] = SKIN


def _islands(canvas: Canvas, wall: NDArray[np.int8], lacks_gut: bool, rng: np.random.Generator) -> None:
    """Loops and flesh in an abdomen that the map leaves empty; few where it holds its bowel."""
    z = canvas.axes_mm[0]
    empty = (canvas.tissue == VISCERAL) & (wall < -3)
    share = float(rng.uniform(0.12, 0.45) if lacks_gut else rng.uniform(0.0, 0.06))
    for code, part, sigma in ((ISLAND, share, 11.0), (FLESH, float(rng.uniform(0.0, 0.05)), 7.0)):
        if part <= 0:
            continue
        field = canvas.fields(sigma) - np.float32(ndtri(1 - part))
        found = empty & (field > 0) & (z < 95)
        canvas.tissue[found] = code
        canvas.depth_mm[found] = np.float32(1.2 * sigma) * field[found]


def _vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Branches inside the liver, twigs in fat and lungs."""
    tissue, depth = canvas.tissue, canvas.depth_mm
    within = (tissue == LIVER) & (depth > 4)
    size = 1.5 + 2.5 * np.clip((depth - 4) / 30, 0, 1)
    for code in (CODES["hepatic vein"], PORTAL_BRANCH):
        tissue[within & (canvas.fields.network(14.0) < size * rng.uniform(0.6, 1.3))] = code
    twigs = canvas.fields.network(6.0)
    tissue[(tissue == VISCERAL) & (twigs < rng.uniform(0.5, 1.3))] = TWIG
    tissue[(tissue == CODES["mesentery"]) & (twigs < 1.6)] = TWIG
