"""What came of translating: figures against the real scan, whose labels they use, HU per structure, notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import allow, button, heading, row, wrapped
from napari_multiphase.gui.figures import Figures
from napari_multiphase.gui.histogram import StructureHistograms
from napari_multiphase.gui.remember import recall
from napari_multiphase.gui.results import as_sentence
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.translating import PREDICTION, Labels, Result, Translating
from napari_multiphase.volume import Phase

_MEASURE_TIP = "Compare the synthetic image with the real scan as they lie now"
_LABELS_TIP = "Whose labels tell the structures apart, for the histograms and the S-score"
_ASK = "ask"


class TranslationResults(QWidget):
    """The results of the direction `to()`."""

    def __init__(self, session: Session, translating: Translating, to: Callable[[], Phase]) -> None:
        super().__init__()
        self._session, self._translating, self._to = session, translating, to
        self._files: list[Path] = []
        self.title = heading("")
        self.figures, self.aligned = Figures(), wrapped(faint=True)
        self.labels = QComboBox()
        self.labels.setToolTip(_LABELS_TIP)
        self.labels.setAccessibleName("Labels")
        self.labels.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.labels.setMinimumContentsLength(8)
        self.labels.activated.connect(lambda _index: self._labels_chosen())
        self.measure = button("Measure", self._measure, _MEASURE_TIP)
        self.labels_row = QWidget()
        self.labels_row.setLayout(row(QLabel("Labels"), self.labels, self.measure, stretch=1))
        self.stale = wrapped()
        self.structures_title, self.structures = heading("HU per structure"), StructureHistograms()
        self.notes = wrapped(faint=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        parts = (self.title, self.figures, self.stale, self.labels_row, self.aligned)
        for part in (*parts, self.structures_title, self.structures, self.notes):
            layout.addWidget(part)

    def chosen_labels(self) -> Labels:
        """Whose labels tell the structures apart."""
        chosen: Labels = self.labels.currentData()
        return chosen

    def add_labels(self, path: Path) -> None:
        """Use the labels of a file, which lie on the scan that is translated."""
        if path not in self._files:
            self._files.append(path)
        self.fill_labels(path)

    def forget(self) -> None:
        """Another study is open."""
        self._files = []
        self.fill_labels()

    def fill_labels(self, chosen: Labels = None) -> None:
        """Offer the labels there are; `chosen`, or the first of them."""
        by = self._translating.predicted_by
        self.labels.clear()
        if by:
            self.labels.addItem(f"by {by}", PREDICTION)
        for path in self._files:
            self.labels.addItem(path.name, path)
        self.labels.addItem("none", None)
        self.labels.addItem("from a file...", _ASK)
        wanted = (i for i in range(self.labels.count()) if chosen and self.labels.itemData(i) == chosen)
        self.labels.setCurrentIndex(next(wanted, 0))

    def _labels_chosen(self) -> None:
        if self.labels.currentData() == _ASK:
            title = f"Labels of the {self._to().other} scan"
            name, _ = QFileDialog.getOpenFileName(self, title, recall("last_folder", ""))
            if not name:
                self.fill_labels()
                return
            self.add_labels(Path(name))
        self._translating.outdated("Other labels were chosen: measure to use them.")
        self.fill()

    def _measure(self) -> None:
        self._translating.measure(self._to(), self.chosen_labels())

    def on_busy(self, busy: str) -> None:
        """What is running, or nothing."""
        allow(self.measure, busy, _MEASURE_TIP)

    def fill(self) -> None:
        """Show what there is for this direction."""
        study, to = self._session.study, self._to()
        result = self._translating.results.get(to)
        both = study is not None and to in study.volumes
        told = result.figures if result is not None else None
        self.title.setText(f"Against the real {to} scan" if both else f"Synthetic {to} image")
        self.title.setVisible(result is not None)
        self.figures.setVisible(told is not None)
        self.aligned.setVisible(told is not None)
        self.labels_row.setVisible(result is not None and both)
        self.stale.setText(result.stale if result is not None else "")
        self.stale.setVisible(bool(self.stale.text()))
        if result is not None and told is not None:
            self.figures.show_figures(told, to.other, to, result.labels_words)
            self.aligned.setText(as_sentence(told["aligned"]["sentence"]))
        rows = self._structure_rows()
        self.structures_title.setVisible(bool(rows))
        self.structures.setVisible(bool(rows))
        if rows and told is not None:
            self.structures.show_structures(rows, told["structures"]["edges_hu"])
        self.notes.setText("\n".join(as_sentence(note) for note in result.translation.notes) if result else "")
        self.notes.setVisible(result is not None)

    def _structure_rows(self) -> list[dict[str, Any]]:
        """Structures of this direction's figures, with the synthetic image of the other direction where it is there."""
        rows = _rows(self._translating.results.get(self._to()))
        other = {row["id"]: row["hu"] for row in _rows(self._translating.results.get(self._to().other))}
        return [{**row, "hu": {**other.get(row["id"], {}), **row["hu"]}} for row in rows]


def _rows(result: Result | None) -> list[dict[str, Any]]:
    figures = result.figures if result is not None else None
    rows: list[dict[str, Any]] = figures["structures"]["rows"] if figures and "structures" in figures else []
    return rows
