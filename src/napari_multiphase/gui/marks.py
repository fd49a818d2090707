"""L/R/A/P/S/I on the canvas: which way the patient lies, for whichever axes are shown.

Canonical axes grow towards superior, posterior and left (see `volume`). A view that shows the head-foot axis is
drawn head up, so the camera is turned with the axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.components.overlays import TextOverlay

if TYPE_CHECKING:
    import napari

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
