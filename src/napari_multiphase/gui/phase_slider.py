"""The slider between the phases: venous alone at the left, arterial alone at the right."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

_TIP = "Weight of the arterial phase in the fused result: the slice in view changes at once, the volume on release"


class PhaseSlider(QWidget):
    """`on_move` gets the weight while dragging, `on_release` when it stays."""

    def __init__(self, on_move: Callable[[float], object], on_release: Callable[[float], object]) -> None:
        super().__init__()
        self._on_move, self._on_release = on_move, on_release
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setPageStep(10)
        self.slider.setAccessibleName("Phase weight")
        self.slider.setToolTip(_TIP)
        self.value = QLabel()
        self.value.setAlignment(Qt.AlignmentFlag.AlignCenter)
        ends = QHBoxLayout()
        ends.addWidget(QLabel("venous"))
        ends.addStretch(1)
        ends.addWidget(self.value)
        ends.addStretch(1)
        ends.addWidget(QLabel("arterial"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.slider)
        layout.addLayout(ends)
        self.slider.valueChanged.connect(self._moved)
        self.slider.sliderReleased.connect(self._released)
        self._held = False
        self.slider.sliderPressed.connect(lambda: setattr(self, "_held", True))

    def show_weight(self, weight: float) -> None:
        """Set the slider without telling anyone."""
        self.slider.blockSignals(True)
        self.slider.setValue(round(100 * weight))
        self.slider.blockSignals(False)
        self._say()

    def _say(self) -> None:
        share = self.slider.value()
        self.value.setText(f"{100 - share} % venous, {share} % arterial")

    def _moved(self, _value: int) -> None:
        self._say()
        self._on_move(self.slider.value() / 100)
        if not self.slider.isSliderDown():
            self._on_release(self.slider.value() / 100)

    def _released(self) -> None:
        self._on_release(self.slider.value() / 100)
