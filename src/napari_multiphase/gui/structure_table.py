"""The structures a model found: colour, shown or not, millilitres, HU in each phase, confidence. A click goes there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_multiphase.gui.results import Row
from napari_multiphase.labels import STRUCTURES

_COLUMNS = ("Structure", "ml", "A HU", "V HU", "sure")
_LINE_PX, _HEADER_PX = 22, 26
_WIDTHS_PX = (40, 40, 40, 34)
_TIPS = (
    "Tick: shown on the canvas. Click: go there.",
    "Volume in millilitres, in the fused result",
    "Mean HU in the arterial phase",
    "Mean HU in the venous phase",
    "Mean confidence (Eq. 3 of the paper): 0 unsure, 1 sure; not a probability",
)


class StructureTable(QTableWidget):
    """One row per structure; `on_hidden` gets the ids that are not ticked, `on_chosen` the row that was clicked."""

    def __init__(self, on_hidden: Callable[[frozenset[int]], object], on_chosen: Callable[[Row], object]) -> None:
        super().__init__(0, len(_COLUMNS))
        self._on_hidden, self._on_chosen = on_hidden, on_chosen
        self._rows: list[Row] = []
        self._filling = False
        for column, (title, tip) in enumerate(zip(_COLUMNS, _TIPS, strict=True)):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(column, item)
        header, lines = self.horizontalHeader(), self.verticalHeader()
        assert header is not None and lines is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in enumerate(_WIDTHS_PX, start=1):
            self.setColumnWidth(column, width)
        header.setMinimumSectionSize(30)
        header.setFixedHeight(_HEADER_PX)
        lines.hide()
        lines.setDefaultSectionSize(_LINE_PX)
        self.setShowGrid(False)
        font = self.font()
        font.setPointSizeF(0.92 * font.pointSizeF())
        self.setFont(font)
        self.setWordWrap(False)
        self.setIconSize(QSize(10, 10))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.itemChanged.connect(self._ticked)
        self.cellClicked.connect(lambda line, _column: self._on_chosen(self._rows[line]))
        self.cellActivated.connect(lambda line, _column: self._on_chosen(self._rows[line]))

    def show_rows(self, rows: Sequence[Row], hidden: frozenset[int]) -> None:
        """Replace the table's contents."""
        self._filling = True
        self._rows = list(rows)
        self.setRowCount(len(rows))
        for line, entry in enumerate(rows):
            name = QTableWidgetItem(swatch(entry.label), entry.name)
            name.setFlags(name.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            name.setCheckState(Qt.CheckState.Unchecked if entry.label in hidden else Qt.CheckState.Checked)
            name.setToolTip(f"{entry.name}: click to go there, untick to hide it")
            self.setItem(line, 0, name)
            texts = (_ml(entry.ml), _hu(entry.arterial_hu), _hu(entry.venous_hu), _share(entry.confidence))
            for column, text in enumerate(texts, start=1):
                cell = QTableWidgetItem(text)
                cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(line, column, cell)
        self.setFixedHeight(_HEADER_PX + _LINE_PX * max(1, len(rows)) + 4)
        self._filling = False

    def _ticked(self, _item: QTableWidgetItem) -> None:
        if self._filling:
            return
        unticked = (
            entry.label
            for line, entry in enumerate(self._rows)
            if (item := self.item(line, 0)) is not None and item.checkState() == Qt.CheckState.Unchecked
        )
        self._on_hidden(frozenset(unticked))


def swatch(label: int) -> QIcon:
    """A small square in the colour of the label table."""
    pixmap = QPixmap(10, 10)
    structure = STRUCTURES.get(label)
    pixmap.fill(QColor(*structure.colour) if structure else QColor(150, 150, 150))
    return QIcon(pixmap)


def _ml(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _hu(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
