"""The Segment dock: which model, what it will take, Segment, and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLabel, QWidget

from napari_multiphase.gui.dock_parts import Dock, allow, button, heading, row, toggle, wrapped
from napari_multiphase.gui.job_parts import JobParts
from napari_multiphase.gui.layers import jump_to
from napari_multiphase.gui.model_picker import ModelPicker
from napari_multiphase.gui.model_sharing import MODEL_TASKS
from napari_multiphase.gui.phase_slider import PhaseSlider
from napari_multiphase.gui.refusing import Refusing, can_mix
from napari_multiphase.gui.remember import preference, recall, remember
from napari_multiphase.gui.results import Row, as_sentence, plan_in_words, rows_of
from napari_multiphase.gui.session import Run, Session, get_session
from napari_multiphase.gui.structure_table import StructureTable
from napari_multiphase.gui.study_sharing import TASK as SHARE_TASK
from napari_multiphase.gui.study_sharing import StudySharing

if TYPE_CHECKING:
    import napari

    from napari_multiphase.config import SegmentOptions
    from napari_multiphase.study import Prediction

_SEGMENT_TIP = "Label the structures in both scans (Ctrl+Shift+S)"
_FAST_TIP = "Look at everything in one size instead of several: less exact, in a third to half of the time"
_ONE_SIZE = "This model looks at everything in one size as it is"
_SAVE_TIP = "Write labels, confidence and report to a folder, on the scans' own grids"
_SHOWN = ("register", "segment", "save", SHARE_TASK, *MODEL_TASKS)
"""Jobs whose progress and failures this dock tells."""
_OUTPUTS = {"labels": "Per phase", "fused": "Fused", "confidence": "Confidence"}
_OUTPUT_TIPS = {
    "labels": "A label layer for each phase, on its own grid",
    "fused": "Labels of both phases together, on the venous grid",
    "confidence": "Where the model is unsure: a warm overlay for each label layer",
}


class SegmentDock(Dock):
    """From a study to labels."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session: Session = get_session(napari_viewer)
        self.refusing = Refusing(self.session)
        self._build_setup()
        self._build_results()
        self.body.addStretch(1)
        jobs = JobParts(self, self.session, _SHOWN, failures=("model",))
        self.error, self.progress = jobs.error, jobs.progress
        self.segment = button("Segment", self._segment, _SEGMENT_TIP)
        self.segment.setShortcut("Ctrl+Shift+S")
        self.save = button("Save results...", self._ask_save, _SAVE_TIP)
        self.footer.addWidget(self.error)
        self.footer.addWidget(self.progress)
        self.sharing = StudySharing(self.session, self)
        self.footer.addLayout(row(self.segment, self.save, self.sharing.button, stretch=0))
        self.session.bridge.changed.connect(self._on_change)
        for topic in ("study", "busy", "refused"):
            self._on_change(topic)

    def _build_setup(self) -> None:
        self.empty = wrapped("Open a study first: its scans are segmented here.")
        self.go_open = button("Open a study", self._show_study_dock, "Go to the Study dock")
        self.body.addWidget(self.empty)
        self.body.addWidget(self.go_open)
        self.body.addWidget(heading("Model"))
        self.picker = ModelPicker(self.session)
        self.body.addWidget(self.picker)
        self.gear = toggle("Change", "Choose another device, or the fast way")
        self.body.addLayout(row(heading("Plan"), QWidget(), self.gear, stretch=1))
        self.plan = wrapped("")
        self.body.addWidget(self.plan)
        self.offer = button("", self._take_offer, "Also segment a synthetic image of the phase that is missing")
        self.offer.hide()
        self.body.addWidget(self.offer)
        self.device = QComboBox()
        for name in ("auto", "cpu", "cuda", "mps"):
            self.device.addItem(name, name)
        self.device.setCurrentIndex(max(0, self.device.findData(preference("segment", "device", "auto"))))
        self.device.activated.connect(lambda _index: self._ask_plan())
        self.fast = QCheckBox("Fast")
        self.fast.clicked.connect(lambda _checked: self._ask_plan())
        self.overrides = QWidget()
        self.overrides.setLayout(row(QLabel("Device"), self.device, self.fast, stretch=1))
        self.overrides.hide()
        self.gear.toggled.connect(self.overrides.setVisible)
        self.body.addWidget(self.overrides)
        self.outputs: dict[str, QCheckBox] = {}
        chosen = recall("outputs", list(_OUTPUTS))
        self.body.addWidget(heading("Outputs"))
        for key, text in _OUTPUTS.items():
            box = QCheckBox(text)
            box.setToolTip(_OUTPUT_TIPS[key])
            box.setChecked(key in chosen)
            box.toggled.connect(lambda _checked: self._on_outputs())
            self.outputs[key] = box
        self.body.addLayout(row(*self.outputs.values()))

    def _build_results(self) -> None:
        self.result_title = heading("Results")
        self.notes = wrapped(faint=True)
        self.slider = PhaseSlider(self.refusing.move, self.refusing.rest)
        self.table = StructureTable(self.session.set_hidden, self._go_to)
        self.as_seg = QCheckBox("Save DICOM SEG as well")
        self.as_seg.setToolTip("Segmentation objects that refer to the DICOM images, beside the NIfTI files")
        self.results: list[QWidget] = [self.result_title, self.slider, self.table, self.notes, self.as_seg]
        for part in self.results:
            self.body.addWidget(part)
            part.hide()

    # --- what the user does --------------------------------------------------------------------------------------

    def options(self) -> SegmentOptions:
        """What was chosen; the rest is the model's."""
        from napari_multiphase.config import SegmentOptions

        sizes = () if self.fast.isEnabled() and self.fast.isChecked() else None
        return SegmentOptions(
            device=self.device.currentData(), phase_weight=self.session.phase_weight, further_sizes=sizes
        )

    def chosen_outputs(self) -> frozenset[str]:
        """Which results become layers."""
        return frozenset(key for key, box in self.outputs.items() if box.isChecked())

    def _segment(self) -> None:
        """Fusing needs to know how the phases lie to each other: a pair that nobody registered is registered first."""
        if self.session.unregistered:
            self.session.register(then=self._predict)
        else:
            self.session.keep_transform()  # what results rest on is not lost
            self._predict()

    def _predict(self) -> None:
        session = self.session
        params = {"study": session.study, "model": session.model, "options": self.options()}
        outputs = self.chosen_outputs()
        session.ask("segment", "Segmenting", params, lambda prediction: self._segmented(prediction, outputs))

    def _segmented(self, prediction: Prediction, outputs: frozenset[str]) -> None:
        session = self.session
        if session.study is None or prediction.study_id != session.study.id:
            return
        session.new_run(prediction, outputs)

    def _ask_centres(self) -> None:
        """Where the structures lie in the fused result as it is now."""
        run = self.session.run
        if run is not None:
            labels = run.prediction.fused_labels
            self.session.quietly("centres", {"labels": labels}, lambda found: self._centred(run, labels, found))

    def _centred(self, run: Run, labels: Any, found: Any) -> None:
        if labels is run.prediction.fused_labels:
            run.centres = found or {}

    def _ask_save(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Save results into a folder", recall("last_out", ""))
        if chosen:
            remember("last_out", chosen)
            self.save_into(Path(chosen))

    def save_into(self, folder: Path) -> None:
        """Write the newest results into `folder`, in the worker."""
        session = self.session
        assert session.run is not None
        seg = self.as_seg.isVisibleTo(self) and self.as_seg.isChecked()
        params: dict[str, Any] = {"prediction": session.run.prediction, "study": session.study, "out": folder}
        params["format"] = "dicom-seg" if seg else "nifti"
        session.ask("save", f"Saving into {folder.name}", params, lambda paths: self._saved(folder, paths))

    def _saved(self, folder: Path, paths: list[Path]) -> None:
        from napari.utils.notifications import show_info

        show_info(f"Saved {len(paths)} files into {folder}.")

    def _go_to(self, entry: Row) -> None:
        run = self.session.run
        if run is not None and str(entry.label) in run.centres:
            jump_to(self.session.viewer, run.prediction.fused_grid, run.centres[str(entry.label)])

    def _show_study_dock(self) -> None:
        from napari_multiphase.gui.workbench import open_workbench

        open_workbench(self.session.viewer)

    def _on_outputs(self) -> None:
        remember("outputs", sorted(self.chosen_outputs()))
        self._on_busy()

    def _ask_plan(self) -> None:
        session = self.session
        if session.study is None or session.model is None:
            return
        self.plan.setText("Working out a plan...")
        self.offer.hide()
        params = {"study": session.study, "model": session.model, "options": self.options()}
        revision = session.revision
        session.quietly("plan", params, lambda plan: self._planned(plan, revision))

    def _planned(self, plan: Any, revision: int) -> None:
        if revision != self.session.revision:
            return
        self.session.plan = plan
        self.plan.setText(plan_in_words(plan) if plan else "No plan could be made; Segment will say why.")
        name = plan["offer"] if plan else ""
        self.offer.setText(f"Use {name}")
        self.offer.setVisible(bool(name))

    def _take_offer(self) -> None:
        assert self.session.plan is not None
        self.picker.choose(self.session.plan["offer"])

    # --- what the session says -----------------------------------------------------------------------------------

    def _on_change(self, topic: str) -> None:
        if topic in ("study", "model", "transform"):
            for widget in (self.empty, self.go_open):
                widget.setVisible(self.session.study is None)
            self.plan.setText("" if self.session.study else "Known once a study is open.")
            several = self.session.model is not None and self.session.model.card.further_sizes
            allow(self.fast, "" if several else _ONE_SIZE, _FAST_TIP)
            self._ask_plan()
            self._on_busy()
        if topic in ("study", "prediction", "refused"):
            self._fill_results()
        if topic in ("prediction", "refused"):
            self._ask_centres()
        if topic == "prediction":
            self.session.bridge.later(50, lambda: self.scroll_to(self.result_title))
        if topic in ("busy", "annotation"):
            self._on_busy()

    def _on_busy(self) -> None:
        session, job = self.session, self.session.job
        reason = f"'{job.title}' is running" if job else ""
        reason = reason or ("" if session.study else "Open a study first")
        reason = reason or ("" if session.model else "Choose a model first")
        allow(self.segment, reason or ("" if self.chosen_outputs() else "Choose an output first"), _SEGMENT_TIP)
        self.save.setVisible(session.run is not None)
        allow(self.save, f"'{job.title}' is running" if job else "", _SAVE_TIP)
        self.sharing.refresh()

    def _fill_results(self) -> None:
        run = self.session.run
        for part in self.results:
            part.setVisible(run is not None)
        if run is not None:
            prediction = run.prediction
            self.slider.setVisible(can_mix(run))
            self.slider.show_weight(self.session.phase_weight)
            self.table.show_rows(rows_of(prediction.report.get("structures", ())), self.session.hidden)
            self.notes.setText("\n".join(as_sentence(note) for note in prediction.notes))
            self.notes.setVisible(bool(prediction.notes))
            volumes = self.session.study.volumes.values() if self.session.study else ()
            self.as_seg.setVisible(all(volume.source.format == "dicom" for volume in volumes))
        self._on_busy()
