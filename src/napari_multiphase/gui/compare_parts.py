"""The Compare dock's controls of what is shown: the panes' contents, and how two images are laid over each other."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QGridLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_multiphase.gui.comparison import MOST_PANES, Comparison
from napari_multiphase.gui.dock_parts import row, toggle
from napari_multiphase.gui.one_view import FASTEST_HZ, Mix


def chooser(tip: str) -> QComboBox:
    """A combo box that never widens the dock."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    box.setToolTip(tip)
    return box


def named(text: str, widget: QWidget) -> QLabel:
    """A label that hands its focus to `widget`."""
    label = QLabel(text)
    label.setBuddy(widget)
    widget.setAccessibleName(text)
    return label


class Pickers(QWidget):
    """What each pane shows. `on_pick` is called when the user chose, with the pane's number and the key."""

    def __init__(self, comparison: Comparison, on_pick: Callable[[int, str], object]) -> None:
        super().__init__()
        self._comparison = comparison
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self.boxes: list[QComboBox] = []
        self.labels: list[QLabel] = []
        for number in range(MOST_PANES):
            box = chooser("What this pane shows; what is missing says how to get it")
            label = named(f"Pane {number + 1}", box)
            box.activated.connect(lambda _index, n=number, b=box: on_pick(n, b.currentData()))
            grid.addWidget(label, number, 0)
            grid.addWidget(box, number, 1)
            self.boxes.append(box)
            self.labels.append(label)

    def fill(self, overlaid: bool) -> None:
        """Offer what there is; what is missing stays in the list, quieter."""
        count = 2 if overlaid else self._comparison.count
        for number, (box, label) in enumerate(zip(self.boxes, self.labels, strict=True)):
            view = self._comparison.views[number]
            box.clear()
            entries = dict(self._comparison.known)
            entries.setdefault(view.key, self._comparison.content(view))
            for key, content in entries.items():
                text = content.title[:1].upper() + content.title[1:]
                box.addItem(text + (" (missing)" if content.missing else ""), key)
                box.setItemData(box.count() - 1, content.missing or text, Qt.ItemDataRole.ToolTipRole)
            box.setCurrentIndex(max(0, box.findData(view.key)))
            content = self._comparison.content(view)
            box.setToolTip(content.missing or f"What this pane shows: {content.title}")
            label.setText(("First", "Second")[number] if overlaid and number < 2 else f"Pane {number + 1}")
            box.setVisible(number < count)
            label.setVisible(number < count)


class MixControls(QWidget):
    """Fade, swipe, checkerboard and flicker: those of the mode are in sight. `on_mix` follows each change."""

    def __init__(self, mix: Mix, on_mix: Callable[[], object]) -> None:
        super().__init__()
        self.mix, self._on_mix = mix, on_mix
        self.share = QSlider(Qt.Orientation.Horizontal)
        self.share.setRange(0, 100)
        self.share.setPageStep(10)
        self.share.setAccessibleName("Share of the second image")
        self.share.valueChanged.connect(self._on_share)
        self.said = QLabel()
        self.said.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.line = chooser("Which way the line runs that parts the two images")
        self.line.addItem("Upright line", "vertical")
        self.line.addItem("Level line", "horizontal")
        self.line.activated.connect(self._on_line)
        self.tile = _spin(2.0, 200.0, mix.tile_mm, 5.0, " mm", "Side of a square, in millimetres of the body")
        self.tile.setDecimals(0)
        self.tile.valueChanged.connect(self._on_tile)
        tip = f"How often in a second it comes back to the first image; at most {FASTEST_HZ:g}, as faster is dangerous"
        self.speed = _spin(0.2, FASTEST_HZ, mix.speed_hz, 0.1, " Hz", tip + " for people with photosensitive epilepsy")
        self.speed.valueChanged.connect(self._on_speed)
        self.pause = toggle("Pause", "Stop at the image in sight (Space in the pane)")
        self.pause.toggled.connect(self._on_pause)
        self._rows = {
            "fade": (_box(self.share, self.said),),
            "swipe": (_side("Line", self.line),),
            "checkerboard": (_side("Squares", self.tile),),
            "flicker": (_side("Speed", self.speed, self.pause),),
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widgets in self._rows.values():
            for widget in widgets:
                layout.addWidget(widget)
        self.show_mix()

    def show_mix(self) -> None:
        """Follow the mix: which controls, and what they say."""
        mode = self.mix.mode
        self.setVisible(mode in self._rows)
        for name, widgets in self._rows.items():
            for widget in widgets:
                widget.setVisible(name == mode or (name == "fade" and mode == "swipe"))
        self.share.blockSignals(True)
        self.share.setValue(round(100 * self.mix.share))
        self.share.blockSignals(False)
        share = round(100 * self.mix.share)
        where = "from the left" if self.mix.line == "vertical" else "from the top"
        self.said.setText(
            f"line at {share} % {where}" if mode == "swipe" else f"{100 - share} % first, {share} % second"
        )
        moves = (
            "Where the line is; it can be dragged in the pane" if mode == "swipe" else "How much of the second image"
        )
        self.share.setToolTip(f"{moves} (Left and Right in the pane)")
        self.pause.setChecked(self.mix.paused)

    def _on_share(self, value: int) -> None:
        self.mix.share = value / 100
        self._changed()

    def _on_line(self, _index: int) -> None:
        self.mix.line = self.line.currentData()
        self._changed()

    def _on_tile(self, value: float) -> None:
        self.mix.tile_mm = value
        self._changed()

    def _on_speed(self, value: float) -> None:
        self.mix.speed_hz = value
        self._changed()

    def _on_pause(self, paused: bool) -> None:
        self.mix.paused = paused
        self._changed()

    def _changed(self) -> None:
        self.show_mix()
        self._on_mix()


def _spin(low: float, high: float, value: float, step: float, unit: str, tip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setDecimals(1)
    spin.setSingleStep(step)
    spin.setSuffix(unit)
    spin.setValue(value)
    spin.setToolTip(tip)
    return spin


def _box(*widgets: QWidget) -> QWidget:
    box = QWidget()
    layout = QVBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return box


def _side(text: str, *widgets: QWidget) -> QWidget:
    box = QWidget()
    box.setLayout(row(named(text, widgets[0]), *widgets, stretch=1))
    return box
