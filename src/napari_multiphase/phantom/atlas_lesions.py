"""Lesions in a painted body: those of the parametric phantom, from specks to tumours that fill a lobe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Array
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.lesions import LIVER_LESIONS, MASS, lesion
from napari_multiphase.phantom.render import Chunk, Layer, Structure, edge_mm, paint
from napari_multiphase.phantom.shapes import Box, ellipsoid, rotation
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid, Phase

LIVER, PANCREAS = IDS_BY_NAME["liver"], IDS_BY_NAME["pancreas"]


def add_lesions(canvas: Canvas, images: dict[Phase, Array], subject: Subject, spec: AtlasSpec) -> NDArray[np.uint8]:
    """Paint lesions into both images; returns the labels with them."""
    structures = _liver(canvas, subject) if spec.pathology == "liver" else []
    if spec.pathology == "pancreas":
        structures = _pancreas(canvas, subject)
    if not structures:
        return canvas.labels
    z, y, x = canvas.axes_mm
    shape = canvas.grid.shape
    px, py, pz = (np.broadcast_to(a, shape) for a in (x, y, z))
    chunk = Chunk(px, py, pz, canvas.coarse, canvas.fields(6.0), _Locate(canvas.grid))
    labels = canvas.labels
    for phase, image in images.items():
        labels = canvas.labels.copy()
        paint(image, labels, chunk, structures, phase, edge_mm(canvas.grid))
    return labels


class _Locate:
    """Slices of a box on a grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __call__(self, box: Box) -> tuple[slice, slice, slice] | None:
        grid, out = self._grid, []
        for k in range(3):
            lo = (box.lo[2 - k] - grid.origin_mm[k]) / grid.spacing_mm[k]
            hi = (box.hi[2 - k] - grid.origin_mm[k]) / grid.spacing_mm[k]
            first, last = max(int(np.floor(lo)), 0), min(int(np.ceil(hi)) + 1, grid.shape[k])
            if first >= last:
                return None
            out.append(slice(first, last))
        return out[0], out[1], out[2]


def _liver(canvas: Canvas, subject: Subject) -> list[Structure]:
    """One to six; a quarter of the livers have one of up to 55 mm radius."""
    rng = subject.rng("pathology")
    radii = [float(np.exp(rng.uniform(np.log(4), np.log(20)))) for _ in range(rng.integers(1, 6))]
    if rng.random() < 0.25:
        radii.append(float(rng.uniform(25, 55)))
    out: list[Structure] = []
    placed: list[tuple[NDArray[np.float64], float]] = []
    for radius in sorted(radii, reverse=True):
        inside = np.argwhere((canvas.labels == LIVER) & (canvas.depth_mm > min(0.7 * radius, 12.0)))
        for _ in range(20 if len(inside) else 0):
            at = inside[rng.integers(len(inside))]
            centre = (np.array(canvas.grid.origin_mm) + at * np.array(canvas.grid.spacing_mm))[::-1]
            if all(np.linalg.norm(centre - other) > radius + far + 2 for other, far in placed):
                placed.append((centre, radius))
                out += lesion(subject, rng, str(rng.choice(LIVER_LESIONS)), centre, radius)
                break
    return out


def _pancreas(canvas: Canvas, subject: Subject) -> list[Structure]:
    """A mass somewhere in the gland, wider than it."""
    rng = subject.rng("pathology")
    inside = np.argwhere((canvas.labels == PANCREAS) & (canvas.depth_mm > 2))
    if not len(inside):
        return []
    at = inside[rng.integers(len(inside))]
    centre = (np.array(canvas.grid.origin_mm) + at * np.array(canvas.grid.spacing_mm))[::-1]
    axes = float(rng.uniform(8, 20)) * rng.uniform(0.85, 1.15, 3)
    shape = ellipsoid(centre, axes, rotation(*rng.uniform(0, 90, 3)))
    free = Structure("mass", shape, [Layer(0, subject.hu("pancreatic_mass"), MASS)], within=PANCREAS, rough_mm=0.8)
    return [free]
