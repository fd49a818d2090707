"""The Compare dock: up to four linked panes, or two images laid over each other, in place of napari's canvas.

The panes take the whole middle of the window, where a reader looks; the dock holds the controls. What is compared, and
through which transform, is in `comparison`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QButtonGroup, QFileDialog, QPushButton, QWidget

from napari_multiphase.errors import UserError
from napari_multiphase.gui.compare_looks import Looks
from napari_multiphase.gui.compare_parts import MixControls, Pickers, chooser, named
from napari_multiphase.gui.comparison import LINKS, Comparison
from napari_multiphase.gui.dock_parts import Dock, ErrorBox, allow, button, row, toggle, wrapped
from napari_multiphase.gui.one_view import MODES, Mix
from napari_multiphase.gui.panes import Panes
from napari_multiphase.gui.planes import AXIS_OF
from napari_multiphase.gui.private import put_in_middle, show_canvas
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.session import Session, get_session

if TYPE_CHECKING:
    import napari

    from napari_multiphase.gui.figure import Page

_COMPARE_TIP = "Show the panes in place of the canvas, or the canvas again (Ctrl+Shift+V)"
_SAVE_TIP = "Write the panes with legend and scale bar, as PNG or PDF (Ctrl+Alt+F)"
_KEPT = ("orientation", "moved", "labels", "contours", "confidence", "count")


class CompareDock(Dock):
    """The controls of a comparison."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session: Session = get_session(napari_viewer)
        self.comparison = Comparison(self.session)
        self.mix = Mix()
        self._recall()
        self.panes: Panes | None = None
        self.saving: threading.Thread | None = None
        self._build_contents()
        self.looks = Looks(self.comparison, self._set, self._link, self._place_canvas)
        self.parts.append(self.looks)
        self.body.addWidget(self.looks)
        self.body.addStretch(1)
        self.error = ErrorBox()
        self.compare = button("Compare", self._compare, _COMPARE_TIP)
        self.compare.setShortcut("Ctrl+Shift+V")
        self.save = button("Save figure...", self._ask_save, _SAVE_TIP)
        self.save.setShortcut("Ctrl+Alt+F")
        self.footer.addWidget(self.error)
        self.footer.addLayout(row(self.compare, self.save, stretch=0))
        self.comparison.changed.connect(self._on_comparison)
        self.session.bridge.changed.connect(self._on_change)
        self._fill()

    def _recall(self) -> None:
        kept = recall("compare", {})
        for name in _KEPT:
            setattr(self.comparison, name, kept.get(name, getattr(self.comparison, name)))
        self.comparison.links = set(kept.get("links", LINKS))
        for view, key in zip(self.comparison.views, kept.get("panes", ()), strict=False):
            view.key = key
        self.mix.mode = kept.get("mode", self.mix.mode)

    def _remember(self) -> None:
        comparison = self.comparison
        kept = {name: getattr(comparison, name) for name in _KEPT}
        kept |= {"links": sorted(comparison.links), "panes": [view.key for view in comparison.views]}
        remember("compare", {**kept, "mode": self.mix.mode})

    # --- building --------------------------------------------------------------------------------------------------

    def _build_contents(self) -> None:
        self.empty = wrapped("Open a study first: its phases, synthetic images and labels are compared here.")
        self.go_open = button("Open a study", self._show_study_dock, "Go to the Study dock")
        self.body.addWidget(self.empty)
        self.body.addWidget(self.go_open)
        self.mode = chooser("Panes side by side, or two images laid over each other in one pane")
        for key, text in MODES.items():
            self.mode.addItem(text, key)
        self.mode.setCurrentIndex(self.mode.findData(self.mix.mode))
        self.mode.activated.connect(lambda _index: self._set_mode(self.mode.currentData()))
        self.count = chooser("How many panes are shown side by side")
        for number in (2, 3, 4):
            self.count.addItem(f"{number} panes", number)
        self.count.setCurrentIndex(self.count.findData(self.comparison.count))
        self.count.activated.connect(lambda _index: self._set(count=self.count.currentData()))
        self.pickers = Pickers(self.comparison, self._pick)
        self.mixing = MixControls(self.mix, self._on_mix)
        self.orientations: dict[str, QPushButton] = {}
        self._orientation_group = QButtonGroup(self)
        for number, name in enumerate(AXIS_OF, start=1):
            made = toggle(name.capitalize(), f"Look at {name} slices (Ctrl+Alt+{number})")
            made.setShortcut(f"Ctrl+Alt+{number}")
            made.setChecked(name == self.comparison.orientation)
            made.clicked.connect(lambda _checked=False, n=name: self._set(orientation=n))
            self._orientation_group.addButton(made)
            self.orientations[name] = made
        top = QWidget()
        top.setLayout(row(named("View", self.mode), self.mode, self.count, stretch=1))
        turning = QWidget()
        turning.setLayout(row(*self.orientations.values()))
        self.parts: list[QWidget] = [top, self.pickers, self.mixing, turning]
        for part in self.parts:
            self.body.addWidget(part)

    # --- what the user does ----------------------------------------------------------------------------------------

    def _pick(self, number: int, key: str) -> None:
        self.comparison.views[number].key = key
        self._set()

    def _set(self, **settings: object) -> None:
        self.comparison.change(**settings)
        self._remember()
        if "count" in settings and self.panes is not None:
            self.panes.lay_out()
        self._fill()

    def _link(self, link: str, on: bool) -> None:
        self.comparison.set_link(link, on)
        self._remember()

    def _set_mode(self, mode: str) -> None:
        self.mix.mode = mode
        self.mixing.show_mix()
        if self.panes is not None:
            self.panes.lay_out()
        self._remember()
        self._fill()

    def _on_mix(self) -> None:
        if self.panes is not None:
            self.panes.keep_time()
            self.panes.panes[0].refresh()

    def _share_moved(self, share: float) -> None:
        self.mix.share = share
        self.mixing.show_mix()
        self._on_mix()

    def _compare(self) -> None:
        if self.comparing:
            self.stop()
        else:
            self.start()

    @property
    def comparing(self) -> bool:
        """Whether the panes are in the window."""
        return self.panes is not None

    def start(self) -> None:
        """Put the panes in the place of the canvas."""
        self.panes = Panes(self.comparison, self.mix)
        for pane in self.panes.panes:
            pane.share_moved.connect(self._share_moved)
            pane.pause.connect(self.mixing.pause.toggle)
        put_in_middle(self.session.viewer, self.panes)
        self._place_canvas()
        self.panes.show()
        self.panes.panes[0].setFocus()
        self._fill()

    def stop(self) -> None:
        """Take the panes away; the canvas comes back as it was."""
        if self.panes is None:
            return
        panes, self.panes = self.panes, None
        panes.hide()
        panes.setParent(None)
        panes.deleteLater()
        show_canvas(self.session.viewer, True)
        self._fill()

    def _place_canvas(self) -> None:
        if self.comparing:
            show_canvas(self.session.viewer, self.looks.keep_canvas.isChecked())

    def event(self, event: QEvent | None) -> bool:
        """A dock that is closed takes its panes with it."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return super().event(event)

    def _ask_save(self) -> None:
        folder = Path(recall("last_out", str(Path.home())))
        proposed = folder / f"{self.session.title or 'comparison'} {self.comparison.orientation}.png"
        chosen, _ = QFileDialog.getSaveFileName(self, "Save figure", str(proposed), "PNG (*.png);;PDF (*.pdf)")
        if chosen:
            remember("last_out", str(Path(chosen).parent))
            self.save_to(Path(chosen))

    def save_to(self, path: Path) -> None:
        """Write the figure as the panes are now; drawn and packed on a thread of its own."""
        from napari_multiphase.gui.figure import Page

        assert self.panes is not None
        pane = self.panes.panes[0]
        page = Page(self.comparison, self.mix, (pane.height(), pane.width()))
        self.saving = threading.Thread(target=self._save, args=(path, page))
        self.saving.start()
        self._fill()

    def _save(self, path: Path, page: Page) -> None:
        from napari_multiphase.gui.figure import save_figure

        problem = ""
        try:
            path = save_figure(path, page)
        except (UserError, OSError) as error:
            problem = f"The figure was not saved: {error}"
        self.session.bridge.post(lambda: self._saved(path, problem))

    def _saved(self, path: Path, problem: str) -> None:
        from napari.utils.notifications import show_info

        self.saving = None
        self._fill()
        if problem:
            self.error.tell(problem, "")
            return
        self.error.hide()
        show_info(f"Saved {path.name}.")

    def _show_study_dock(self) -> None:
        from napari_multiphase.gui.workbench import open_workbench

        open_workbench(self.session.viewer)

    # --- what the session says -------------------------------------------------------------------------------------

    def _on_comparison(self, topic: str) -> None:
        if topic == "contents":
            self._fill()
        elif topic == "draw":
            self.looks.window_chooser.show_window()

    def _on_change(self, topic: str) -> None:
        if topic in ("scans", "study", "transform", "shown"):
            if not self.comparing:
                self.comparison.look()
            self._fill()

    def _fill(self) -> None:
        study = self.session.study
        for widget in (self.empty, self.go_open):
            widget.setVisible(study is None)
        for part in self.parts:
            part.setVisible(study is not None)
        overlaid = self.mix.mode != "panes"
        self.mixing.setVisible(study is not None and overlaid)
        self.count.setVisible(not overlaid)
        self.pickers.fill(overlaid)
        self.looks.fill(overlaid, self.comparing, self._why_not_moved(overlaid), self._has("confidence"))
        allow(self.compare, "" if study is not None else "Open a study first", _COMPARE_TIP)
        self.compare.setText("Close views" if self.comparing else "Compare")
        self.compare.setShortcut("Ctrl+Shift+V")
        why_not = "" if self.comparing else "Press Compare first"
        allow(self.save, "The figure is being written" if self.saving else why_not, _SAVE_TIP)

    def _has(self, kind: str) -> bool:
        from napari_multiphase.gui.layers import layers_of

        return self.session.study is not None and bool(
            layers_of(self.session.viewer, kind=kind, study=self.session.study.id)
        )

    def _why_not_moved(self, overlaid: bool) -> str:
        study = self.session.study
        if study is None or len(study.phases) < 2:
            return "There is one phase only"
        if overlaid:
            return "Images that lie over each other are always moved onto the venous scan"
        return ""
