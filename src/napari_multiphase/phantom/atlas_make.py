"""A two-phase study of a label map: a subject painted on the map's grid, deformed, breathing, and scanned."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_body import BodyModel, load_body
from napari_multiphase.phantom.atlas_paint import paint_subject
from napari_multiphase.phantom.atlas_scan import Scanner, sample_image, sample_labels
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.atlas_warp import Organ, Warp
from napari_multiphase.phantom.lattice import Lattice
from napari_multiphase.phantom.motion import Breathing, Points
from napari_multiphase.phantom.spec import PhantomStudy
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid, Phase, Volume

CENTRE_MM = (10.0, 55.0)
"""Mean and spread of the level at which a field of view is centred."""
_SOLID, _SOFT = (0.13, -0.25, 0.25), (0.22, -0.3, 0.45)
OWN_SIZES = {
    **dict.fromkeys(("liver", "right kidney", "left kidney"), _SOLID),
    **dict.fromkeys(("pancreas", "gallbladder", "colon"), _SOFT),
    "spleen": (0.25, -0.4, 0.45),
    "stomach": (0.35, -0.25, 0.7),
}
"""Organs that also grow and move on their own, and how much (`Organ.growth`): a stomach may be empty."""
FLEXURE = (0.25, -0.35, 0.35)
"""The same of the colon's left flexure, which may swell beside the stomach."""


def make_atlas_phantom(spec: AtlasSpec) -> PhantomStudy:
    """The study that `spec` describes.

    Raises
    ------
    UserError : the map or its JSON cannot be used.
    """
    body = load_body(spec.atlas, spec.names, spec.cache)
    subject = Subject(int(spec.seed), wide=spec.wide)
    rng = subject.rng("shape")
    warp = Warp.draw(rng, _organs(body), spec.warp)
    grid = _field_of_view(spec, body, warp, subject)
    breathing = Breathing.draw(subject.rng("motion"), float(spec.motion_mm))
    lattice = Lattice(grid)
    points = lattice.points_mm
    at = {Phase.VENOUS: warp(points)}
    at[Phase.ARTERIAL] = warp(breathing.inverse(points)) if spec.motion_mm else at[Phase.VENOUS]
    own, ids, images = paint_subject(body, _reached(body.grid, at), subject, spec)

    scanner = Scanner(grid, subject, spec)
    volumes, labels = {}, {}
    for phase in Phase:
        index = _index(lattice, points, at[phase], own)
        labels[phase] = sample_labels(ids[phase], index)
        hu = scanner.scan(sample_image(images[phase], index), phase)
        volumes[phase] = Volume.from_array(hu, grid.spacing_mm, grid.origin_mm)
    motion = np.zeros((*grid.shape, 3), np.float32)
    if spec.motion_mm:
        values = lattice.slices(lattice.coefficients(breathing(points)), 0, grid.shape[0])
        motion = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    return PhantomStudy(MappingProxyType(volumes), MappingProxyType(labels), motion, spec)


def _organs(body: BodyModel) -> list[Organ]:
    """Those that vary on their own, where they lie."""
    codes = np.asarray(body.codes[::4, ::4, ::4])
    out = []
    for name, growth in OWN_SIZES.items():
        at = np.argwhere(codes == IDS_BY_NAME[name])
        if len(at) > 8:
            mm = np.array(body.grid.origin_mm) + 4 * at * np.array(body.grid.spacing_mm)
            out.append(_organ(mm, growth))
            if name == "colon":
                left = mm[mm[:, 2] > 0]  # x grows to the left
                if len(left) > 24:
                    out.append(_organ(left[left[:, 0] > np.quantile(left[:, 0], 0.7)], FLEXURE))
    return out


def _organ(mm: NDArray[np.float64], growth: tuple[float, float, float]) -> Organ:
    """One whose voxels lie at `mm` (n, 3), z, y, x."""
    reach = float(np.clip(np.linalg.norm(mm.std(axis=0)), 22, 60))
    return Organ(mm.mean(axis=0)[::-1], reach, growth)


def _field_of_view(spec: AtlasSpec, body: BodyModel, warp: Warp, subject: Subject) -> Grid:
    """The grid of both scans: at a random level of what the map holds, in the middle of its body's depth."""
    rng = subject.rng("atlas_scan")
    inverse = np.linalg.inv(warp.matrix)
    low, high = (float((inverse @ np.array([0.0, 0.0, z]))[2]) for z in body.extent_mm)
    half = 0.5 * spec.shape[0] * spec.spacing_mm[0]
    level = float(rng.normal(*CENTRE_MM)) if spec.warp else CENTRE_MM[0]
    centre = float(np.clip(level, low + half, high - half)) if high - low > 2 * half else 0.5 * (low + high)
    plane = (
        np.asarray(
            body.skin[int(np.clip((0 - body.grid.origin_mm[0]) / body.grid.spacing_mm[0], 0, len(body.codes) - 1))]
        )
        <= 0
    )
    rows = np.flatnonzero(plane.any(axis=1))
    y = body.grid.origin_mm[1] + body.grid.spacing_mm[1] * float(rows.mean() if len(rows) else 0)
    shift = rng.uniform(-12, 12, 2) * min(spec.warp, 1.0)
    middle = (centre, float(y + shift[0]), float(shift[1]))
    origin = [m - 0.5 * (n - 1) * s for m, n, s in zip(middle, spec.shape, spec.spacing_mm, strict=True)]
    d, h, w = (int(n) for n in spec.shape)
    sz, sy, sx = (float(s) for s in spec.spacing_mm)
    return Grid((d, h, w), (sz, sy, sx), (origin[0], origin[1], origin[2]))


def _reached(grid: Grid, at: dict[Phase, Points]) -> tuple[slice, slice, slice]:
    """The part of the body's grid that any scan looks at."""
    out = []
    for axis in range(3):
        values = [a[..., 2 - axis] for a in at.values()]
        low = (min(float(v.min()) for v in values) - grid.origin_mm[axis]) / grid.spacing_mm[axis]
        high = (max(float(v.max()) for v in values) - grid.origin_mm[axis]) / grid.spacing_mm[axis]
        n = grid.shape[axis]
        first = int(np.clip(np.floor(low) - 2, 0, n - 4))
        out.append(slice(first, int(np.clip(np.ceil(high) + 3, first + 4, n))))
    return out[0], out[1], out[2]


def _index(lattice: Lattice, points: Points, reference: Points, own: Grid) -> NDArray[np.float32]:
    """(3, D, H, W) float32: where every voxel lies on the painted grid, z, y, x."""
    grid = lattice.grid
    moved = lattice.slices(lattice.coefficients(reference - points), 0, grid.shape[0])[::-1]
    out = np.empty_like(moved)
    for axis in range(3):
        shape = [-1 if k == axis else 1 for k in range(3)]
        mm = (
            (grid.origin_mm[axis] + grid.spacing_mm[axis] * np.arange(grid.shape[axis]))
            .reshape(shape)
            .astype(np.float32)
        )
        np.add(moved[axis], mm - np.float32(own.origin_mm[axis]), out=out[axis])
        out[axis] *= np.float32(1 / own.spacing_mm[axis])
    return out
