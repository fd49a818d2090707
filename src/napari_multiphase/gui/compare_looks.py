"""The Compare dock's controls of how it is shown: links, window, labels and confidence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_multiphase.gui.compare_parts import chooser, named
from napari_multiphase.gui.comparison import Comparison
from napari_multiphase.gui.contents import OVERLAYS
from napari_multiphase.gui.dock_parts import allow, heading, row, toggle
from napari_multiphase.imaging.windows import WINDOWS_HU

_LAYERS_OWN, _BY_MOUSE = "layers", "mouse"
LINK_TIPS = {
    "cursor": "The cursor points at the same anatomy in every pane",
    "slice": "Scrolling one pane scrolls all",
    "zoom": "Zooming and moving one pane does so in all",
    "window": "All panes show the same window of HU",
}
_MOVED_TIP = "Every pane shows the same slice through the same anatomy; without it each scan is shown on its own grid"
_CANVAS_TIP = "The canvas beside the panes, which follow what is done there"
_CONFIDENCE_TIP = "Warm where the model is unsure, clear where it is sure (Ctrl+Alt+U)"


class WindowChooser(QWidget):
    """The HU window of the panes alone: the layers keep theirs."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self._comparison = comparison
        self.box = chooser("How HU become grey in the panes; drag with the right mouse button in a pane to change it")
        self.box.addItem("as the layers have it", _LAYERS_OWN)
        for name, (low, high) in WINDOWS_HU.items():
            self.box.addItem(f"{name}  ({low:.0f} to {high:.0f} HU)", name)
        self.box.activated.connect(lambda _index: self._apply())
        self.setLayout(row(named("Window", self.box), self.box, stretch=1))

    def _apply(self) -> None:
        chosen = self.box.currentData()
        if chosen != _BY_MOUSE:
            for view in self._comparison.views:
                self._comparison.set_window(view, WINDOWS_HU.get(chosen))

    def show_window(self) -> None:
        """Say the first pane's window."""
        window = self._comparison.views[0].window_hu
        names = [name for name, preset in WINDOWS_HU.items() if preset == window]
        extra = self.box.findData(_BY_MOUSE)
        if window is not None and not names:
            text = f"by mouse  ({window[0]:.0f} to {window[1]:.0f} HU)"
            if extra < 0:
                self.box.addItem(text, _BY_MOUSE)
            else:
                self.box.setItemText(extra, text)
            self.box.setCurrentIndex(self.box.findData(_BY_MOUSE))
            return
        if extra >= 0:
            self.box.removeItem(extra)
        self.box.setCurrentIndex(self.box.findData(names[0] if names else _LAYERS_OWN))


class Looks(QWidget):
    """`on_set` gets settings of the comparison by name, `on_link` a link and whether it is on."""

    def __init__(
        self,
        comparison: Comparison,
        on_set: Callable[..., object],
        on_link: Callable[[str, bool], object],
        on_canvas: Callable[[], object],
    ) -> None:
        super().__init__()
        self.links: dict[str, QCheckBox] = {}
        for link in LINK_TIPS:
            self.links[link] = _box(link.capitalize(), link in comparison.links, partial(on_link, link))
        self.moved = _box("Move the arterial scan onto the venous one", comparison.moved, lambda on: on_set(moved=on))
        self.window_chooser = WindowChooser(comparison)
        self.labels = chooser("Which labels lie over the scans")
        for key, text in OVERLAYS.items():
            self.labels.addItem(text, key)
        self.labels.setCurrentIndex(self.labels.findData(comparison.labels))
        self.labels.activated.connect(lambda _index: on_set(labels=self.labels.currentData()))
        self.contours = toggle("Contours", "Outlines instead of areas (Ctrl+Alt+L)")
        self.contours.setShortcut("Ctrl+Alt+L")
        self.contours.setChecked(comparison.contours)
        self.contours.toggled.connect(lambda on: on_set(contours=on))
        self.confidence = _box("Confidence", comparison.confidence, lambda on: on_set(confidence=on))
        self.confidence.setShortcut("Ctrl+Alt+U")
        self.keep_canvas = _box("Keep napari's canvas in sight", False, lambda _on: on_canvas())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(heading("Link"))
        layout.addLayout(row(*self.links.values()))
        layout.addWidget(self.moved)
        layout.addWidget(heading("Look"))
        layout.addWidget(self.window_chooser)
        layout.addLayout(row(self.labels, self.contours, stretch=0))
        layout.addWidget(self.confidence)
        layout.addWidget(self.keep_canvas)

    def fill(self, overlaid: bool, comparing: bool, why_not_moved: str, has_confidence: bool) -> None:
        """Allow what makes sense now, and say why the rest does not."""
        for link, box in self.links.items():
            allow(box, "There is one pane only" if overlaid else "", LINK_TIPS[link])
        allow(self.moved, why_not_moved, _MOVED_TIP)
        none = "" if has_confidence else "There is no confidence map yet: make one in the Segment dock"
        allow(self.confidence, none, _CONFIDENCE_TIP)
        allow(self.keep_canvas, "" if comparing else "Press Compare first", _CANVAS_TIP)


def _box(text: str, checked: bool, on_toggle: Callable[[bool], Any]) -> QCheckBox:
    box = QCheckBox(text)
    box.setChecked(checked)
    box.toggled.connect(on_toggle)
    return box
