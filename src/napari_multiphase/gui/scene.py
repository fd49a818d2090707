"""Where a pane looks, and what it draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.planes import Plane, Point


@dataclass
class View:
    """Where a pane looks. Points are (z, y, x) mm in the shared space; a click or a step sets `anchor_mm`."""

    key: str
    point_mm: Point = (0.0, 0.0, 0.0)
    anchor_mm: Point = (0.0, 0.0, 0.0)
    centre_mm: Point = (0.0, 0.0, 0.0)
    zoom: float = 1.0
    window_hu: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """What a pane draws: (h, w) arrays of one plane.

    Attributes
    ----------
    plane : of the pane's own space.
    picture : (h, w) grey levels or (h, w, 3) colours, uint8.
    hu : (h, w) what the picture was made of; `OUTSIDE_HU` outside.
    labels, colours, filled : (h, w) ids, (256, 4) RGBA, and whether they are drawn as areas whatever the overlay.
    confidence : (h, w) encoded confidence.
    titles, window : what the picture shows, and through which HU.
    synthetic : whether a model made (part of) it.
    """

    plane: Plane
    picture: NDArray[np.uint8]
    hu: NDArray[Any]
    titles: tuple[str, ...]
    window: str
    synthetic: bool
    labels: NDArray[Any] | None = None
    colours: NDArray[np.uint8] | None = None
    filled: bool = False
    confidence: NDArray[np.uint8] | None = None
