"""What mouse and keys do in a pane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence, QMouseEvent, QWheelEvent

if TYPE_CHECKING:
    from napari_multiphase.gui.pane import Pane

HELP = (
    "Wheel or Up/Down: slice. Ctrl+wheel or +/-: zoom. Drag: move. Right drag: window (across width, up level). "
    "Click: set the cursor. Double click or Return: show this place on napari's canvas. Home: see all. "
    "With napari's brush or eraser chosen for a label layer that the pane shows, dragging paints."
)
_GRIP_PX = 8
_HU_PER_PX = 2.0
_ZOOM_STEP = 1.25
_WHEEL = 120


class Hand:
    """Turns a pane's events into moves of its comparison."""

    def __init__(self, pane: Pane) -> None:
        self._pane = pane
        self._held: tuple[str, QPointF] | None = None
        self._moved_far = False
        self._wheel = 0.0

    def on_line(self, position: QPointF) -> bool:
        """Whether a position is on the line of a swipe."""
        mix, pane = self._pane.mix, self._pane
        if mix.mode != "swipe":
            return False
        vertical = mix.line == "vertical"
        at = position.x() - mix.share * pane.width() if vertical else position.y() - mix.share * pane.height()
        return abs(at) <= _GRIP_PX

    def press(self, event: QMouseEvent) -> None:
        """Left moves the picture or the swipe's line, or paints; right changes the window."""
        pane, position = self._pane, event.position()
        self._moved_far = False
        if event.button() == Qt.MouseButton.RightButton:
            self._held = ("window", position)
        elif event.button() == Qt.MouseButton.LeftButton:
            layer = None if pane.overlaid else pane.brush.layer(pane.view)
            self._held = ("line" if self.on_line(position) else "move" if layer is None else "brush", position)
            if layer is not None and self._held[0] == "brush":
                pane.brush.press(layer)
                self._paint(position, position)

    def move(self, event: QMouseEvent) -> None:
        """The cursor goes along in all linked panes; what is held is dragged."""
        pane, position = self._pane, event.position()
        if self._held is None:
            split = Qt.CursorShape.SplitHCursor if pane.mix.line == "vertical" else Qt.CursorShape.SplitVCursor
            pane.setCursor(split if self.on_line(position) else Qt.CursorShape.CrossCursor)
            pane.comparison.point_at(pane.view, pane.point_at(position))
            return
        what, before = self._held
        step = position - before
        if what == "brush":
            self._held = (what, position)
            self._paint(before, position)
        elif self._moved_far or abs(step.x()) + abs(step.y()) >= 3:
            self._moved_far = True
            self._held = (what, position)
            self._drag(what, position, step)

    def _drag(self, what: str, position: QPointF, step: QPointF) -> None:
        pane = self._pane
        if what == "line":
            vertical = pane.mix.line == "vertical"
            share = position.x() / pane.width() if vertical else position.y() / pane.height()
            pane.share_moved.emit(min(max(share, 0.0), 1.0))
        elif what == "window":
            low, high = pane.comparison.window_of(pane.view)
            middle, width = (low + high) / 2 - _HU_PER_PX * step.y(), max(high - low + _HU_PER_PX * step.x(), 10)
            pane.comparison.set_window(pane.view, (middle - width / 2, middle + width / 2))
        else:
            self._pan(step.x(), step.y())

    def _paint(self, start: QPointF, end: QPointF) -> None:
        pane = self._pane
        layer = pane.brush.layer(pane.view)
        if layer is not None:
            pane.brush.move(pane.view, layer, pane.own_point(start), pane.own_point(end))

    def _pan(self, x: float, y: float) -> None:
        pane = self._pane
        frame, plane = pane.frame_now, pane.comparison.plane(pane.view)
        centre = list(pane.view.centre_mm)
        centre[plane.shown[0]] -= y * frame.mm_per_px * (-1 if frame.head_up else 1)
        centre[plane.shown[1]] -= x * frame.mm_per_px
        pane.comparison.look_around(pane.view, (centre[0], centre[1], centre[2]), pane.view.zoom)

    def release(self, event: QMouseEvent) -> None:
        """A stroke ends; a click that moved nothing sets the cursor."""
        pane = self._pane
        pane.brush.release()
        if self._held is not None and self._held[0] == "move" and not self._moved_far and pane.scene is not None:
            pane.comparison.point_at(pane.view, pane.point_at(event.position()), click=True)
        self._held = None

    def wheel(self, event: QWheelEvent) -> None:
        """Slices, or with Ctrl zoom around the cursor."""
        turned = event.angleDelta().y() / _WHEEL
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom(_ZOOM_STEP**turned, event.position())
        else:
            self._wheel += turned
            steps = int(self._wheel)
            self._wheel -= steps
            if steps:
                self._pane.comparison.step(self._pane.view, steps)

    def zoom(self, factor: float, around: QPointF) -> None:
        """Larger or smaller; what lies at `around` stays there."""
        pane, comparison, view = self._pane, self._pane.comparison, self._pane.view
        before = pane.frame_now.to_mm(around.x(), around.y())
        comparison.look_around(view, view.centre_mm, view.zoom * factor)
        after = pane.frame_now.to_mm(around.x(), around.y())
        centre = list(view.centre_mm)
        for axis, a, b in zip(comparison.plane(view).shown, before, after, strict=True):
            centre[axis] += a - b
        comparison.look_around(view, (centre[0], centre[1], centre[2]), view.zoom)

    def work_of(self, event: QKeyEvent) -> Callable[[], object] | None:
        """What a key does here, or None."""
        pane, key = self._pane, Qt.Key
        undo, redo = (event.matches(which) for which in (QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo))
        layer = pane.brush.layer(pane.view) if undo or redo else None
        if layer is not None:
            return layer.undo if undo else layer.redo
        middle, view, comparison = QPointF(pane.rect().center()), pane.view, pane.comparison
        work: dict[int, Callable[[], object]] = {
            key.Key_Up: lambda: comparison.step(view, 1),
            key.Key_Down: lambda: comparison.step(view, -1),
            key.Key_PageUp: lambda: comparison.step(view, 10),
            key.Key_PageDown: lambda: comparison.step(view, -10),
            key.Key_Plus: lambda: self.zoom(_ZOOM_STEP, middle),
            key.Key_Equal: lambda: self.zoom(_ZOOM_STEP, middle),
            key.Key_Minus: lambda: self.zoom(1 / _ZOOM_STEP, middle),
            key.Key_Home: lambda: comparison.look_around(view, comparison.middle_mm, 1.0),
            key.Key_Left: lambda: pane.share_moved.emit(max(0.0, pane.mix.share - 0.02)),
            key.Key_Right: lambda: pane.share_moved.emit(min(1.0, pane.mix.share + 0.02)),
            key.Key_Space: pane.pause.emit,
            key.Key_Return: lambda: pane.place_chosen.emit(view.point_mm),
        }
        return work.get(event.key())
