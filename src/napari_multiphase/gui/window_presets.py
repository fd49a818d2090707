"""Window presets for the CT layers: what a radiologist reaches for, and what the chosen model sees."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QWidget

from napari_multiphase.gui.layers import layers_of
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.session import Session
from napari_multiphase.imaging.windows import WINDOWS_HU

DEFAULT = "soft tissue"


def window_of(session: Session, name: str) -> tuple[float, float]:
    """(lowest, highest) HU of a preset; the model's own window under its name."""
    if session.model is not None and name == _model_entry(session):
        return session.model.card.window_hu
    return WINDOWS_HU.get(name, WINDOWS_HU[DEFAULT])


def current_window(session: Session) -> tuple[float, float]:
    """The window the user chose last."""
    return window_of(session, recall("window", DEFAULT))


def _model_entry(session: Session) -> str:
    return f"model {session.model.card.name}" if session.model else ""


class WindowPresets(QWidget):
    """A chooser that sets the contrast limits of the study's CT layers."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.chooser = QComboBox()
        self.chooser.setToolTip("How Hounsfield units become grey: lowest and highest HU shown")
        self.chooser.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        label = QLabel("Window")
        label.setBuddy(self.chooser)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(label)
        layout.addWidget(self.chooser, 1)
        self._fill()
        self.chooser.activated.connect(lambda _index: self._apply())
        session.bridge.changed.connect(self._on_change)

    def _on_change(self, topic: str) -> None:
        if topic == "model":
            self._fill()

    def _fill(self) -> None:
        chosen = self.chooser.currentData() or recall("window", DEFAULT)
        self.chooser.clear()
        for name in (*WINDOWS_HU, *([_model_entry(self._session)] if self._session.model else [])):
            low, high = window_of(self._session, name)
            self.chooser.addItem(f"{name}  ({low:.0f} to {high:.0f} HU)", name)
        self.chooser.setCurrentIndex(max(0, self.chooser.findData(chosen)))

    def _apply(self) -> None:
        name = self.chooser.currentData()
        remember("window", name)
        viewer = self._session.viewer
        for layer in [layer for kind in ("ct", "aligned", "synthetic") for layer in layers_of(viewer, kind=kind)]:
            layer.contrast_limits = window_of(self._session, name)
