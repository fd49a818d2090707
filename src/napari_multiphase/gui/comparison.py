"""What is compared and from where it is seen: the state of the Compare dock, and the slices its panes draw.

The panes share one place: a point in the space of the fused result's scan (the venous one). A scan of the other phase
is seen through the study's transform, rigid or dense, in one of two ways:

* *moved onto the venous scan* (the default, and always where two images are laid over each other): every pane shows
  the same plane, and what belongs to the other phase is resampled onto it, slice by slice. The same pixel is the same
  anatomy in every pane.
* *as scanned*: a pane shows the other scan's own voxels, in the slice that holds the anatomy of the last click or
  step. The cursor goes to the same anatomy through the transform; where that lies in another slice the pane says so.

The arrays are those of the viewer's layers, never copies; nothing of the viewer is changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_multiphase.gui.blend import difference_rgb, grey
from napari_multiphase.gui.contents import Content, colours_of, contents, overlays, space_of
from napari_multiphase.gui.planes import AXIS_OF, OUTSIDE_HU, Frame, Plane, Point
from napari_multiphase.gui.readout import carried
from napari_multiphase.gui.scene import Scene, View
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.slices import Slices
from napari_multiphase.volume import Grid, Phase

LINKS = ("cursor", "slice", "zoom", "window")
MOST_PANES = 4
MOST_ZOOM = 40.0


class Comparison(QObject):
    """The panes' contents and places. `changed` says "contents", "draw" or "cursor"."""

    changed = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.orientation = "axial"
        self.moved = True
        self.overlaid = False
        self.labels = "own"
        self.contours = True
        self.confidence = False
        self.links: set[str] = set(LINKS)
        self.views = [View(key) for key in ("arterial", "venous", "fused labels", "difference")]
        self.count = 2
        self.known: dict[str, Content] = {}
        self.slices = Slices(session)
        self._seen: tuple[str, Grid] | None = None

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def grid(self) -> Grid:
        """The grid of the shared space."""
        study = self.session.study
        assert study is not None
        return study.volumes[study.fused_phase].grid

    @property
    def shown(self) -> list[View]:
        """The views in use."""
        return self.views[: self.count]

    def look(self) -> None:
        """Find out anew what can be shown."""
        self.known = contents(self.session)
        self.slices.forget()
        study = self.session.study
        if study is not None and (study.id, self.grid) != self._seen:
            self._seen = study.id, self.grid
            self.reset(self.middle_mm)
        self.changed.emit("contents")

    def content(self, view: View) -> Content:
        """What a view shows."""
        return self.known.get(view.key) or Content(view.key, view.key, missing=f"{view.key} is no longer there.")

    # --- where -----------------------------------------------------------------------------------------------------

    def _linked(self, view: View, link: str) -> list[View]:
        return self.views if link in self.links else [view]

    @property
    def middle_mm(self) -> Point:
        """The middle of the shared grid."""
        grid = self.grid
        z, y, x = (o + s * (n - 1) / 2 for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))
        return z, y, x

    def reset(self, point_mm: Point) -> None:
        """All of the slice through a point, in every pane."""
        for view in self.views:
            view.point_mm = view.anchor_mm = point_mm
            view.centre_mm, view.zoom = self.middle_mm, 1.0
        self.changed.emit("draw")

    def come_to(self, point_mm: Point) -> None:
        """Show the slices through a point: in every pane, or in the first where slices are not linked."""
        for view in self._linked(self.views[0], "slice"):
            view.point_mm = view.anchor_mm = point_mm
        self.changed.emit("draw")

    def point_at(self, view: View, point_mm: Point, *, click: bool = False) -> None:
        """The cursor of `view`, and of those linked to it, is at a point of the shared space; `click` makes the panes
        that show a scan as it lies look for the slice with this anatomy."""
        axis = AXIS_OF[self.orientation]
        for other in self._linked(view, "cursor"):
            along = point_mm[axis] if other in self._linked(view, "slice") else other.point_mm[axis]
            other.point_mm = _with(point_mm, axis, along)
            if click:
                other.anchor_mm = other.point_mm
        self.changed.emit("draw" if click else "cursor")

    def go_to(self, view: View, position_mm: float) -> None:
        """Show the slice at a position along the axis that is looked along."""
        axis = AXIS_OF[self.orientation]
        for other in self._linked(view, "slice"):
            other.point_mm = other.anchor_mm = _with(other.point_mm, axis, position_mm)
        self.changed.emit("draw")

    def step(self, view: View, steps: int) -> None:
        """Go `steps` slices of the shared grid towards head, back or left."""
        axis = AXIS_OF[self.orientation]
        self.go_to(view, Plane.at(self.grid, axis, view.anchor_mm).stepped(steps))

    def look_around(self, view: View, centre_mm: Point, zoom: float) -> None:
        """Centre and zoom of `view` and of those linked to it."""
        for other in self._linked(view, "zoom"):
            other.centre_mm, other.zoom = centre_mm, min(max(zoom, 0.2), MOST_ZOOM)
        self.changed.emit("draw")

    def set_window(self, view: View, window_hu: tuple[float, float] | None) -> None:
        """Lowest and highest HU shown by `view` and those linked to it; None for what the layers have."""
        for other in self._linked(view, "window"):
            other.window_hu = window_hu
        self.changed.emit("draw")

    def set_link(self, link: str, on: bool) -> None:
        """Link the views in this respect, with the first one leading, or let each go its own way."""
        if not on:
            self.links.discard(link)
            return
        self.links.add(link)
        lead = self.views[0]
        if link == "zoom":
            self.look_around(lead, lead.centre_mm, lead.zoom)
        elif link == "window":
            self.set_window(lead, lead.window_hu)
        elif link == "slice":
            self.go_to(lead, lead.anchor_mm[AXIS_OF[self.orientation]])
        else:
            self.point_at(lead, lead.point_mm, click=True)

    def change(self, **settings: Any) -> None:
        """Set orientation, moved, labels, contours, confidence or count, and draw."""
        for name, value in settings.items():
            setattr(self, name, value)
        self.changed.emit("draw")

    # --- pictures --------------------------------------------------------------------------------------------------

    def space(self, view: View) -> Phase:
        """The space whose voxels a view shows: its scan's own where scans are shown as they lie."""
        study, image = self.session.study, self.content(view).image
        assert study is not None
        if self.moved or self.overlaid or image is None or self.content(view).minus is not None:
            return study.fused_phase
        return space_of(self.session, image)

    def place(self, view: View, point_mm: Point) -> Point:
        """A point of the shared space as a point of the view's."""
        z, y, x = carried(self.session, self.space(view), point_mm)
        return float(z), float(y), float(x)

    def place_back(self, view: View, point_mm: Point) -> Point:
        """A point of the view's space as a point of the shared one."""
        study = self.session.study
        assert study is not None
        if self.space(view) is study.fused_phase or study.transform is None:
            return point_mm
        ((x, y, z),) = study.transform.map(np.array([point_mm[::-1]], float), study.fused_phase)
        return float(z), float(y), float(x)

    def shifted(self, view: View, point_mm: Point, sign: int = 1) -> Point:
        """A point moved as the anchor moves into the view's space; back with sign -1."""
        to = self.place(view, view.anchor_mm)
        z, y, x = (p + sign * (b - a) for p, a, b in zip(point_mm, view.anchor_mm, to, strict=True))
        return z, y, x

    def plane(self, view: View) -> Plane:
        """The plane a view shows."""
        study = self.session.study
        assert study is not None
        grid = study.volumes[self.space(view)].grid
        return Plane.at(grid, AXIS_OF[self.orientation], self.place(view, view.anchor_mm))

    def frame(self, view: View, size_px: tuple[float, float]) -> Frame:
        """Which part of its plane a view shows in a rectangle of (height, width) pixels."""
        return Frame.of(self.plane(view), self.shifted(view, view.centre_mm), size_px, view.zoom, self.grid)

    def scene(self, view: View, *, bare: bool = False) -> Scene | None:
        """What a view draws, or None where its content is missing; `bare` leaves the overlays out."""
        content = self.content(view)
        if content.missing:
            return None
        plane, space = self.plane(view), self.space(view)
        window = self.window_of(view)
        if content.image is None:
            height, width = (plane.grid.shape[axis] for axis in plane.shown)
            hu: NDArray[Any] = np.full((height, width), OUTSIDE_HU, np.float32)
        else:
            hu = self.slices.cut(content.image, plane, space, 1, OUTSIDE_HU)
        if content.minus is None:
            picture, said = grey(hu, window), f"{window[0]:.0f} to {window[1]:.0f} HU"
        else:
            other = self.slices.cut(content.minus, plane, space, 1, OUTSIDE_HU)
            seen_by_both = (hu > OUTSIDE_HU) & (other > OUTSIDE_HU)
            hu = np.where(seen_by_both, hu.astype(np.float32) - other, 0)
            largest = (window[1] - window[0]) / 2
            picture, said = difference_rgb(hu, largest), f"-{largest:.0f} (blue) to {largest:.0f} HU (orange)"
        layers = {} if bare else self._overlays(content, plane, space)
        return Scene(plane, picture, hu, (content.title,), said, content.synthetic, **layers)

    def window_of(self, view: View) -> tuple[float, float]:
        """(lowest, highest) HU a view shows."""
        image = self.content(view).image
        if view.window_hu is not None or image is None:
            return view.window_hu or (-160.0, 240.0)
        low, high = image.contrast_limits
        return float(low), float(high)

    def _overlays(self, content: Content, plane: Plane, space: Phase) -> dict[str, Any]:
        labels, confidence = overlays(self.session, content, self.labels)
        made: dict[str, Any] = {"filled": content.labels is not None}
        if labels is not None and self.slices.grid_of(labels) is not None:
            made["labels"] = self.slices.cut(labels, plane, space, 0, 0)
            made["colours"] = colours_of(labels)
        if self.confidence and confidence is not None:
            made["confidence"] = self.slices.cut(confidence, plane, space, 0, 255)
        return made


def _with(point_mm: Point, axis: int, along: float) -> Point:
    z, y, x = (along if a == axis else value for a, value in enumerate(point_mm))
    return z, y, x
