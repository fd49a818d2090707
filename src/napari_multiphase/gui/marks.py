"""What is written on the canvas: L/R/A/P/S/I, which way the patient lies, and SYNTHETIC where a model made the image.

Canonical axes grow towards superior, posterior and left (see `volume`). A view that shows the head-foot axis is
drawn head up, so the camera is turned with the axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from napari.components.overlays import TextOverlay

from napari_multiphase.gui.layers import ours
from napari_multiphase.volume import Source

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

TOWARDS = ("S", "P", "L")
"""Letter at the far end of each canonical axis; `AWAY` is the near end."""
AWAY = ("I", "A", "R")
_PLACES = {"left": "middle_left", "right": "middle_right", "top": "top_center", "bottom": "bottom_center"}
_AMBER, _SHADE = (1.0, 0.82, 0.35, 1.0), (0.0, 0.0, 0.0, 0.45)
_KEY = "multiphase_{}"


def letters(displayed: tuple[int, ...], orientation: tuple[str, str]) -> dict[str, str]:
    """The four letters of a 2-D view: by border, for the displayed (vertical, horizontal) axes and camera directions.

    `orientation` is where the axes grow to: ("down" or "up", "right" or "left"). Empty strings in 3-D.
    """
    if len(displayed) != 2:
        return dict.fromkeys(_PLACES, "")
    vertical, horizontal = displayed
    ends = {"down": ("top", "bottom"), "up": ("bottom", "top"), "right": ("left", "right"), "left": ("right", "left")}
    marks = {}
    for axis, direction in ((vertical, orientation[0]), (horizontal, orientation[1])):
        near, far = ends[direction]
        marks[near], marks[far] = AWAY[axis], TOWARDS[axis]
    return marks


def upright(displayed: tuple[int, ...]) -> tuple[str, str]:
    """Camera directions of the radiological view: head up, or anterior up; the patient's left at the right."""
    return ("up" if displayed[0] == 0 else "down", "right")


class OrientationMarks:
    """Four letters kept true while axes and camera change. One per viewer; holds no reference to any study."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        for border, place in _PLACES.items():
            overlay = TextOverlay(text="", position=place, font_size=13, color=_AMBER, box=True, box_color=_SHADE)
            viewer.canvas.overlays[_KEY.format(border)] = overlay
        viewer.dims.events.order.connect(self._turn)
        viewer.dims.events.ndisplay.connect(self._turn)
        viewer.scene.camera.events.orientation.connect(self.update)
        viewer.layers.events.inserted.connect(self.update)
        viewer.layers.events.removed.connect(self.update)
        self.update()

    def _turn(self, _event: object = None) -> None:
        displayed = tuple(self._viewer.dims.displayed)
        if self._applies() and len(displayed) == 2:
            self._viewer.scene.camera.orientation2d = upright(displayed)
        self.update()

    def _applies(self) -> bool:
        """Only for our own 3-D layers: other people's images have axes of their own."""
        layers = self._viewer.layers
        return self._viewer.dims.ndim == 3 and any("multiphase" in layer.metadata for layer in layers)

    def update(self, _event: object = None) -> None:
        """Write the letters of the current view."""
        displayed = tuple(self._viewer.dims.displayed) if self._applies() else ()
        orientation = tuple(str(getattr(d, "value", d)) for d in self._viewer.scene.camera.orientation2d)
        for border, text in letters(displayed, (orientation[0], orientation[1])).items():
            overlay = self._viewer.canvas.overlays[_KEY.format(border)]
            overlay.text = text
            overlay.visible = bool(text)


SYNTHETIC = "SYNTHETIC"
_GLYPHS = "SYNTHETIC REAL MINUS arterial venous blue red HU,+-0123456789"


def warning_of(layers: Iterable[Layer]) -> str:
    """What must be said of the visible ones among `layers`: that a model made an image, what a difference shows."""
    shown = [layer for layer in layers if layer.visible]
    made = {str(ours(layer).get("phase", "")) for layer in shown if is_synthetic(layer)}
    lines = [" ".join([SYNTHETIC, *sorted(made - {""})])] if made else []
    for layer in shown:
        if ours(layer).get("kind") == "difference":
            low, high = layer.contrast_limits
            lines += ["REAL MINUS SYNTHETIC", f"blue {low:.0f} HU, red {high:+.0f} HU"]
    return "\n".join(lines)


def is_synthetic(layer: Layer) -> bool:
    """Whether a layer of ours shows an image that a model made, here or before it was opened."""
    mine = ours(layer)
    if mine.get("kind") == "synthetic":
        return True
    return mine.get("kind") == "ct" and "source" in mine and Source.from_dict(mine["source"]).synthetic


class SyntheticMark:
    """The words of `warning_of` in a corner of the canvas, kept true while layers come, go, hide and change limits."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._overlay = TextOverlay(
            text="", position="top_left", font_size=12, color=_AMBER, box=True, box_color=_SHADE, visible=False
        )
        viewer.canvas.overlays[_KEY.format("synthetic")] = self._overlay
        for layer in viewer.layers:
            self._watch(layer)
        viewer.layers.events.inserted.connect(lambda event: self._watch(event.value))
        viewer.layers.events.removed.connect(self.update)

    def _watch(self, layer: Layer) -> None:
        layer.events.visible.connect(self.update)
        if ours(layer).get("kind") == "difference":
            layer.events.contrast_limits.connect(self.update)
        self.update()

    def warm(self) -> None:
        """Draw every glyph once, unseen, so that the first synthetic image need not wait for them (0.2 s); `update`
        takes them away."""
        self._overlay.text, self._overlay.color, self._overlay.box = _GLYPHS, (0.0, 0.0, 0.0, 0.0), False
        self._overlay.visible = True

    def update(self, _event: Any = None) -> None:
        """Write what must be said now."""
        self._overlay.color, self._overlay.box = _AMBER, True
        text = warning_of(self._viewer.layers)
        if text != self._overlay.text or self._overlay.visible != bool(text):
            self._overlay.text = text
            self._overlay.visible = bool(text)
