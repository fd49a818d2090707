"""What hollow organs of a body model hold: content, bubbles in it, gas above it, folds across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Array
from napari_multiphase.phantom.atlas_tissues import CODES, ISLAND
from napari_multiphase.phantom.kinetics import BOWEL_GAS_HU

STRETCH_MM = 30.0
"""Scale of the field that tells stretches of bowel with gas alone from others."""
CONTRAST_HU, REACHED, DROWNED = (100.0, 400.0), 0.7, 0.6
"""Of drunk contrast medium; the share of hollow organs that it has come to, and of those the share without gas."""
Where = tuple[NDArray[np.intp], ...]


class Kind(NamedTuple):
    """How a hollow organ may be filled.

    `mottle_hu` : unevenness of the content; `gas_above` : level of a field above which there is gas (smaller, more);
    `level` : 1 where gas may lie over a flat fluid level, 0 in pockets; `wall_mm` : thinnest and thickest wall;
    `bubbles`, `folds` : shares of subjects whose content holds bubbles, whose wall has folds; `blown` : share of those
    in whom some stretches of the organ hold gas alone.
    """

    content: str
    mottle_hu: float
    gas_above: float
    level: float
    wall_mm: tuple[float, float]
    bubbles: float
    folds: float
    blown: float


KINDS = {
    CODES["stomach"]: Kind("fluid", 10, 1.3, 1.0, (1.5, 7.0), 0.3, 0.3, 0.15),
    CODES["stomach or duodenum"]: Kind("fluid", 8, 1.6, 1.0, (1.5, 7.0), 0.3, 0.3, 0.15),
    CODES["duodenum"]: Kind("chyme", 6, 1.9, 0.3, (1.5, 3.5), 0.15, 0.0, 0.1),
    CODES["small bowel"]: Kind("chyme", 8, 1.9, 0.3, (1.5, 3.5), 0.15, 0.2, 0.1),
    CODES["colon"]: Kind("faeces", 32, 0.9, 0.5, (1.2, 3.5), 0.7, 0.7, 0.6),
    CODES["bowel"]: Kind("chyme", 20, 1.0, 0.4, (1.5, 3.5), 0.4, 0.4, 0.3),
    ISLAND: Kind("chyme", 15, 1.0, 0.4, (1.5, 3.5), 0.4, 0.3, 0.2),
}


@dataclass(frozen=True)
class Lumen:
    """The inside of one organ: its voxels, their unevenness in HU, which part of each is gas, and the HU of contrast
    medium instead of the organ's own content."""

    code: int
    content: str
    inside: Where
    uneven_hu: Array
    gas: Array
    contrast_hu: float | None = None

    def paint(self, image: Array, content_hu: float) -> None:
        """Content and gas over the wall's HU, in `image`."""
        hu = np.float32(content_hu if self.contrast_hu is None else self.contrast_hu) + self.uneven_hu
        image[self.inside] = hu + self.gas * (np.float32(BOWEL_GAS_HU) - hu)


def fill(canvas: Canvas, rng: np.random.Generator, lumps: Array, mottle: Array, wide: bool) -> list[Lumen]:
    """Every hollow organ of the canvas; `wide` draws from more than is usual.

    lumps, mottle : fields of standard deviation 1, smooth over 14 and 6 mm.
    """
    _, y, _ = canvas.axes_mm
    forward, sheets = np.broadcast_to((np.float32(-10) - y) * np.float32(1 / 60), lumps.shape), canvas.fields(14.0)
    stretches = canvas.fields(STRETCH_MM)
    out = []
    for code, kind in KINDS.items():
        wall_mm = float(np.exp(rng.uniform(*np.log(kind.wall_mm))))
        flat, above = float(rng.uniform(0, kind.level)), kind.gas_above + rng.normal(0, 1.2 if wide else 0.5)
        uneven = float(kind.mottle_hu * (np.exp(rng.normal(0, 0.6)) if wide else 1))
        bubbly, folded = rng.random() < kind.bubbles, rng.random() < kind.folds
        share, strength = float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.15, 0.9))
        thick, tall = float(rng.uniform(0.05, 0.15)), float(rng.uniform(6, 30))
        blown, empty = rng.random() < kind.blown, float(rng.uniform(0.15, 0.6))
        inside = (canvas.tissue == code) & (canvas.depth_mm > wall_mm)
        if folded:
            inside &= (np.abs(sheets) > thick) | (canvas.depth_mm > tall)
        at = np.nonzero(inside)
        gas = (1 - flat) * lumps[at] + (1 + 2 * flat) * forward[at] > above
        if blown:
            gas |= stretches[at] > np.float32(ndtri(1 - empty))
        part = (gas & (canvas.depth_mm[at] > 2)).astype(np.float32)
        if bubbly:
            field = np.float32(0.8) * canvas.fine[at] + np.float32(0.6) * mottle[at]
            part = np.maximum(part, np.float32(strength) * np.clip(3 * (field - np.float32(ndtri(1 - share))), 0, 1))
        out.append(Lumen(code, kind.content, at, np.float32(uneven) * mottle[at], part))
    return out


def hold_contrast(hollow: Sequence[Lumen], rng: np.random.Generator, share: float) -> list[Lumen]:
    """The same organs, in `share` of the subjects with contrast medium that was drunk, each organ for itself.

    Medium drunk the day before is in the colon, of this morning in the stomach. Where it is, there is often no gas.
    """
    drunk, level = rng.random() < share, float(rng.uniform(*CONTRAST_HU))
    reached, thinned = rng.random(len(hollow)) < REACHED, rng.uniform(0.6, 1.2, len(hollow))
    if not drunk:
        return list(hollow)
    out = []
    for lumen, there, part in zip(hollow, reached, thinned, strict=True):
        if there:
            gas = np.zeros_like(lumen.gas) if rng.random() < DROWNED else lumen.gas
            lumen = replace(lumen, contrast_hu=level * float(part), gas=gas)
        out.append(lumen)
    return out
