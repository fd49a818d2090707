"""The tools of the Correct dock, with their fields. What they do is in `correcting` and `hand_tools`."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_multiphase.gui.compare_parts import chooser
from napari_multiphase.gui.correcting import Correcting, Source
from napari_multiphase.gui.dock_parts import allow, button, heading, row, toggle
from napari_multiphase.gui.hand_tools import BRUSH, ERASER, FILL, GROW, HandSettings, HandTools
from napari_multiphase.gui.remember import recall, remember

_HANDS = {
    BRUSH: ("HU brush", "Drag on the canvas: gives voxels within the HU range to the structure"),
    ERASER: ("HU eraser", "Drag on the canvas: takes voxels within the HU range from the structure"),
    GROW: ("Grow from here", "Click on the canvas: learns the tissue's HU there and takes what hangs together with it"),
    FILL: ("Fill range", "Click on the canvas: takes what hangs together there within the HU range"),
}
_BETWEEN_TIP = "Interpolate the outline between slices that show the structure, across the slices in view"
_TAKE_TIP = (
    "Make the structure what the chosen labels say it is; those of the other phase come through the registration"
)


def number(value: float, low: float, high: float, unit: str, tip: str, *, step: float = 1, digits: int = 0) -> Any:
    """A field for a number with its unit."""
    box = QDoubleSpinBox()
    box.setDecimals(digits)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setSuffix(f" {unit}" if unit else "")
    box.setToolTip(tip)
    box.setKeyboardTracking(False)
    box.setMinimumWidth(88 if unit else 72)
    return box


class Tools(QWidget):
    """All tools, over one `Correcting`."""

    def __init__(self, correcting: Correcting) -> None:
        super().__init__()
        self._correcting = correcting
        kept = recall("correct", {})
        self.hand = HandTools(correcting, HandSettings(), self._show_hand)
        self.layout_ = QVBoxLayout(self)
        self.layout_.setContentsMargins(0, 0, 0, 0)
        self.layout_.setSpacing(5)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)  # scrolled, not squeezed
        self._build_scope(kept)
        self._build_hand(kept)
        self._build_shape(kept)
        self._build_take(kept)
        self._to_settings()

    # --- building --------------------------------------------------------------------------------------------------

    def _build_scope(self, kept: dict[str, Any]) -> None:
        self.in_slice = toggle("Slice", "Tools act on the slice in view")
        self.in_volume = toggle("Volume", "Tools act on the whole volume")
        group = QButtonGroup(self)
        for made in (self.in_slice, self.in_volume):
            group.addButton(made)
            made.clicked.connect(lambda _checked=False: self._scope())
        (self.in_slice if kept.get("in_slice", True) else self.in_volume).setChecked(True)
        self.overwrite = QCheckBox("May overwrite others")
        self.overwrite.setToolTip("Tools and brush may take voxels of other structures; tools never of complete ones")
        self.overwrite.setChecked(bool(kept.get("overwrite", False)))
        self.overwrite.toggled.connect(lambda _on: self._scope())
        self.layout_.addLayout(row(heading("Tools"), QWidget(), self.in_slice, self.in_volume, stretch=1))

    def _build_hand(self, kept: dict[str, Any]) -> None:
        low, high = kept.get("range_hu", (80, 180))
        self.low = number(low, -1024, 3000, "", "Lower end of the HU range", step=5)
        self.high = number(high, -1024, 3000, "", "Upper end of the HU range", step=5)
        self.radius = number(kept.get("radius_mm", 6), 0.5, 50, "mm", "Radius of the HU brush", digits=1)
        self.most = number(kept.get("most_mm", 30), 1, 300, "mm", "Growing and filling go no further from the click")
        self.connected = QCheckBox("connected")
        self.connected.setToolTip("Only what hangs together with the brush's centre")
        self.connected.setChecked(bool(kept.get("connected", True)))
        self.hands: dict[str, QPushButton] = {}
        for tool, (text, tip) in _HANDS.items():
            made = toggle(text, tip)
            made.clicked.connect(lambda checked=False, t=tool: self._take_up(t if checked else ""))
            self.hands[tool] = made
        for box in (self.low, self.high, self.radius, self.most):
            box.valueChanged.connect(lambda _value: self._to_settings())
        self.connected.toggled.connect(lambda _on: self._to_settings())
        self.layout_.addLayout(row(self.overwrite, self.connected, stretch=0))
        self.layout_.addLayout(row(QLabel("HU"), self.low, QLabel("to"), self.high))
        self.layout_.addLayout(row(self.hands[BRUSH], self.hands[ERASER], self.radius, stretch=0))
        self.layout_.addLayout(row(self.hands[GROW], self.hands[FILL], self.most, stretch=0))

    def _build_shape(self, kept: dict[str, Any]) -> None:
        correcting = self._correcting
        self.between = button("Fill between slices", self._between, _BETWEEN_TIP)
        self.replace = QCheckBox("replace")
        self.replace.setToolTip("Between slices that you painted, replace what is there; else only gaps are filled")
        self.largest = button("Keep largest", correcting.keep_largest, "Drop all parts but the largest one")
        self.islands = button("Drop islands", self._islands, "Drop parts below this volume")
        self.smallest = number(kept.get("smallest_ml", 0.5), 0.01, 500, "ml", "Parts below this go", step=0.1, digits=2)
        self.mm = number(kept.get("mm", 2), 0.1, 50, "mm", "How far Grow, Shrink and Smooth reach", step=0.5, digits=1)
        self.grow = button("Grow", lambda: correcting.reshape("grow", self.mm.value()), "Take what lies this near")
        self.shrink = button("Shrink", lambda: correcting.reshape("grow", -self.mm.value()), "Give up this margin")
        self.smooth = button("Smooth", lambda: correcting.reshape("smooth", self.mm.value()), "Round off finer detail")
        for box in (self.smallest, self.mm):
            box.valueChanged.connect(lambda _value: self._remember())
        self.layout_.addLayout(row(self.between, self.replace, stretch=0))
        self.layout_.addLayout(row(self.largest, self.islands, self.smallest, stretch=1))
        self.layout_.addLayout(row(self.smooth, self.grow, self.shrink, self.mm))

    def _build_take(self, kept: dict[str, Any]) -> None:
        self.source: QComboBox = chooser("Labels that the structure can be taken from")
        self.take = button("Take", self._take, _TAKE_TIP)
        self.near = QCheckBox("only near the point, within")
        self.near.setToolTip("Only in a box around the point that Next jumped to, or that the sliders were set to")
        self.reach = number(kept.get("reach_mm", 30), 1, 300, "mm", "Half the side of the box")
        self.reach.valueChanged.connect(lambda _value: self._remember())
        self._sources: list[Source] = []
        self.layout_.addLayout(row(QLabel("From"), self.source, self.take, stretch=1))
        self.layout_.addLayout(row(self.near, self.reach, stretch=0))

    # --- what the user does ----------------------------------------------------------------------------------------

    def _scope(self) -> None:
        self._to_settings()

    def _to_settings(self) -> None:
        correcting, settings = self._correcting, self.hand.settings
        correcting.in_slice, correcting.overwrite = self.in_slice.isChecked(), self.overwrite.isChecked()
        layer = correcting.annotating.layer
        if layer is not None:
            layer.preserve_labels = not correcting.overwrite
        settings.range_hu = (self.low.value(), self.high.value())
        settings.radius_mm, settings.most_mm = self.radius.value(), self.most.value()
        settings.connected = self.connected.isChecked()
        self._remember()

    def _remember(self) -> None:
        settings = self.hand.settings
        kept: dict[str, Any] = {"in_slice": self._correcting.in_slice, "overwrite": self._correcting.overwrite}
        kept |= {"range_hu": settings.range_hu, "radius_mm": settings.radius_mm, "most_mm": settings.most_mm}
        kept |= {"connected": settings.connected, "smallest_ml": self.smallest.value(), "mm": self.mm.value()}
        remember("correct", {**kept, "reach_mm": self.reach.value()})

    def _take_up(self, tool: str) -> None:
        layer = self._correcting.annotating.layer
        if layer is not None and tool:
            layer.visible = True
            self._correcting.activate()
        self.hand.choose(tool)
        self._show_hand()

    def _show_hand(self) -> None:
        for tool, made in self.hands.items():
            made.setChecked(tool == self.hand.tool)
        low, high = self.hand.settings.range_hu
        for box, value in ((self.low, low), (self.high, high)):
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)

    def _between(self) -> None:
        self._correcting.fill_between(self.replace.isChecked())

    def _islands(self) -> None:
        self._correcting.remove_small(self.smallest.value())

    def _take(self) -> None:
        source = self._sources[self.source.currentIndex()]
        self._correcting.take(source, self.reach.value() if self.near.isChecked() else None)

    # --- what the dock says ----------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Other labels are at hand."""
        self.hand.follow(self._correcting.annotating.layer)
        self._show_hand()
        self._to_settings()

    def fill_sources(self) -> None:
        """The labels there are to take from; the choice stays where it can."""
        chosen = self.source.currentText()
        self._sources = self._correcting.sources()
        self.source.clear()
        self.source.addItems([source.text for source in self._sources])
        self.source.setCurrentIndex(max(0, self.source.findText(chosen)) if self._sources else -1)

    def permit(self, why_not: str, busy: str) -> None:
        """Enable what can be used; `why_not` holds for all, `busy` for what may be a job."""
        correcting = self._correcting
        for tool, made in self.hands.items():
            allow(made, why_not, _HANDS[tool][1])
        whole = why_not or ("" if correcting.in_slice else busy)
        for made, tip in (
            (self.largest, "Drop all parts but the largest one"),
            (self.islands, "Drop parts below this volume"),
            (self.smooth, "Round off what is finer than this; the volume stays"),
            (self.grow, "Take what lies this near to the structure"),
            (self.shrink, "Give up what lies this near to its outside"),
        ):
            allow(made, whole, tip)
        painted = len(correcting.keys()) if correcting.annotating.layer is not None else 0
        why = busy or ("Paint the structure in two slices first" if self.replace.isChecked() and painted < 2 else "")
        allow(self.between, why_not or why, _BETWEEN_TIP)
        none = "" if self._sources else "There are no other labels: segment, or correct the other phase"
        allow(self.take, why_not or busy or none, _TAKE_TIP)
