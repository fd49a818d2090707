"""Register, with its figures in words, and Undo."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import allow, button, row, wrapped
from napari_multiphase.gui.session import Session
from napari_multiphase.study import PhaseTransform

_TIP = "Find the rigid movement between the scans, so that both phases can be fused (Ctrl+Shift+R)"


def in_words(transform: PhaseTransform | None) -> str:
    """What a transform does, with its quality figures."""
    if transform is None:
        return "Not registered: the phases are taken to lie where their files say."
    sentence = str(transform.quality.get("sentence") or "")
    return sentence or f"Registered ({transform.method})."


class RegisterBox(QWidget):
    """The footer of the Study dock."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.state = wrapped(faint=True)
        self.register = button("Register", session.register, _TIP)
        self.register.setShortcut("Ctrl+Shift+R")
        self.undo = button("Undo", self._undo, "Go back to the transform before this one")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state)
        layout.addLayout(row(self.register, self.undo, stretch=0))
        session.bridge.changed.connect(lambda _topic: self._update())
        self._update()

    def _undo(self) -> None:
        if self._session.kept_transform is not None:
            kept, self._session.kept_transform = self._session.kept_transform, None
            self._session.set_transform(kept)

    def _update(self) -> None:
        session = self._session
        study, job = session.study, session.job
        self.setVisible(study is not None)
        self.state.setText(in_words(study.transform) if study and len(study.phases) == 2 else "")
        self.state.setVisible(bool(self.state.text()))
        reason = f"'{job.title}' is running" if job else ""
        if study is not None and len(study.phases) < 2:
            reason = "Needs both phases"
        allow(self.register, reason, _TIP)
        self.undo.setVisible(session.kept_transform is not None)
        self.undo.setEnabled(job is None)
