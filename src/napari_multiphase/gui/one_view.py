"""Two images in one pane: fade, swipe, checkerboard, flicker, on the shared plane through the transform.

Each picture is composed for the slice in view only; `Mix` holds what the dock's controls say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.blend import as_rgb, beyond, checkers, fade, pick
from napari_multiphase.gui.comparison import Comparison
from napari_multiphase.gui.scene import Scene

MODES = {
    "panes": "Side by side",
    "fade": "Fade",
    "swipe": "Swipe",
    "checkerboard": "Checkerboard",
    "flicker": "Flicker",
}
FASTEST_HZ = 3.0
"""Flicker goes no faster: more than three flashes in a second can trigger seizures (WCAG 2.3.1)."""


@dataclass
class Mix:
    """How two images are laid over each other.

    Attributes
    ----------
    mode : a key of `MODES`.
    share : of the second image (fade), or where the line is, as a share of the pane (swipe).
    line : "vertical" or "horizontal", the line of a swipe.
    tile_mm : side of a checkerboard's squares.
    speed_hz : how often in a second the flicker comes back to the first image.
    paused, second : whether the flicker rests, and on which image it is.
    """

    mode: str = "panes"
    share: float = 0.5
    line: str = "vertical"
    tile_mm: float = 30.0
    speed_hz: float = 1.0
    paused: bool = False
    second: bool = False


def mixed(comparison: Comparison, mix: Mix, size_px: tuple[float, float]) -> Scene | None:
    """What the one pane draws; None where one of the two images is missing."""
    one, two = comparison.views[:2]
    first, second = comparison.scene(one), comparison.scene(two)
    if first is None or second is None:
        return None
    shape = first.hu.shape
    titles: tuple[str, ...]
    if mix.mode == "fade":
        far = np.full(shape, mix.share >= 0.5)
        titles = (f"{_share(1 - mix.share)} {first.titles[0]}", f"{_share(mix.share)} {second.titles[0]}")
    elif mix.mode == "swipe":
        axis = 1 if mix.line == "vertical" else 0
        far = _beyond_line(comparison, mix, axis, first, size_px)
        titles = (first.titles[0], second.titles[0])
    elif mix.mode == "checkerboard":
        spacing = [first.plane.grid.spacing_mm[a] for a in first.plane.shown]
        far = checkers(shape, (spacing[0], spacing[1]), mix.tile_mm)
        titles = (first.titles[0], second.titles[0])
    else:
        far = np.full(shape, mix.second)
        titles = (second.titles if mix.second else first.titles)[:1]
    rgb = first.picture.ndim == 3 or second.picture.ndim == 3
    a, b = (as_rgb(scene.picture) if rgb else scene.picture for scene in (first, second))
    picture = fade(a, b, mix.share) if mix.mode == "fade" else pick(a, b, far)
    return Scene(
        first.plane,
        picture,
        pick(first.hu, second.hu, far),
        titles,
        first.window if first.window == second.window else f"{first.window}; {second.window}",
        _synthetic(mix, first, second),
        _both(first.labels, second.labels, far),
        second.colours if first.colours is None else first.colours,
        first.filled or second.filled,
        _both(first.confidence, second.confidence, far, 255),
    )


def _share(share: float) -> str:
    return f"{round(100 * share)} %"


def _synthetic(mix: Mix, first: Scene, second: Scene) -> bool:
    if mix.mode == "flicker":
        return (second if mix.second else first).synthetic
    return first.synthetic or second.synthetic


def _beyond_line(
    comparison: Comparison, mix: Mix, axis: int, scene: Scene, size_px: tuple[float, float]
) -> NDArray[np.bool_]:
    """Voxels right of, or below, the line on the screen."""
    frame, plane = comparison.frame(comparison.views[0], size_px), scene.plane
    at_mm = frame.to_mm(mix.share * size_px[1], mix.share * size_px[0])[axis]
    along = plane.shown[axis]
    line = int(np.ceil((at_mm - plane.grid.origin_mm[along]) / plane.grid.spacing_mm[along]))
    height, width = scene.hu.shape
    far = beyond((height, width), line, axis)
    return ~far if axis == 0 and frame.head_up else far


def _both(first: Any, second: Any, far: NDArray[np.bool_], nothing: int = 0) -> Any:
    """Labels, or confidence, of the image that is seen at each voxel; one that has none gives `nothing` there."""
    if first is None and second is None:
        return None
    empty = np.full(far.shape, nothing, np.uint8)
    return pick(empty if first is None else first, empty if second is None else second, far)
