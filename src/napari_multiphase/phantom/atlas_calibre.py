"""How wide the great vessels are: a map holds one width, and no smooth deformation widens a vessel alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_tissues import ASCITES, CODES, FLESH, ISLAND, PORTAL_BRANCH, TWIG, VISCERAL


class Calibre(NamedTuple):
    """How a vessel may be wider than its map has it.

    `share` : of subjects; `most_mm` : of radius; `below` : part of it under the kidneys' upper poles.
    """

    share: float
    most_mm: float
    below: float


CALIBRES = {
    IDS_BY_NAME["inferior vena cava"]: Calibre(0.5, 3.5, 0.6),
    IDS_BY_NAME["aorta"]: Calibre(0.3, 4.0, 1.0),
    IDS_BY_NAME["portal and splenic vein"]: Calibre(0.4, 2.5, 1.0),
}
GIVES_WAY = (
    *(VISCERAL, FLESH, ISLAND, TWIG, PORTAL_BRANCH, ASCITES, IDS_BY_NAME["liver"]),
    *(CODES[name] for name in ("muscle", "hepatic vein", "vein", "mesentery")),
)
"""What a wide vessel takes the place of; all else keeps its own."""
BELOW_MM, ABOVE_MM = -35.0, 25.0
"""Levels between which a vessel goes from its width below to that above."""


def widen_vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Some vessels grow into what lies around them, unevenly; changes `canvas.tissue` and its depth there."""
    level = np.clip((canvas.axes_mm[0] - BELOW_MM) / (ABOVE_MM - BELOW_MM), 0, 1)
    for code, calibre in CALIBRES.items():
        wide, growth = rng.random() < calibre.share, float(rng.uniform(0.5, calibre.most_mm))
        found = np.argwhere(canvas.tissue == code)
        if not wide or not len(found):
            continue
        step = canvas.grid.spacing_mm[0]
        margin = int(1.5 * calibre.most_mm / step) + 2
        low, high = np.maximum(found.min(axis=0) - margin, 0), found.max(axis=0) + margin + 1
        where = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        view = canvas.tissue[where]
        away = ndimage.distance_transform_edt(view != code, sampling=canvas.grid.spacing_mm)
        grown = growth * (calibre.below + (1 - calibre.below) * level[where[0]])
        reach = grown * np.clip(1 + 0.3 * canvas.coarse[where], 0.4, 1.5)
        taken = (away > 0) & (away <= reach) & np.isin(view, GIVES_WAY)
        view[taken] = code
        canvas.depth_mm[where][taken] = (reach - away)[taken]
