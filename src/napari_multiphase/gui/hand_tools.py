"""Tools that are used on the canvas: the HU brush, filling a range of HU, growing from a point.

While one is chosen the annotation layer neither pans nor paints by itself; choosing one of napari's own modes puts it
down again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.correcting import Correcting
from napari_multiphase.imaging.editing import brush, grow_from, learn_range

if TYPE_CHECKING:
    from napari.layers import Labels

BRUSH, ERASER, FILL, GROW = "brush", "eraser", "fill", "grow"


@dataclass
class HandSettings:
    """What the fields of the dock say."""

    radius_mm: float = 6.0
    range_hu: tuple[float, float] = (80.0, 180.0)
    connected: bool = True
    most_mm: float = 30.0


class HandTools:
    """Follows one layer at a time. `on_change` is called when napari puts a tool down, and when a range was learnt."""

    def __init__(self, correcting: Correcting, settings: HandSettings, on_change: Callable[[], object]) -> None:
        self._correcting, self.settings, self._on_change = correcting, settings, on_change
        self.tool = ""
        self._layer: Labels | None = None
        self._setting = False

    def follow(self, layer: Labels | None) -> None:
        """Work on this layer from now on."""
        self.choose("")
        self._layer = layer
        if layer is not None:
            layer.mouse_drag_callbacks.append(self._dragged)
            layer.events.mode.connect(self._mode_changed)

    def choose(self, tool: str) -> None:
        """Take up a tool, or none with ""."""
        if tool == self.tool:
            return
        self.tool = tool
        if self._layer is not None:
            self._setting = True
            self._layer.mode = "pan_zoom"
            self._layer.mouse_pan = not tool
            self._layer.cursor = "cross" if tool else "standard"
            self._setting = False

    def _mode_changed(self, _event: Any = None) -> None:
        if self.tool and not self._setting:
            self.tool = ""
            self._on_change()

    def _dragged(self, layer: Labels, event: Any) -> Iterator[None]:
        """What napari calls with press, moves and release."""
        if not self.tool or event.button != 1 or layer is not self._correcting.annotating.layer:
            return
        if self._correcting.annotating.reading or len(event.dims_displayed) != 2:
            return
        at = self._voxel(event)
        if self.tool in (FILL, GROW):
            if at is not None:
                self._grow(at)
            return
        stroke = _Stroke(self, layer, erase=self.tool == ERASER)
        stroke.to(at)
        yield
        while event.type == "mouse_move":
            stroke.to(self._voxel(event))
            yield
        stroke.end()

    def _voxel(self, event: Any) -> tuple[int, int, int] | None:
        at, shape = self._correcting.voxel_of(event.position), self._correcting.annotating.grid.shape
        return at if all(0 <= i < n for i, n in zip(at, shape, strict=True)) else None

    def _grow(self, at: tuple[int, int, int]) -> None:
        """From the voxel that was clicked, in the slice or the volume; the range is learnt there or as given."""
        correcting, settings = self._correcting, self.settings
        annotating = correcting.annotating
        assert annotating.volume is not None and annotating.layer is not None
        hu, spacing = annotating.volume.data, annotating.grid.spacing_mm
        axis = correcting.view_axis() if correcting.in_slice else None
        if self.tool == GROW:
            low, high = learn_range(hu, at, spacing, axis=axis)
            settings.range_hu = (float(round(low)), float(round(high)))
            self._on_change()
        change = grow_from(
            annotating.layer.data, hu, at, spacing, correcting.structure, settings.range_hu, most_mm=settings.most_mm,
            axis=axis, over=correcting.over,
        )  # fmt: skip
        correcting.put(change, "grow from here" if self.tool == GROW else "fill HU range")


class _Stroke:
    """A stroke of the HU brush: shown while it is made, one step of undo when it ends."""

    def __init__(self, tools: HandTools, layer: Labels, *, erase: bool) -> None:
        self._tools, self._layer, self._erase = tools, layer, erase
        self._axis = tools._correcting.view_axis() if tools._correcting.in_slice else None
        self._last: tuple[int, int, int] | None = None
        self._before: list[tuple[tuple[slice, slice, slice], NDArray[np.uint8]]] = []

    def to(self, at: tuple[int, int, int] | None) -> None:
        """The brush moves to a voxel, or off the scan."""
        last, self._last = self._last, at
        if at is None or at == last:
            return
        correcting, settings = self._tools._correcting, self._tools.settings
        annotating = correcting.annotating
        assert annotating.volume is not None
        spacing = annotating.grid.spacing_mm
        change = brush(
            self._layer.data, annotating.volume.data, _between(last or at, at, settings.radius_mm, spacing),
            settings.radius_mm, spacing, correcting.structure, range_hu=settings.range_hu, axis=self._axis,
            connected=settings.connected, erase=self._erase, over=correcting.over,
        )  # fmt: skip
        if change is not None:
            box, after = change
            self._before.append((box, self._layer.data[box].copy()))
            self._layer.data[box] = after
            self._layer.refresh(extent=False, thumbnail=False, highlight=False)

    def end(self) -> None:
        """One edit of all that was painted."""
        if not self._before:
            return
        z, y, x = (
            slice(min(b[a].start for b, _ in self._before), max(b[a].stop for b, _ in self._before)) for a in range(3)
        )
        labels = self._layer.data
        after = labels[z, y, x].copy()
        for box, before in reversed(self._before):
            labels[box] = before
        self._tools._correcting.put(((z, y, x), after), "HU eraser" if self._erase else "HU brush")


def _between(
    start: tuple[int, int, int], end: tuple[int, int, int], radius_mm: float, spacing_mm: tuple[float, float, float]
) -> list[tuple[int, int, int]]:
    """Voxels on the way, near enough to each other for discs that overlap."""
    length = float(np.linalg.norm(np.subtract(end, start) * np.array(spacing_mm)))
    steps = max(1, int(np.ceil(length / max(radius_mm / 2, min(spacing_mm)))))
    places = np.rint(np.linspace(start, end, steps + 1)).astype(int)
    return [(int(z), int(y), int(x)) for z, y, x in np.unique(places, axis=0)]
