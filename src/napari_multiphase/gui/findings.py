"""The fit report: one sentence per finding, each with a coloured dot and, for those who do not see colours, a word."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import wrapped
from napari_multiphase.study import Finding

COLOURS = {"good": "#3fae5a", "note": "#5b9bd5", "warning": "#e0a030", "bad": "#d9534f"}
_WORDS = {"good": "fits", "note": "note", "warning": "check this", "bad": "does not fit"}


class FindingList(QWidget):
    """The findings of a study, most serious first."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)
        self.rows: list[QWidget] = []

    def show_findings(self, findings: Sequence[Finding]) -> None:
        """Replace what is shown."""
        for old in self.rows:
            self._layout.removeWidget(old)
            old.deleteLater()
        self.rows = [_row(finding) for finding in findings]
        for new in self.rows:
            self._layout.addWidget(new)


def _row(finding: Finding) -> QWidget:
    dot = QLabel()
    dot.setFixedSize(10, 10)
    dot.setStyleSheet(f"background: {COLOURS[finding.level]}; border-radius: 5px;")
    dot.setToolTip(_WORDS[finding.level])
    dot.setAccessibleName(_WORDS[finding.level])
    text = wrapped(finding.text)
    text.setAccessibleDescription(_WORDS[finding.level])
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(8)
    holder = QVBoxLayout()
    holder.setContentsMargins(0, 4, 0, 0)
    holder.addWidget(dot)
    holder.addStretch(1)
    layout.addLayout(holder)
    layout.addWidget(text, 1, Qt.AlignmentFlag.AlignTop)
    return made
