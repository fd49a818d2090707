"""Curves of a run over its steps: drawn with Qt alone, readable in a dark and in a light theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import heading, wrapped
from napari_multiphase.training.curves import thinned, ticks

HEIGHT_PX = 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 18
LOSS_COLOURS = ("#3f8fd6", "#e08030", "#3fa860", "#b060c0", "#c0504d", "#909030", "#40a0a0")


@dataclass(frozen=True)
class Line:
    """One curve: (step, value) in steps of the whole run; `dashed` on held-out cases."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class _Plot(QWidget):
    def __init__(self, limits: tuple[float, float] | None) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self._limits = limits
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Axes, then the curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(_LEFT, _TOP, -_RIGHT, -_BOTTOM)
        points = [p for line in self.lines for p in line.points if math.isfinite(p[1])]
        last = max((step for step, _ in points), default=1.0) or 1.0
        low, high = self._limits or _around([value for _, value in points])

        def at(step: float, value: float) -> QPointF:
            share = (min(max(value, low), high) - low) / (high - low)
            return QPointF(area.left() + step / last * area.width(), area.bottom() - share * area.height())

        ink = QColor(self.palette().windowText().color())
        faint = QColor(ink)
        faint.setAlpha(45)
        ink.setAlpha(190)
        font = painter.font()
        font.setPointSizeF(max(6.5, font.pointSizeF() - 2))
        painter.setFont(font)
        right, centre = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, Qt.AlignmentFlag.AlignHCenter
        for value in ticks(low, high, 4):
            y = at(0, value).y()
            painter.setPen(faint)
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(ink)
            painter.drawText(QRectF(0, y - 7, _LEFT - 5, 14), right, f"{value:.3g}")
        for step in ticks(0, last, 4):
            x = at(step, low).x()
            box = QRectF(min(x - 30, area.right() - 56), area.bottom() + 3, 60, 14)
            painter.drawText(box, centre if box.left() == x - 30 else right, f"{step:,.0f}")
        for line in self.lines:
            style = Qt.PenStyle.DashLine if line.dashed else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(line.colour), 1.6, style))
            way = [at(*point) for point in thinned(line.points) if math.isfinite(point[1])]
            painter.drawPolyline(QPolygonF(way))
            if len(way) < 12:
                painter.setBrush(QColor(line.colour))
                for point in way:
                    painter.drawEllipse(point, 1.6, 1.6)
                painter.setBrush(Qt.BrushStyle.NoBrush)


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    slack = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return low - slack, high + slack


class RunChart(QWidget):
    """A title, curves over steps, and which is which with its newest value. Hidden while there is no curve."""

    def __init__(self, title: str, tip: str, limits: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.plot, self.words = _Plot(limits), wrapped()
        self.plot.setToolTip(tip)
        self.plot.setAccessibleName(title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for part in (heading(title), self.plot, self.words):
            layout.addWidget(part)
        self.hide()

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Replace what is drawn."""
        lines = [line for line in lines if line.points]
        self.setVisible(bool(lines))
        if lines == self.plot.lines:
            return
        self.plot.lines = lines
        self.plot.update()
        marks = (
            f'<span style="color:{line.colour}">{"&#8209;&nbsp;&#8209;" if line.dashed else "&#8212;"}</span>&nbsp;'
            + f"{line.name} {line.points[-1][1]:.3g}".replace("_", " ").replace(" ", "&nbsp;")
            for line in lines
        )
        self.words.setText(" &nbsp;".join(marks))
