"""A label map as a body that can be scanned: one grid, rounded surfaces, and what a map lacks around its organs.

Everything here is done once per map and kept. Organs are never invented; bones and lungs that a map does not hold are
(the skeleton, from the parametric phantom or as a rib cage on the wall; lungs, above the diaphragm that the organs
under it mould), since there is no CT of a person without them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.io.atomic import atomic_new_folder
from napari_multiphase.io.places import data_folder
from napari_multiphase.labels import IDS_BY_NAME, STRUCTURES
from napari_multiphase.phantom.atlas_frame import centre_mm, smooth_codes
from napari_multiphase.phantom.atlas_read import read_atlas
from napari_multiphase.phantom.atlas_tissues import AIR, BODY, CODES, OTHERS
from napari_multiphase.phantom.atlas_torso import complete
from napari_multiphase.volume import Grid

BODY_VERSION = 3
"""Grows when the same map gives another body."""
STEP_MM = 2.0
DEPTH_UNIT_MM = 0.5
_PARTS = ("codes", "depth", "wall", "skin")


@dataclass(frozen=True)
class BodyModel:
    """A completed label map on a 2 mm grid, in the reference frame of the parametric phantom.

    Attributes
    ----------
    grid : origin such that the kidneys lie where the parametric phantom's do.
    codes : (D, H, W) uint8 of `atlas_tissues`.
    depth : (D, H, W) uint8, half millimetres to the nearest border between two codes.
    wall : (D, H, W) int8, mm to the surface of the body cavity, negative inside.
    skin : (D, H, W) int8, mm to the skin, negative inside.
    structures : ids of the label table that the map holds.
    extent_mm : (lowest, highest) z that the map reaches.
    """

    grid: Grid
    codes: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    wall: NDArray[np.int8]
    skin: NDArray[np.int8]
    structures: frozenset[int]

    @property
    def extent_mm(self) -> tuple[float, float]:
        """Lowest and highest z (mm) of the map."""
        low = self.grid.origin_mm[0]
        return low, low + (self.grid.shape[0] - 1) * self.grid.spacing_mm[0]


def load_body(labels: Path, names: Path, cache: Path | None = None) -> BodyModel:
    """The body of a map; made once per content of both files and kept in `cache`.

    Raises
    ------
    UserError : as `atlas_read.read_atlas`.
    """
    key = hashlib.sha256(_content(labels) + _content(names)).hexdigest()[:24]
    folder = (cache or data_folder() / "atlases") / f"{key}-{BODY_VERSION}"
    if not folder.is_dir():
        body = make_body(labels, names)
        with atomic_new_folder(folder) as part:
            for name in _PARTS:
                np.save(part / f"{name}.npy", getattr(body, name), allow_pickle=False)
            np.save(part / "origin.npy", np.array(body.grid.origin_mm), allow_pickle=False)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _PARTS}
    z, y, x = (float(v) for v in np.load(folder / "origin.npy", allow_pickle=False))
    grid = Grid(arrays["codes"].shape, (STEP_MM,) * 3, (z, y, x))
    return BodyModel(grid, **arrays, structures=_structures(arrays["codes"]))


def fingerprint(labels: Path, names: Path) -> str:
    """Of both files' content."""
    return hashlib.sha256(_content(labels) + _content(names)).hexdigest()[:24]


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b"missing"  # reading it will say so


def make_body(labels: Path, names: Path) -> BodyModel:
    """`load_body` without its cache."""
    volume = read_atlas(labels, names)
    codes, grid = smooth_codes(volume.data, volume.grid, STEP_MM)
    shift = centre_mm(codes, grid)
    z, y, x = (float(o - s) for o, s in zip(grid.origin_mm, shift, strict=True))
    grid = Grid(grid.shape, grid.spacing_mm, (z, y, x))
    codes, wall, skin = complete(codes, grid)
    return BodyModel(grid, codes, _depth(codes), wall, skin, _structures(codes))


def _depth(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    border = np.zeros(codes.shape, bool)
    for axis in range(3):
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        differs = codes[tuple(here)] != codes[tuple(there)]
        border[tuple(here)] |= differs
        border[tuple(there)] |= differs
    far = ndimage.distance_transform_edt(~border) * STEP_MM + 0.5 * STEP_MM
    return np.minimum(far / DEPTH_UNIT_MM, 255).astype(np.uint8)


def _structures(codes: NDArray[np.uint8]) -> frozenset[int]:
    counts = np.bincount(codes.ravel(), minlength=256)
    found = {i for i in STRUCTURES if counts[i]}
    if counts[CODES["heart cavity"]]:
        found.add(IDS_BY_NAME["heart"])
    return frozenset(found)


__all__ = ["AIR", "BODY", "OTHERS", "BodyModel", "fingerprint", "load_body", "make_body"]
