"""What to learn from: phantoms, data sets on disk, and the studies that were corrected, each with a check box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QMenu,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_multiphase.gui.dock_parts import button, row, wrapped
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.labels import name_of

if TYPE_CHECKING:
    from napari_multiphase.studies.cases import CaseRow

Kind = Literal["phantoms", "dataset", "study"]
_LEAST_ROWS, _MOST_ROWS = 2, 6
_COUNTED = ("complete", "corrected", "predicted")


@dataclass(frozen=True)
class Source:
    """One line: `structures` and `warning` in words, `key` the path (empty for phantoms)."""

    kind: Kind
    key: str
    title: str
    structures: str
    tip: str
    warning: str = ""


PHANTOMS = Source(
    "phantoms", "", "Phantoms (try it)", "all, exact",
    "Two-phase phantoms with exact labels, made on this computer: to see how training goes without any data",
)  # fmt: skip


def dataset_source(path: Path) -> Source:
    """A data set or case list that the user added."""
    title = path.parent.name if path.name == "dataset.json" else path.stem if path.is_file() else path.name
    missing = "" if path.exists() else "It is not there any more: add it anew."
    return Source("dataset", str(path), title, "as it says", f"Data set {path}; Check data looks into it", missing)


def study_source(case: CaseRow) -> Source:
    """A study of the user's."""
    counts: Counter[str] = Counter(state for by_label in case.states.values() for state in by_label.values())
    words = ", ".join(f"{counts[state]} {state}" for state in _COUNTED if counts[state]) or "not corrected"
    lines = [
        f"{phase}: " + ", ".join(f"{name_of(label)} {state}" for label, state in by_label.items())
        for phase, by_label in case.states.items()
        if by_label
    ]
    tip = "\n".join([f"{case.title}, {' and '.join(case.phases)}", *lines, str(case.folder)])
    return Source("study", str(case.folder), case.title or case.folder.name, words, tip, _warning(case, counts))


def _warning(case: CaseRow, counts: Counter[str]) -> str:
    if case.problem:
        return case.problem
    if case.missing:
        return f"The {' and the '.join(case.missing)} scan is not where it was: put it back."
    if not counts["complete"] and not counts["corrected"]:
        return "Nothing was corrected yet: it would teach the model only what it knows. Correct it first."
    if len(case.phases) < 2:
        return f"Only the {case.phases[0]} scan: methods that read pairs leave it out."
    return ""


class TrainingCases(QWidget):
    """The lines, and buttons that add more. One kind is learned from at a time.

    Parameters
    ----------
    changed : called when what is checked changed.
    again : called when everything is to be looked for and listed anew.
    """

    def __init__(self, changed: Callable[[], object], again: Callable[[], object]) -> None:
        super().__init__()
        self._changed, self._look_again = changed, again
        self._sources: list[Source] = []
        self._items: list[QTreeWidgetItem] = []
        self.tree = QTreeWidget()
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tree.setAccessibleName("Cases to learn from")
        self._header = QHeaderView(Qt.Orientation.Horizontal, self.tree)
        self.tree.setHeader(self._header)
        self.tree.setHeaderLabels(["Learn from", "Structures", ""])
        self._header.setStretchLastSection(False)
        self._header.setMinimumSectionSize(18)
        self._header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self._header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.tree.itemChanged.connect(self._on_check)
        self.warning = wrapped()
        self.add = QPushButton("Add data...")
        self.add.setToolTip("Learn from cases on disk")
        menu = QMenu(self.add)
        menu.addAction("Data set folder (dataset.json)...", self._ask_folder)
        menu.addAction("Case list or dataset.json...", self._ask_file)
        self.add.setMenu(menu)
        self.again = button("Refresh", again, "Look for studies again")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.tree)
        layout.addWidget(self.warning)
        buttons = row(self.add, self.again)
        buttons.addStretch(1)
        layout.addLayout(buttons)

    # --- what is listed ------------------------------------------------------------------------------------------

    def fill(self, studies: Sequence[CaseRow]) -> None:
        """List everything anew; what was checked stays checked."""
        chosen = set(recall("training_cases", {"keys": [PHANTOMS.key]})["keys"])
        added = [dataset_source(Path(path)) for path in recall("training_data", [])]
        self._sources = [*(study_source(case) for case in studies), *added, PHANTOMS]
        self.tree.blockSignals(True)
        self.tree.clear()
        self._items = []
        for source in self._sources:
            item = QTreeWidgetItem([source.title, source.structures, "!" if source.warning else ""])
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(0, Qt.CheckState.Checked if source.key in chosen else Qt.CheckState.Unchecked)
            for column in range(3):
                item.setToolTip(column, f"{source.warning}\n{source.tip}".strip())
            self.tree.addTopLevelItem(item)
            self._items.append(item)
        self.tree.blockSignals(False)
        rows = min(max(len(self._sources), _LEAST_ROWS), _MOST_ROWS)
        line = max(18, self.tree.sizeHintForRow(0))
        self.tree.setFixedHeight(self._header.sizeHint().height() + rows * line + 8)
        self._tell()

    def checked(self) -> list[Source]:
        """What is learned from, all of one kind."""
        return [
            source
            for source, item in zip(self._sources, self._items, strict=True)
            if item.checkState(0) == Qt.CheckState.Checked
        ]

    def check(self, key: str, on: bool = True) -> None:
        """As a click on its box."""
        number = [source.key for source in self._sources].index(key)
        self._items[number].setCheckState(0, Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)

    def reason_not(self) -> str:
        """Why nothing can be learned from what is checked; empty where it can."""
        chosen = self.checked()
        if not chosen:
            return "Check what to learn from first"
        if len(chosen) > 1 and chosen[0].kind != "study":
            return "Check one data set only"
        gone = [source for source in chosen if source.warning and source.kind == "dataset"]
        return gone[0].warning if gone else ""

    # --- what the user does --------------------------------------------------------------------------------------

    def _on_check(self, item: QTreeWidgetItem, column: int) -> None:
        if column:
            return
        number = self.tree.indexOfTopLevelItem(item)
        if item.checkState(0) == Qt.CheckState.Checked:
            kept = self._sources[number]
            self.tree.blockSignals(True)
            for other, source in enumerate(self._sources):
                if other != number and not (source.kind == kept.kind == "study"):
                    self._items[other].setCheckState(0, Qt.CheckState.Unchecked)
            self.tree.blockSignals(False)
        remember("training_cases", {"keys": [source.key for source in self.checked()]})
        self._tell()
        self._changed()

    def _tell(self) -> None:
        """The warnings of what is checked, in sight."""
        warned = [f"{s.title}: {s.warning}" for s in self.checked() if s.warning]
        self.warning.setText("\n".join(warned))
        self.warning.setVisible(bool(warned))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Choose the folder of a data set", recall("last_data", ""))
        if chosen:
            self.add_data(Path(chosen))

    def _ask_file(self) -> None:
        kinds = "Case lists and data sets (*.yaml *.yml *.json)"
        chosen, _ = QFileDialog.getOpenFileName(self, "Choose a case list", recall("last_data", ""), kinds)
        if chosen:
            self.add_data(Path(chosen))

    def add_data(self, path: Path) -> None:
        """List a data set and learn from it."""
        remember("last_data", str(path.parent))
        others = [other for other in recall("training_data", []) if other != str(path)]
        remember("training_data", [str(path), *others][:20])
        remember("training_cases", {"keys": [str(path)]})
        self._look_again()
