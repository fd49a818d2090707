"""One pane of the comparison: draws its view, and turns mouse and keys into moves of the comparison."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import (
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_multiphase.gui.comparison import Comparison
from napari_multiphase.gui.one_view import Mix, mixed
from napari_multiphase.gui.pane_brush import Brush
from napari_multiphase.gui.pane_hand import HELP, Hand
from napari_multiphase.gui.pane_paint import AMBER, draw_cursor, draw_missing, draw_slice, draw_words, say
from napari_multiphase.gui.planes import AXIS_OF, OUTSIDE_HU, Frame, Point
from napari_multiphase.gui.scene import Scene, View
from napari_multiphase.labels import name_of

_LOWER_LEFT = int(Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft)


class Pane(QWidget):
    """Draws `view`, or with a mix that overlays two images, both of them.

    `draws` counts how often the slice was composed and drawn.
    """

    share_moved = Signal(float)
    place_chosen = Signal(object)
    """A point (z, y, x) mm of the shared space that the canvas shall show."""
    pause = Signal()

    def __init__(self, comparison: Comparison, view: View, mix: Mix) -> None:
        super().__init__()
        self.comparison, self.view, self.mix = comparison, view, mix
        self.draws = 0
        self.scene: Scene | None = None
        self._base: QPixmap | None = None
        self.brush = Brush(comparison)
        self._hand = Hand(self)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(HELP)
        self.setToolTipDuration(6000)
        self.setAccessibleName("Compare pane")
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)

    # --- drawing ---------------------------------------------------------------------------------------------------

    @property
    def overlaid(self) -> bool:
        """Whether this pane shows two images."""
        return self.mix.mode != "panes"

    @property
    def frame_now(self) -> Frame:
        """Which part of the plane is seen."""
        return self.comparison.frame(self.view, (self.height(), self.width()))

    def refresh(self) -> None:
        """Compose the slice anew when next drawn."""
        self._base = None
        self.update()

    def _compose(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        base = QPixmap(round(self.width() * ratio), round(self.height() * ratio))
        base.setDevicePixelRatio(ratio)
        rect, size = QRectF(0, 0, self.width(), self.height()), (self.height(), self.width())
        self.scene = None
        painter = QPainter(base)
        painter.setFont(self.font())
        if self.comparison.session.study is not None:
            self.scene = mixed(self.comparison, self.mix, size) if self.overlaid else self.comparison.scene(self.view)
        if self.scene is None:
            draw_missing(painter, rect, self._missing())
        else:
            frame = self.frame_now
            line_px = max(1, round(1.5 * ratio))
            contours = self.comparison.contours
            draw_slice(painter, rect, self.scene, frame, contours=contours, ratio=ratio, line_px=line_px)
            draw_words(painter, rect, self.scene, frame, place="")
        painter.end()
        self.draws += 1
        return base

    def _missing(self) -> str:
        views = self.comparison.views[:2] if self.overlaid else [self.view]
        return "\n\n".join(text for view in views if (text := self.comparison.content(view).missing))

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """The slice as composed last, with cursor, values and the swipe's line over it."""
        if self._base is None:
            self._base = self._compose()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._base)
        if self.scene is not None:
            self._draw_cursor(painter)
            if self.mix.mode == "swipe":
                self._draw_line(painter)
        if self.hasFocus():
            painter.setPen(QPen(AMBER, 1))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def _draw_cursor(self, painter: QPainter) -> None:
        assert self.scene is not None
        rect, frame = QRectF(self.rect()), self.frame_now
        at = self.comparison.place(self.view, self.view.point_mm)
        vertical, horizontal = self.scene.plane.shown
        x, y = frame.to_px(at[vertical], at[horizontal])
        axis = self.scene.plane.axis
        off_mm = at[axis] - self.scene.plane.position_mm
        here = abs(off_mm) <= self.scene.plane.grid.spacing_mm[axis] / 2 + 1e-3
        draw_cursor(painter, rect, x, y, here=here)
        layer = None if self.overlaid else self.brush.layer(self.view)
        if layer is not None and here:
            radius = self.brush.radius_mm(layer) / frame.mm_per_px
            painter.drawEllipse(QPointF(x, y), radius, radius)
        font = painter.font()
        font.setPixelSize(13)
        painter.setFont(font)
        words = place_in_words(self.scene) + (self._value(at) if here else f"  |  cursor {abs(off_mm):.0f} mm off")
        say(painter, rect.adjusted(6, 6, -6, -6), _LOWER_LEFT, words, AMBER)

    def _value(self, at: Point) -> str:
        """HU and structure under the cursor."""
        assert self.scene is not None
        plane = self.scene.plane
        index = [round((at[a] - plane.grid.origin_mm[a]) / plane.grid.spacing_mm[a]) for a in plane.shown]
        if not all(0 <= i < n for i, n in zip(index, self.scene.hu.shape, strict=True)):
            return ""
        hu = float(self.scene.hu[index[0], index[1]])
        words = "" if hu <= OUTSIDE_HU else f"  |  {hu:.0f} HU"
        label = int(self.scene.labels[index[0], index[1]]) if self.scene.labels is not None else 0
        return words + (f", {name_of(label)}" if label else "")

    def _draw_line(self, painter: QPainter) -> None:
        painter.setPen(QPen(AMBER, 1.5))
        if self.mix.line == "vertical":
            x = self.mix.share * self.width()
            painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
        else:
            y = self.mix.share * self.height()
            painter.drawLine(QPointF(0, y), QPointF(self.width(), y))

    def resizeEvent(self, _event: QResizeEvent | None) -> None:
        """Another size, another picture."""
        self.refresh()

    # --- mouse and keys --------------------------------------------------------------------------------------------

    def point_at(self, position: QPointF) -> Point:
        """The point of the shared space under a position of the widget."""
        return self.comparison.place_back(self.view, self.own_point(position))

    def own_point(self, position: QPointF) -> Point:
        """The point of the view's own space under a position of the widget."""
        vertical_mm, horizontal_mm = self.frame_now.to_mm(position.x(), position.y())
        plane = self.comparison.plane(self.view)
        point = [plane.position_mm] * 3
        point[plane.shown[0]], point[plane.shown[1]] = vertical_mm, horizontal_mm
        return point[0], point[1], point[2]

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """See `Hand`."""
        if event is not None and self.scene is not None:
            self._hand.press(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """See `Hand`."""
        if event is not None and self.scene is not None:
            self._hand.move(event)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """See `Hand`."""
        if event is not None:
            self._hand.release(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        """Let the canvas show this place."""
        if event is not None and self.scene is not None and event.button() == Qt.MouseButton.LeftButton:
            self.place_chosen.emit(self.point_at(event.position()))

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """See `Hand`."""
        if event is not None and self.scene is not None:
            self._hand.wheel(event)
            event.accept()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """What the mouse does, by keyboard."""
        if event is not None:
            work = self._hand.work_of(event) if self.scene is not None else None
            if work is None:
                event.ignore()
            else:
                work()

    def focusInEvent(self, _event: object) -> None:
        """Say which pane the keys go to."""
        self.update()

    def focusOutEvent(self, _event: object) -> None:
        """No longer this one."""
        self.update()


def place_in_words(scene: Scene) -> str:
    """``"slice 31 of 62, z 120.5 mm"``."""
    plane = scene.plane
    axis = next(name for name, number in AXIS_OF.items() if number == plane.axis)
    at_mm = round(plane.position_mm, 1) + 0.0  # no "-0.0"
    return f"{axis} {plane.index + 1} of {plane.grid.shape[plane.axis]}, {'zyx'[plane.axis]} {at_mm:.1f} mm"
