"""The two lists of the Correct dock: uncertain regions, and the structures with their keys and states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_multiphase.gui.correcting import Region
from napari_multiphase.gui.structure_table import swatch
from napari_multiphase.labels import STRUCTURES, name_of

KEYS = {
    **{label: str(label) for label in range(1, 10)},
    10: "0", 11: "A", 12: "G", 13: "J", 14: "O", 15: "D", 16: "S", 17: "C", 18: "K", 19: "U", 20: "H", 21: "T", 22: "M",
    23: "W",
}  # fmt: skip
"""The key of each structure while the annotation is the active layer. N and R are the dock's; napari's own modes keep
E, P, F, L, Z and X."""
_LINE_PX, _HEADER_PX = 21, 24


class _List(QTableWidget):
    """Lines of text; letters and digits are left to the window, where they choose structures."""

    def __init__(self, columns: Mapping[str, str], widths_px: Sequence[int], lines: int) -> None:
        super().__init__(0, len(columns))
        for column, (title, tip) in enumerate(columns.items()):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(column, item)
        header, rows = self.horizontalHeader(), self.verticalHeader()
        assert header is not None and rows is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in enumerate(widths_px, start=1):
            self.setColumnWidth(column, width)
        header.setMinimumSectionSize(24)
        header.setFixedHeight(_HEADER_PX)
        rows.hide()
        rows.setMinimumSectionSize(_LINE_PX)
        rows.setDefaultSectionSize(_LINE_PX)
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
        self.setFixedHeight(_HEADER_PX + _LINE_PX * lines + 4)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows move; what types a character goes on to the window."""
        if event is not None and event.text().strip():
            event.ignore()
        else:
            super().keyPressEvent(event)

    def _cell(self, line: int, column: int, text: str) -> None:
        cell = QTableWidgetItem(text)
        cell.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setItem(line, column, cell)


class RegionList(_List):
    """Where to look; `on_chosen` gets the line that was clicked."""

    def __init__(self, on_chosen: Callable[[int], object]) -> None:
        columns = {
            "Look at": "The structure it mainly concerns; ticked: reviewed. Click: go there.",
            "ml": "Volume of the region in millilitres",
            "sure": "Mean confidence (Eq. 3 of the paper): 0 unsure, 1 sure; not a probability",
        }
        super().__init__(columns, (52, 44), 6)
        self.cellClicked.connect(lambda line, _column: on_chosen(line))
        self.cellActivated.connect(lambda line, _column: on_chosen(line))

    def show_regions(self, regions: Sequence[Region]) -> None:
        """Replace the list's contents."""
        self.setRowCount(len(regions))
        for line, region in enumerate(regions):
            name = name_of(region.structure) if region.structure else "no structure"
            item = QTableWidgetItem(swatch(region.structure), ("✓ " if region.reviewed else "") + name)
            item.setToolTip(f"{name}, slice {region.centre[0] + 1}: click to go there")
            self.setItem(line, 0, item)
            self._cell(line, 1, f"{region.ml:.2f}" if region.ml < 10 else f"{region.ml:.0f}")
            self._cell(line, 2, f"{region.confidence:.2f}")

    def show_at(self, line: int) -> None:
        """Mark the region at hand."""
        self.blockSignals(True)
        if line < 0:
            self.clearSelection()
        else:
            self.selectRow(line)
        self.blockSignals(False)


class StructureList(_List):
    """What can be edited; `on_chosen` gets the label id that was clicked."""

    def __init__(self, on_chosen: Callable[[int], object]) -> None:
        columns = {
            "Structure": "Click, or press its key: what brush and tools change",
            "key": "Chooses the structure while the annotation is the active layer",
            "state": "How far this structure is",
        }
        super().__init__(columns, (30, 92), 6)
        self.labels: list[int] = list(STRUCTURES)
        self._on_chosen = on_chosen
        self.cellClicked.connect(lambda line, _column: on_chosen(self.labels[line]))
        self.cellActivated.connect(lambda line, _column: on_chosen(self.labels[line]))

    def show_states(self, states: Mapping[int, str]) -> None:
        """All structures of the table, and what else these labels hold."""
        self.labels = sorted({*STRUCTURES, *states})
        self.setRowCount(len(self.labels))
        for line, label in enumerate(self.labels):
            item = QTableWidgetItem(swatch(label), name_of(label))
            item.setToolTip(name_of(label) + (f" (key {KEYS[label]})" if label in KEYS else ""))
            self.setItem(line, 0, item)
            self._cell(line, 1, KEYS.get(label, ""))
            self._cell(line, 2, states.get(label, "not annotated"))

    def show_chosen(self, label: int) -> None:
        """Mark the structure at hand."""
        if label in self.labels:
            self.selectRow(self.labels.index(label))
