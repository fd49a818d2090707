"""The Correct dock: where the model was unsure, which structure is at hand, and tools to put it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QComboBox, QLabel, QPushButton, QWidget

from napari_multiphase.gui.compare_parts import chooser
from napari_multiphase.gui.correct_lists import KEYS, RegionList, StructureList, offer_regions
from napari_multiphase.gui.correct_tools import Tools
from napari_multiphase.gui.correcting import Correcting
from napari_multiphase.gui.dock_parts import Dock, ProgressRow, allow, button, heading, row, toggle, wrapped
from napari_multiphase.gui.job_parts import JobParts
from napari_multiphase.gui.saved_state import SavedState
from napari_multiphase.gui.session import Session, get_session
from napari_multiphase.labels import name_of
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    import napari

_SHOWN = ("edit", "take_structure", "annotation")
"""Jobs whose progress and failures this dock tells."""
_STATES = {
    "predicted": "What the model said; nobody changed it",
    "corrected": "Changed by hand, not all of it looked at",
    "complete": "All of it is right: tools never overwrite it, and training learns from all of it",
    "not annotated": "Not labelled here: training learns nothing about it from this case",
}
_NEXT_TIP = "Go to the next uncertain region that was not reviewed (N)"
_REVIEWED_TIP = "This region is right as it is now; go to the next one (R)"
_AGAIN_TIP = "Look for uncertain regions in the labels as they are now"
_BEGIN_TIP = "Copy the newest labels of this phase into a layer of their own, or go on where you stopped"


class CorrectDock(Dock):
    """From labels to right labels."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session: Session = get_session(napari_viewer)
        self.correcting = Correcting(self.session, self._on_correcting)
        self._phase: Phase | None = None
        self._build_top()
        self._build_lists()
        self.tools = Tools(self.correcting)
        self.tools.in_slice.clicked.connect(lambda _checked=False: self._permit())
        self.tools.in_volume.clicked.connect(lambda _checked=False: self._permit())
        self.tools.replace.toggled.connect(lambda _on: self._permit())
        self.parts.append(self.tools)
        self.body.addWidget(self.tools)
        self.body.addStretch(1)
        self._build_footer()
        self.session.bridge.changed.connect(self._on_change)
        self._begun()

    # --- building --------------------------------------------------------------------------------------------------

    def _build_top(self) -> None:
        self.empty = wrapped("")
        self.go = button("", self._go_first, "")
        self.body.addWidget(self.empty)
        self.body.addWidget(self.go)
        self.phases: dict[Phase, QPushButton] = {}
        group = QButtonGroup(self)
        for phase in Phase:
            made = toggle(str(phase).capitalize(), f"Correct the labels of the {phase} scan")
            made.clicked.connect(lambda _checked=False, p=phase: self._choose_phase(p))
            group.addButton(made)
            self.phases[phase] = made
        self.phase_row = QWidget()
        self.phase_row.setLayout(row(QLabel("Scan"), *self.phases.values()))
        self.body.addWidget(self.phase_row)

    def _build_lists(self) -> None:
        self.listed = chooser("Which uncertain regions are listed, by the structure they mainly concern")
        self.listed.activated.connect(lambda _index: self.correcting.list_only(self.listed.currentData()))
        self.regions_title = heading("Uncertain regions")
        self.again = button("Look again", self._look_again, _AGAIN_TIP)
        top = QWidget()
        top.setLayout(row(self.regions_title, self.listed, self.again, stretch=1))
        self.regions = RegionList(self._go_to)
        self.no_regions = wrapped("", faint=True)
        self.structures = StructureList(self._choose_structure)
        self.state: QComboBox = chooser("How far the chosen structure is")
        for state, tip in _STATES.items():
            self.state.addItem(state, state)
            self.state.setItemData(self.state.count() - 1, tip, 3)  # Qt.ToolTipRole
        self.state.activated.connect(lambda _index: self._set_state())
        self.chosen = QLabel()
        stating = QWidget()
        stating.setLayout(row(self.chosen, self.state, stretch=0))
        self.parts: list[QWidget] = [
            top,
            self.regions,
            self.no_regions,
            heading("Structures"),
            self.structures,
            stating,
        ]
        for part in self.parts:
            self.body.addWidget(part)

    def _build_footer(self) -> None:
        jobs = JobParts(self, self.session, _SHOWN)
        self.error, self.progress = jobs.error, jobs.progress
        self.preparing = ProgressRow(self.session.annotating.cancel)
        self.saved = SavedState(self.session)
        self.begin = button("Correct", self._begin, _BEGIN_TIP)
        self.next = button("Next", self.correcting.next, _NEXT_TIP)
        self.next.setShortcut("N")
        self.reviewed = button("Reviewed", self.correcting.mark_reviewed, _REVIEWED_TIP)
        self.reviewed.setShortcut("R")
        self.undo = button("Undo", self.session.annotating.undo, "")
        self.redo = button("Redo", self.session.annotating.redo, "")
        self.footer.addWidget(self.error)
        self.footer.addWidget(self.progress)
        self.footer.addWidget(self.preparing)
        self.footer.addWidget(self.saved)
        self.footer.addWidget(self.begin)
        self.working = QWidget()
        self.working.setLayout(row(self.next, self.reviewed, self.undo, self.redo, stretch=0))
        self.footer.addWidget(self.working)

    # --- what the user does ----------------------------------------------------------------------------------------

    def _go_first(self) -> None:
        from napari_multiphase.gui.workbench import bring_forward, open_workbench

        docks = open_workbench(self.session.viewer)
        bring_forward(docks["Study" if self.session.study is None else "Segment"])

    def _choose_phase(self, phase: Phase) -> None:
        self._phase = phase
        if self.session.annotating.layer is not None:
            self.session.annotating.begin(phase)
        self._fill()

    def _begin(self) -> None:
        if self._phase is not None:
            self.session.annotating.begin(self._phase)

    def _look_again(self) -> None:
        self.correcting.find()

    def _go_to(self, line: int) -> None:
        self.correcting.go_to(line)

    def _choose_structure(self, label: int) -> None:
        self.correcting.activate()
        self.correcting.choose(label)

    def _set_state(self) -> None:
        self.session.annotating.set_state(self.correcting.structure, self.state.currentData())

    # --- what the session says -------------------------------------------------------------------------------------

    def _on_correcting(self, topic: str) -> None:
        if topic == "regions":
            self._fill_regions()
        elif topic == "region":
            self.regions.show_at(self.correcting.at)
        elif topic == "structure":
            self._show_structure()
        self._permit()

    def _on_change(self, topic: str) -> None:
        if topic == "annotation":
            self._begun()
        elif topic == "preparing":
            self._show_preparing()
        elif topic == "edited":
            self.correcting.edited()
            self._permit()
        elif topic == "states":
            self._fill_states()
        elif topic in ("study", "prediction", "shown", "busy", "recalled"):
            if topic != "busy":
                self.tools.fill_sources()
            self._fill()

    def _begun(self) -> None:
        annotating = self.session.annotating
        if annotating.layer is not None:
            self._phase = annotating.phase
            self._bind_keys(annotating.layer)
        self.tools.follow()
        self.tools.fill_sources()
        self._fill_states()
        self.correcting.begun()
        self._fill()

    def _bind_keys(self, layer: Any) -> None:
        for label, key in KEYS.items():
            layer.bind_key(key, lambda _layer, chosen=label: self.correcting.choose(chosen), overwrite=True)
        for made, key in ((self.next, "N"), (self.reviewed, "R")):  # with another dock in front, too
            layer.bind_key(key, lambda _layer, pressed=made: pressed.click(), overwrite=True)
        layer.events.selected_label.connect(lambda _event: self._label_chosen(layer))

    def _label_chosen(self, layer: Any) -> None:
        """The picker, or napari's own control, chose a label."""
        label = int(layer.selected_label)
        if layer is self.session.annotating.layer and label != self.correcting.structure and 0 < label < 254:
            self.correcting.choose(label)

    def _show_preparing(self) -> None:
        words = self.session.annotating.preparing
        if not words:
            self.preparing.stop()
        elif self.preparing.isHidden():
            self.error.hide()
            self.preparing.start(words)
        else:
            self.preparing.step(words, None, None)
        self._fill()

    def _fill(self) -> None:
        session, study = self.session, self.session.study
        begun = session.annotating.layer is not None
        if study is not None and self._phase not in study.phases:
            self._phase = study.fused_phase
        for phase, made in self.phases.items():
            made.setChecked(phase is self._phase)
            allow(made, self._why_not_phase(phase), f"Correct the labels of the {phase} scan")
        unready = study is None or (session.run is None and not begun)
        self.empty.setVisible(not begun)
        self.go.setVisible(unready)
        self.go.setText("Open a study" if study is None else "Segment")
        self.go.setToolTip("Go to the Study dock" if study is None else "Go to the Segment dock")
        self.empty.setText(self._first_words())
        self.phase_row.setVisible(study is not None)
        for part in (*self.parts, self.working):
            part.setVisible(begun)
        self.begin.setVisible(not begun)
        preparing = f"{session.annotating.preparing}..." if session.annotating.preparing else ""
        allow(self.begin, "Open a study first" if study is None else preparing, _BEGIN_TIP)
        self.begin.setText("Correct" if self._phase is None else f"Correct {self._phase} labels")
        self._fill_regions()
        self._permit()

    def _first_words(self) -> str:
        if self.session.study is None:
            return "Open a study first: its labels are corrected here."
        if self.session.run is None:
            return (
                "Segment first: where the model was unsure is listed here, and its labels are put right. Or press "
                "Correct to label from nothing, or to go on where you stopped."
            )
        return (
            "Choose a scan and press Correct: its labels are copied into a layer of their own, saved as you work. "
            "Predictions stay as they are."
        )

    def _why_not_phase(self, phase: Phase) -> str:
        study = self.session.study
        return "" if study is not None and phase in study.volumes else f"There is no {phase} scan"

    def _fill_regions(self) -> None:
        correcting, annotating = self.correcting, self.session.annotating
        found = correcting.regions
        begun = annotating.layer is not None
        self.regions.show_regions(found or [])
        self.regions.show_at(correcting.at)
        self.regions.setVisible(begun and bool(found))
        words = ""
        if annotating.confidence is None:
            words = (
                "No confidence is known for these labels: segment, then begin anew, to have uncertain regions listed."
            )
        elif found is None:
            words = "Looking for uncertain regions..."
        elif not found:
            words = "No uncertain regions: the model was sure everywhere."
        self.no_regions.setText(words)
        self.no_regions.setVisible(begun and bool(words))
        offer_regions(self.listed, correcting.found or [], correcting.only)
        self.listed.setVisible(bool(found))
        self.regions_title.setVisible(not found)

    def _fill_states(self) -> None:
        self.structures.show_states(self.session.annotating.states)
        self._show_structure()

    def _show_structure(self) -> None:
        label = self.correcting.structure
        self.structures.show_chosen(label)
        name = name_of(label)
        self.chosen.setText(f"{name[:1].upper()}{name[1:]}:")
        self.state.setCurrentIndex(
            self.state.findData(self.session.annotating.states.get(label, "not annotated"))
        )  # fmt: skip

    def _permit(self) -> None:
        annotating, job = self.session.annotating, self.session.job
        locked = annotating.reading or ("" if annotating.edits is not None else "Press Correct first")
        busy = f"'{job.title}' is running" if job else ""
        self.tools.permit(locked, busy)
        allow(self.state, locked, "How far the chosen structure is")
        found = self.correcting.regions or []
        left = any(not region.reviewed for region in found)
        allow(self.next, "" if left else "No uncertain region is left in the list", _NEXT_TIP)
        at = self.correcting.at
        here = 0 <= at < len(found) and not found[at].reviewed
        allow(self.reviewed, locked or ("" if here else "Go to a region with Next first"), _REVIEWED_TIP)
        allow(self.again, "" if annotating.confidence is not None else "No confidence is known", _AGAIN_TIP)
        edits = annotating.edits
        undo, redo = (edits.can_undo, edits.can_redo) if edits else ("", "")
        allow(self.undo, "" if undo else "Nothing to undo", f"Take back: {undo} (Ctrl+Z)")
        allow(self.redo, "" if redo else "Nothing to redo", f"Do again: {redo} (Ctrl+Shift+Z, Ctrl+Y)")
