"""How safe the corrections are: a coloured dot and a sentence, always in sight; red and in words where a save fails."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import button, wrapped
from napari_multiphase.gui.findings import COLOURS
from napari_multiphase.gui.session import Session

_REFRESH_MS = 1000
_LEVELS = {"saved": "good", "unsaved": "warning", "saving": "warning", "failed": "bad", "reading": "note"}
_RECOVER_TIP = "Put the newest snapshot in the damaged file's place; the damaged file is kept beside it"


class SavedState(QWidget):
    """ "Saved 3 s ago", for the Correct dock. Hidden while nothing is being corrected."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._annotating = session.annotating
        self.dot = QLabel()
        self.dot.setFixedSize(10, 10)
        self.text = wrapped()
        self.recover = button("Go back to the last snapshot", self._annotating.recover, _RECOVER_TIP)
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(self.dot, 0, Qt.AlignmentFlag.AlignVCenter)
        line.addWidget(self.text, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(line)
        layout.addWidget(self.recover)
        self._timer = QTimer(self)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._fill)
        session.bridge.changed.connect(self._on_change)
        self._fill()

    def _on_change(self, topic: str) -> None:
        if topic in ("annotation", "saved", "study"):
            self._fill()

    def _fill(self) -> None:
        annotating = self._annotating
        words, damaged = annotating.saved, annotating.damaged is not None
        if damaged:
            words = "The file of your corrections is damaged"
        kind = "failed" if damaged else "reading" if annotating.reading else annotating.save_state.kind
        level = _LEVELS.get(kind, "note")
        self.dot.setStyleSheet(f"background: {COLOURS[level]}; border-radius: 5px;")
        self.text.setText(words)
        self.text.setStyleSheet(f"color: {COLOURS['bad']}; font-weight: bold;" if level == "bad" else "")
        self.recover.setVisible(damaged)
        self.setVisible(bool(words))
        if bool(words) and not damaged:
            self._timer.start()
        else:
            self._timer.stop()
