"""A table as the docks have it: a few words a line, the first column as wide as there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_multiphase.labels import STRUCTURES


class LineTable(QTableWidget):
    """Lines to choose from, none of which can be typed into.

    Parameters
    ----------
    columns : tooltip by title.
    widths_px : of all columns but the first.
    line_px, header_px : heights.
    """

    def __init__(self, columns: Mapping[str, str], widths_px: Sequence[int], line_px: int, header_px: int) -> None:
        super().__init__(0, len(columns))
        self._line_px, self._header_px = line_px, header_px
        for column, (title, tip) in enumerate(columns.items()):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(column, item)
        header, rows = self.horizontalHeader(), self.verticalHeader()
        assert header is not None and rows is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(24)
        header.setFixedHeight(header_px)
        for column, width in enumerate(widths_px, start=1):
            self.setColumnWidth(column, width)
        rows.hide()
        rows.setMinimumSectionSize(line_px)
        rows.setDefaultSectionSize(line_px)
        font = self.font()
        font.setPointSizeF(0.92 * font.pointSizeF())
        self.setFont(font)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setIconSize(QSize(10, 10))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)

    def show_lines(self, count: int) -> None:
        """Be as high as so many lines."""
        self.setFixedHeight(self._header_px + self._line_px * count + 4)

    def put(self, line: int, column: int, text: str) -> None:
        """Write a figure into a cell, at its right."""
        cell = QTableWidgetItem(text)
        cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setItem(line, column, cell)


def swatch(label: int) -> QIcon:
    """A small square in the colour of the label table."""
    pixmap = QPixmap(10, 10)
    structure = STRUCTURES.get(label)
    pixmap.fill(QColor(*structure.colour) if structure else QColor(150, 150, 150))
    return QIcon(pixmap)
