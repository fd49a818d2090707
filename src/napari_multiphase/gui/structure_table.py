"""The structures a model found: colour, shown or not, millilitres, HU in each phase, confidence. A click goes there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QTableWidgetItem

from napari_multiphase.gui.line_table import LineTable, swatch
from napari_multiphase.gui.results import Row

_COLUMNS = {
    "Structure": "Tick: shown on the canvas. Click: go there.",
    "ml": "Volume in millilitres, in the fused result",
    "A HU": "Mean HU in the arterial phase",
    "V HU": "Mean HU in the venous phase",
    "sure": "Mean confidence (Eq. 3 of the paper): 0 unsure, 1 sure; not a probability",
}


class StructureTable(LineTable):
    """One row per structure; `on_hidden` gets the ids that are not ticked, `on_chosen` the row that was clicked."""

    def __init__(self, on_hidden: Callable[[frozenset[int]], object], on_chosen: Callable[[Row], object]) -> None:
        super().__init__(_COLUMNS, (40, 40, 40, 34), line_px=22, header_px=26)
        self._on_hidden, self._on_chosen = on_hidden, on_chosen
        self._rows: list[Row] = []
        self._filling = False
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
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
                self.put(line, column, text)
        self.show_lines(max(1, len(rows)))
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


def _ml(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _hu(value: float | None) -> str:
    return "" if value is None else f"{value:z.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
