"""Soft organs that slide over each other, and organs of another person.

A smooth deformation keeps every neighbour and every fold of a map: however strong, all subjects of a map have one
arrangement. Here hollow organs, pancreas and adrenals are taken out and laid back one after another, each with its own
deformation and thickness, into what is free; what they leave is fat. In some, upper organs are those of another map.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.imaging.components import bounding_box
from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_body import DEPTH_UNIT_MM, BodyModel, depth_of
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_tissues import BODY, CODES

SLIDE_SHARE = 0.7
"""Subjects whose organs slide."""
DONOR_SHARE = 0.5
"""Subjects that are given a donor, where their organs may slide."""
FIELD_MM, MARGIN_MM = 22.0, 24.0
"""Scale of an organ's own deformation, and the room it may move in."""
PANCREAS = IDS_BY_NAME["pancreas"]
GIVES_WAY = (BODY, CODES["mesentery"], CODES["vein"])

Codes = NDArray[np.uint8]


class Sliding(NamedTuple):
    """Organs that move together.

    `names` : of `CODES`; `shift_mm` : standard deviation of place and of deformation; `thick_mm` : of how far the
    surface moves out or in; `lent` : whether they may be those of another person.
    """

    names: tuple[str, ...]
    shift_mm: float
    thick_mm: float
    lent: bool = False

    @property
    def codes(self) -> list[int]:
        """Of the names."""
        return [CODES[name] for name in self.names]


GROUPS = (
    Sliding(("right adrenal",), 2.0, 0.4),
    Sliding(("left adrenal",), 2.0, 0.4),
    Sliding(("pancreatic mass", "pancreatic duct", "pancreas"), 3.5, 1.0, lent=True),
    Sliding(("gallbladder",), 4.0, 1.5),
    Sliding(("duodenum", "stomach", "stomach or duodenum"), 4.5, 2.0, lent=True),
    Sliding(("colon", "bowel"), 5.0, 1.5),
    Sliding(("small bowel",), 5.0, 1.0),
)
"""What slides, in the order of being laid back: who comes first keeps its shape."""


def slide_organs(canvas: Canvas, wall_mm: NDArray[np.int8], rng: np.random.Generator, donor: BodyModel | None) -> None:
    """Changes `canvas.tissue` and its depth, in some subjects; before fat is told from flesh.

    wall_mm : (D, H, W) mm to the surface of the body's cavity, negative inside; donor : the other person.
    """
    if rng.random() >= SLIDE_SHARE:
        return
    own = canvas.tissue.copy()
    lent = own if donor is None else _in_place(donor, canvas, own)
    moving = [code for group in GROUPS for code in group.codes]
    canvas.tissue[np.isin(own, moving)] = BODY
    free = np.isin(canvas.tissue, GIVES_WAY) & (wall_mm < 0)
    fields = Fields(rng, own.shape, canvas.grid.spacing_mm[0])
    for group in GROUPS:
        held = group.lent and np.isin(lent, group.codes).any()
        _lay(canvas, free, lent if held else own, group, fields, rng)
    canvas.depth_mm[...] = depth_of(canvas.tissue).astype(np.float32) * np.float32(DEPTH_UNIT_MM)


def _lay(
    canvas: Canvas,
    free: NDArray[np.bool_],
    source: Codes,
    group: Sliding,
    fields: Fields,
    rng: np.random.Generator,
) -> None:
    """The group's organs of `source`, deformed, into the voxels of the canvas that are free; both are changed."""
    step_mm = canvas.grid.spacing_mm[0]
    place, swell = rng.normal(0, group.shift_mm, 3), float(rng.normal(0, group.thick_mm))
    where = bounding_box(np.isin(source, group.codes), int(MARGIN_MM / step_mm))
    if where is None:
        return
    part = source[where]
    at = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in part.shape), indexing="ij"))
    for axis in range(3):
        moved = np.float32(place[axis]) + np.float32(group.shift_mm) * fields(FIELD_MM)[where]
        at[axis] += np.clip(moved, -MARGIN_MM, MARGIN_MM) / np.float32(step_mm)
    for code in group.codes:
        mask = part == code
        if not mask.any():
            continue
        outside = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
        found = ndimage.map_coordinates(outside.astype(np.float32) * step_mm, at, order=1, mode="nearest") < swell
        found &= free[where]
        canvas.tissue[where][found] = code
        free[where][found] = False


def _in_place(donor: BodyModel, canvas: Canvas, own: Codes) -> Codes:
    """The donor's codes on the canvas' grid, its pancreas where the subject's is; `own` where one has none."""
    theirs, here = np.argwhere(donor.codes == PANCREAS), np.argwhere(own == PANCREAS)
    if not len(theirs) or not len(here):
        return own
    shift = np.rint(theirs.mean(axis=0) - here.mean(axis=0)).astype(int)
    out = np.full(own.shape, BODY, np.uint8)
    to, of = [], []
    for n, k, m in zip(own.shape, shift, donor.codes.shape, strict=True):
        first, last = max(0, -k), min(n, m - k)
        to.append(slice(first, max(last, first)))
        of.append(slice(first + k, max(last, first) + k))
    out[tuple(to)] = donor.codes[tuple(of)]
    return out
