"""The two lists of the Correct dock: uncertain regions, and the structures with their keys and states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QComboBox, QTableWidgetItem

from napari_multiphase.gui.correcting import Region
from napari_multiphase.gui.line_table import LineTable, swatch
from napari_multiphase.labels import STRUCTURES, name_of

KEYS = {
    **{label: str(label) for label in range(1, 10)},
    10: "0", 11: "A", 12: "G", 13: "J", 14: "O", 15: "D", 16: "S", 17: "C", 18: "K", 19: "U", 20: "H", 21: "T", 22: "M",
    23: "W",
}  # fmt: skip
"""The key of each structure while the annotation is the active layer. N and R are the dock's; napari's own modes keep
E, P, F, L, Z and X."""


class _List(LineTable):
    """Lines of text; letters and digits are left to the window, where they choose structures."""

    def __init__(self, columns: Mapping[str, str], widths_px: Sequence[int]) -> None:
        super().__init__(columns, widths_px, line_px=21, header_px=24)
        self.show_lines(6)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows move; what types a character goes on to the window."""
        if event is not None and event.text().strip():
            event.ignore()
        else:
            super().keyPressEvent(event)


class RegionList(_List):
    """Where to look; `on_chosen` gets the line that was clicked."""

    def __init__(self, on_chosen: Callable[[int], object]) -> None:
        columns = {
            "Look at": "The structure it mainly concerns; ticked: reviewed. Click: go there.",
            "ml": "Volume of the region in millilitres",
            "sure": "Mean confidence (Eq. 3 of the paper): 0 unsure, 1 sure; not a probability",
        }
        super().__init__(columns, (52, 44))
        self.cellClicked.connect(lambda line, _column: on_chosen(line))
        self.cellActivated.connect(lambda line, _column: on_chosen(line))

    def show_regions(self, regions: Sequence[Region]) -> None:
        """Replace the list's contents."""
        self.setRowCount(len(regions))
        for line, region in enumerate(regions):
            name = _concerned(region.structure)
            item = QTableWidgetItem(swatch(region.structure), ("✓ " if region.reviewed else "") + name)
            item.setToolTip(f"{name}, slice {region.centre[0] + 1}: click to go there")
            self.setItem(line, 0, item)
            self.put(line, 1, f"{region.ml:.2f}" if region.ml < 10 else f"{region.ml:.0f}")
            self.put(line, 2, f"{region.confidence:.2f}")

    def show_at(self, line: int) -> None:
        """Mark the region at hand."""
        self.blockSignals(True)
        if line < 0:
            self.clearSelection()
        else:
            self.selectRow(line)
        self.blockSignals(False)


def offer_regions(box: QComboBox, found: Sequence[Region], only: int | None) -> None:
    """Offer all regions (data None), then those of each structure (its label id; 0: none), and how many are left."""
    left = Counter(region.structure for region in found if not region.reviewed)
    box.clear()
    box.addItem(f"Uncertain: {left.total()} of {len(found)} left", None)
    for label in sorted({region.structure for region in found}):
        box.addItem(swatch(label), f"{_concerned(label)}: {left[label]} left", label)
    box.setCurrentIndex(0 if only is None else box.findData(only))
    view = box.view()
    assert view is not None
    view.setMinimumWidth(view.sizeHintForColumn(0) + 24)  # the list is wider than the box where names are long


def _concerned(structure: int) -> str:
    return name_of(structure) if structure else "no structure"


class StructureList(_List):
    """What can be edited; `on_chosen` gets the label id that was clicked."""

    def __init__(self, on_chosen: Callable[[int], object]) -> None:
        columns = {
            "Structure": "Click, or press its key: what brush and tools change",
            "key": "Chooses the structure while the annotation is the active layer",
            "state": "How far this structure is",
        }
        super().__init__(columns, (30, 92))
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
            self.put(line, 1, KEYS.get(label, ""))
            self.put(line, 2, states.get(label, "not annotated"))

    def show_chosen(self, label: int) -> None:
        """Mark the structure at hand."""
        if label in self.labels:
            self.selectRow(self.labels.index(label))
