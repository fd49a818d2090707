"""The panes side by side, as one widget in place of napari's canvas. They read the viewer's layers and change none.

The panes are drawn here, with NumPy and Qt's painter, and are no second napari viewer each: so four of them cost no
copy of any array, no OpenGL context and no private napari interface, a slice of another grid is resampled through the
transform as it is shown, and closing them leaves the viewer untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QGridLayout, QWidget

from napari_multiphase.gui.comparison import MOST_PANES, Comparison
from napari_multiphase.gui.one_view import FASTEST_HZ, Mix
from napari_multiphase.gui.pane import Pane

if TYPE_CHECKING:
    from napari.layers import Layer

_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2}
_MUCH_LARGER = 1.5
_GAP_PX = 2
_EDITED = (
    "data",
    "set_data",
    "paint",
    "labels_update",
    "colormap",
    "contrast_limits",
    "scale",
    "translate",
    "rotate",
    "shear",
    "affine",
)


class Panes(QWidget):
    """Up to four panes, or one that shows two images."""

    def __init__(self, comparison: Comparison, mix: Mix) -> None:
        super().__init__()
        self.comparison, self.mix = comparison, mix
        self.setObjectName("multiphase_panes")
        self.setStyleSheet("#multiphase_panes { background-color: #444444; }")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(_GAP_PX)
        self.panes = [Pane(comparison, view, mix) for view in comparison.views[:MOST_PANES]]
        for pane in self.panes:
            pane.place_chosen.connect(self._show_on_canvas)
        self._flicker = QTimer(self)
        self._flicker.timeout.connect(self._turn)
        self._watched: list[Any] = []
        self._followed = comparison.session.viewer.dims.events.point
        self._jumping = False
        self._columns = 1
        comparison.changed.connect(self._on_change)
        comparison.session.bridge.changed.connect(self._on_session)
        self.lay_out()

    @property
    def in_use(self) -> list[Pane]:
        """The panes that are shown."""
        return self.panes[: 1 if self.mix.mode != "panes" else self.comparison.count]

    def lay_out(self) -> None:
        """Put the panes that are in use side by side, as large as they can be."""
        self.comparison.overlaid = self.mix.mode != "panes"
        used = self.in_use
        for pane in self.panes:
            self._grid.removeWidget(pane)
            pane.setVisible(pane in used)
            pane.refresh()
        self._columns = self._best_columns()
        for number, pane in enumerate(used):
            self._grid.addWidget(pane, number // self._columns, number % self._columns)
        self.keep_time()

    def _best_columns(self) -> int:
        """Side by side, or one above the other where the place is so narrow that this makes them much larger."""
        count = len(self.in_use)
        columns = _COLUMNS[count]
        side = min(self.width() / columns, self.height() * columns / count)
        return 1 if min(self.width(), self.height() / count) > _MUCH_LARGER * side else columns

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Another size may want another arrangement."""
        super().resizeEvent(event)
        if self._best_columns() != self._columns:
            self.lay_out()

    def keep_time(self) -> None:
        """Start or stop the flicker, at its speed."""
        self._flicker.setInterval(round(500 / min(max(self.mix.speed_hz, 0.1), FASTEST_HZ)))
        if self.mix.mode == "flicker" and not self.mix.paused and self.isVisible():
            self._flicker.start()
        else:
            self._flicker.stop()

    def _turn(self) -> None:
        self.mix.second = not self.mix.second
        self.panes[0].refresh()

    def _on_change(self, topic: str) -> None:
        if topic == "contents":
            self._watch_layers()
            for pane in self.panes:
                pane.scene = None  # its layers may be gone
        for pane in self.in_use:
            pane.update() if topic == "cursor" else pane.refresh()

    def _on_session(self, topic: str) -> None:
        if self.isVisible() and topic in ("scans", "study", "transform", "prediction", "refused", "shown"):
            self.comparison.look()

    # --- the viewer ------------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Follow the viewer's layers and slider while in sight."""
        super().showEvent(event)
        viewer = self.comparison.session.viewer
        for emitter in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            emitter.connect(self._on_layers)
        self._followed.connect(self._on_slider)
        self.comparison.look()
        self._on_slider()
        self.keep_time()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Let the viewer alone."""
        super().hideEvent(event)
        self.let_go()

    def let_go(self) -> None:
        """Disconnect from the viewer and its layers."""
        layers = self.comparison.session.viewer.layers
        for emitter in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            emitter.disconnect(self._on_layers)
        self._followed.disconnect(self._on_slider)
        self._unwatch()
        self._flicker.stop()

    def _on_layers(self, _event: object = None) -> None:
        self.comparison.look()

    def _watch_layers(self) -> None:
        self._unwatch()
        if not self.isVisible():
            return
        for layer in self.comparison.session.viewer.layers:
            for name in _EDITED:
                emitter = getattr(layer.events, name, None)
                if emitter is not None:
                    emitter.connect(self._on_edit)
                    self._watched.append(emitter)

    def _unwatch(self) -> None:
        for emitter in self._watched:
            emitter.disconnect(self._on_edit)
        self._watched.clear()

    def _on_edit(self, event: Any) -> None:
        layer: Layer = event.source
        if event.type != "set_data" or type(layer).__name__ == "Labels":  # a scan's set_data: only another slice
            self.comparison.slices.forget(layer)
            for pane in self.in_use:
                pane.refresh()

    def _on_slider(self, _event: object = None) -> None:
        """The canvas went elsewhere: so do the panes."""
        viewer, study = self.comparison.session.viewer, self.comparison.session.study
        if study is not None and not self._jumping and viewer.dims.ndim == 3:
            z, y, x = (float(value) for value in viewer.dims.point)
            self.comparison.come_to((z, y, x))

    def _show_on_canvas(self, point_mm: Any) -> None:
        """A double click: napari's sliders go to a point, because the user asked."""
        viewer = self.comparison.session.viewer
        self._jumping = True
        viewer.dims.set_point(range(3), point_mm)
        self._jumping = False
