"""HU of one structure in several images, as curves: drawn with Qt alone, readable in a dark and in a light theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import wrapped

HEIGHT_PX = 150
_COLOURS = {"arterial": "#d9534f", "venous": "#3f8fd6"}
_LEFT, _TOP, _BOTTOM, _RIGHT = 30, 8, 20, 16
_KEPT = 0.999
"""Share of the voxels that the axis shows."""


@dataclass(frozen=True)
class Curve:
    """One image: `share` of the structure's voxels in each bin, and their mean and standard deviation in HU."""

    name: str
    share: Sequence[float]
    mean_hu: float
    sd_hu: float

    @property
    def colour(self) -> str:
        """By phase."""
        return next((colour for phase, colour in _COLOURS.items() if phase in self.name), "#888888")

    @property
    def synthetic(self) -> bool:
        """Drawn with dashes."""
        return self.name.startswith("synthetic")


def curves_of(row: Mapping[str, Any]) -> list[Curve]:
    """The curves of one structure, as in the "structures" of the figures; real ones first."""
    made = [Curve(name, hu["share"], hu["mean_hu"], hu["sd_hu"]) for name, hu in row["hu"].items()]
    return sorted(made, key=lambda curve: (curve.synthetic, curve.name))


class Histogram(QWidget):
    """The curves over HU; solid for real scans, dashed for synthetic images."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: list[Curve] = []
        self._edges = np.zeros(0)
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_curves(self, curves: Sequence[Curve], edges_hu: Sequence[float]) -> None:
        """Replace what is drawn; `edges_hu` are one more than the bins."""
        self.curves, self._edges = list(curves), np.asarray(edges_hu, float)
        self.update()

    def span_hu(self) -> tuple[float, float]:
        """The HU that the axis shows: what holds nearly all voxels of every curve."""
        shares = np.sum([curve.share for curve in self.curves], axis=0)
        total = np.cumsum(shares) / max(float(np.sum(shares)), 1e-9)
        first = max(0, int(np.searchsorted(total, (1 - _KEPT) / 2)) - 1)
        last = min(len(total), int(np.searchsorted(total, (1 + _KEPT) / 2)) + 2)
        return float(self._edges[first]), float(self._edges[last])

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw axis and curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(0.8 * font.pointSizeF())
        painter.setFont(font)
        if self.curves:
            area = QRectF(
                _LEFT, _TOP, self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM
            )  # fmt: skip
            self._draw(painter, area)
        painter.end()

    def _draw(self, painter: QPainter, area: QRectF) -> None:
        low, high = self.span_hu()
        most = max(max(curve.share) for curve in self.curves) or 1.0
        ink = self.palette().color(self.foregroundRole())
        quiet = QColor(ink)
        quiet.setAlpha(90)
        painter.setPen(QPen(quiet, 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.drawLine(area.bottomLeft(), area.topLeft())
        for hu in ticks(low, high):
            x = area.left() + (hu - low) / (high - low) * area.width()
            painter.setPen(QPen(quiet, 1))
            painter.drawLine(QPointF(x, area.bottom()), QPointF(x, area.bottom() + 3))
            painter.setPen(ink)
            painter.drawText(
                QRectF(x - 30, area.bottom() + 3, 60, _BOTTOM - 3), Qt.AlignmentFlag.AlignHCenter, f"{hu:g}"
            )  # fmt: skip
        painter.setPen(ink)
        painter.drawText(QRectF(0, area.top() - 4, _LEFT - 4, 14), Qt.AlignmentFlag.AlignRight, f"{100 * most:.0f}%")
        painter.drawText(QRectF(area.left() + 4, area.top() - 6, 80, 14), Qt.AlignmentFlag.AlignLeft, "share")
        painter.drawText(QRectF(area.right() - 40, area.bottom() - 16, 40, 14), Qt.AlignmentFlag.AlignRight, "HU")
        middles = (self._edges[:-1] + self._edges[1:]) / 2
        painter.setClipRect(area.adjusted(0, -2, 0, 0))
        for curve in self.curves:
            style = Qt.PenStyle.DashLine if curve.synthetic else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(curve.colour), 2, style))
            points = [
                QPointF(
                    area.left() + (hu - low) / (high - low) * area.width(),
                    area.bottom() - share / most * area.height(),
                )
                for hu, share in zip(middles, curve.share, strict=True)
            ]
            painter.drawPolyline(QPolygonF(points))


def ticks(low: float, high: float) -> list[float]:
    """Round HU between two ends, four to eight of them."""
    step = next(s for s in (10, 20, 25, 50, 100, 200, 500, 1000, 5000) if (high - low) / s <= 7)
    return [float(hu) for hu in np.arange(np.ceil(low / step) * step, high + 1e-6, step)]


class StructureHistograms(QWidget):
    """A chooser of structures over their histogram, and the means in words."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Mapping[str, Any]] = []
        self._edges: Sequence[float] = ()
        self.chooser = QComboBox()
        self.chooser.setToolTip("The structure whose HU are shown")
        self.chooser.setAccessibleName("Structure")
        self.plot = Histogram()
        self.words = wrapped()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.chooser, self.plot, self.words):
            layout.addWidget(part)
        self.chooser.currentIndexChanged.connect(lambda _index: self._show())

    def show_structures(self, rows: Sequence[Mapping[str, Any]], edges_hu: Sequence[float]) -> None:
        """Replace the structures; the one that was chosen stays chosen where it is still there."""
        chosen = self.chooser.currentText()
        self._rows, self._edges = list(rows), edges_hu
        self.chooser.blockSignals(True)
        self.chooser.clear()
        self.chooser.addItems([str(row["name"]) for row in rows])
        self.chooser.setCurrentIndex(max(0, self.chooser.findText(chosen)))
        self.chooser.blockSignals(False)
        self._show()

    def _show(self) -> None:
        index = self.chooser.currentIndex()
        curves = curves_of(self._rows[index]) if 0 <= index < len(self._rows) else []
        self.plot.show_curves(curves, self._edges)
        lines = [
            f'<span style="color:{c.colour}">{"- -" if c.synthetic else "&#8212;"}</span> '
            f"{c.name}: {c.mean_hu:.0f} &plusmn; {c.sd_hu:.0f} HU"
            for c in curves
        ]
        self.words.setText("<br>".join(lines))
