"""The Train dock: what to learn from, how, the run as it goes, and the model that comes out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication, QShowEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QVBoxLayout, QWidget

from napari_multiphase.errors import UserError
from napari_multiphase.gui.dock_parts import (
    Dock,
    ErrorBox,
    ProgressRow,
    allow,
    button,
    heading,
    row,
    spell_seconds,
    wrapped,
)  # fmt: skip
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.run_feed import RunFeed
from napari_multiphase.gui.run_view import RunView, split_lines
from napari_multiphase.gui.session import Session, get_session
from napari_multiphase.gui.train_form import TrainForm, run_form, start_models
from napari_multiphase.gui.training_cases import TrainingCases
from napari_multiphase.jobs import training
from napari_multiphase.jobs.following import RunState

if TYPE_CHECKING:
    import napari

    from napari_multiphase.model import Model

_SHOWN = ("check_run", "prepare_run", "add_model", "export_model", "train")
"""Jobs whose progress and failures this dock tells."""
_START_TIP = "Train in a process of its own, which goes on when napari is closed (Ctrl+Shift+T)"
_CHECK_TIP = "Read every case, and say what is wrong with it, who is held out, and what the run would take"
_COPY_TIP = "The command that does the same without the window, for a terminal or a server"
_STOP_TIP = "End after the current step and save; Resume goes on from there"
_USE_TIP = "Put it among your models, first in the Segment dock"
_EXPORT_TIP = "Copy the model, verified, to a folder of its own"
_SETTLE_MS = 500
_SEEN_MS = 50
_MOST_RUNS = 12


class TrainDock(Dock):
    """From cases to a model."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session: Session = get_session(napari_viewer)
        self.feed = RunFeed(self.session, self._on_run)
        self.now: RunState | None = None
        self._looked = False
        self._told: tuple[Path, str] | None = None
        self._asked: dict[str, Any] = {}
        self._had_studies = bool(recall("training_form", None))
        self._build_body()
        self.body.addStretch(1)
        self._build_footer()
        bridge = self.session.bridge
        bridge.changed.connect(lambda topic: self._on_busy() if topic == "busy" else None)
        bridge.progressed.connect(self._on_progress)
        bridge.failed.connect(self._on_failure)
        self._show_mode()

    def _build_body(self) -> None:
        self.run = QComboBox()
        self.run.setToolTip("A new run, or one of those that were started here")
        self.run.setAccessibleName("Run")
        self.run.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.run.setMinimumContentsLength(12)
        self.run.addItem("New training", "")
        self.run.activated.connect(lambda _index: self.follow(self._chosen_run()))
        self.body.addLayout(row(QLabel("Run"), self.run, stretch=1))
        self.setup = QWidget()
        layout = QVBoxLayout(self.setup)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.hint = wrapped(
            "Check what to learn from, then press Start training. Without cases of your own, the phantoms show how it "
            "goes in two minutes."
        )
        self.cases, self.form = TrainingCases(self._on_form, self._refresh), TrainForm(self._on_form)
        self.estimate, self.findings = wrapped(), wrapped()
        layout.addWidget(self.hint)
        layout.addWidget(self.cases)
        layout.addWidget(self.form)
        layout.addWidget(heading("Plan"))
        layout.addWidget(self.estimate)
        layout.addWidget(self.findings)
        self.view = RunView()
        self.body.addWidget(self.setup)
        self.body.addWidget(self.view)

    def _build_footer(self) -> None:
        self.error = ErrorBox()
        self.progress = ProgressRow(self.session.cancel)
        self.start = button("Start training", self._start, _START_TIP)
        self.start.setShortcut("Ctrl+Shift+T")
        self.check = button("Check data", self._check, _CHECK_TIP)
        self.stop = button("Stop", self._stop, _STOP_TIP)
        self.resume = button("Resume", self._resume, "Go on exactly where it stopped")
        self.use = button("Use this model", self._use, _USE_TIP)
        self.export = button("Export...", self._ask_export, _EXPORT_TIP)
        self.copy = button("Copy command", self._copy, _COPY_TIP)
        self.open_folder = button("Open run folder", self._open_folder, "Curves, settings, report, checkpoints, model")
        self.footer.addWidget(self.error)
        self.footer.addWidget(self.progress)
        self.footer.addLayout(row(self.start, self.stop, self.resume, self.use, self.check, self.export, stretch=0))
        self.footer.addLayout(row(self.open_folder, self.copy))

    # --- what is there -------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Only a dock that is seen looks for studies, models and runs."""
        super().showEvent(event)
        self.session.bridge.later(_SEEN_MS, self._seen)

    def _seen(self) -> None:
        if self.isVisible() and not self._looked:
            self._looked = True
            last = Path(recall("training_run", "") or "/")
            self._fill_runs()
            if last in training.list_runs():
                self.follow(last)
            self._refresh()

    def _refresh(self) -> None:
        """Look for studies and models again, beside the window's thread."""
        threading.Thread(target=self._find, daemon=True, name="multiphase cases").start()

    def _find(self) -> None:
        from napari_multiphase.studies.cases import list_cases

        also = {path for entry in recall("recent", []) for path in map(Path, entry) if path.is_dir()}
        studies, models = list_cases(also=also), start_models()
        self.session.bridge.post(lambda: self._found(studies, models))

    def _found(self, studies: Any, models: Any) -> None:
        self.cases.fill(studies)
        self.form.fill(models)
        self._on_form()

    def _fill_runs(self) -> None:
        chosen = str(self.feed.folder or "")
        self.run.clear()
        self.run.addItem("New training", "")
        runs = training.list_runs()[:_MOST_RUNS]
        if self.feed.folder is not None and self.feed.folder not in runs:
            runs.append(self.feed.folder)
        for folder in runs:
            self.run.addItem(folder.name, str(folder))
        self.run.setCurrentIndex(max(0, self.run.findData(chosen)))

    def _chosen_run(self) -> Path | None:
        return Path(self.run.currentData()) if self.run.currentData() else None

    def follow(self, folder: Path | None) -> None:
        """Show this run from now on, or the form of a new one."""
        self.now, self._told = None, None
        self.error.hide()
        remember("training_run", str(folder or ""))
        self.view.forget()
        self.feed.follow(folder)
        self._fill_runs()
        self._show_mode()
        if folder is None:
            self._asked = {}
            self._refresh()

    # --- the form ------------------------------------------------------------------------------------------------

    def _studies(self) -> list[Path]:
        return [Path(source.key) for source in self.cases.checked() if source.kind == "study"]

    def _form(self) -> dict[str, Any]:
        chosen = self.cases.checked()
        dataset = chosen[0].key if chosen and chosen[0].kind == "dataset" else "phantoms"
        return run_form(self.form.values(), dataset)

    def reason_not(self) -> str:
        """Why nothing can be started; empty where it can."""
        if not self.form.method.count():
            return "Looking for studies and models"
        return self.cases.reason_not() or self.form.reason_not()

    def _on_form(self) -> None:
        studies = self._studies()
        self.form.show_studies(bool(studies))
        if studies and not self._had_studies:  # corrections are learned by the model that was corrected
            self._had_studies = True
            self.form.start_with(self.session.model.card.name if self.session.model else "")
        self._had_studies = bool(studies)
        self._on_busy()
        asked = self._params()
        if asked == self._asked:
            return
        self._asked = asked
        self.findings.hide()
        self.session.bridge.later(_SETTLE_MS, lambda: self._ask_plan(asked))

    def _ask_plan(self, asked: dict[str, Any]) -> None:
        if asked is not self._asked or self.feed.folder is not None:
            return
        if self.session.job is not None and self.session.job.task in _SHOWN:
            return  # which plans as well
        if self.cases.reason_not() or self._studies():
            words = "Check data tells time and memory." if self._studies() else f"{self.cases.reason_not()}."
            self.estimate.setText(words)
            return
        self.estimate.setText("Working out time and memory...")
        self.session.quietly("plan_run", {"form": self._form()}, lambda facts: self._planned(asked, facts))

    def _planned(self, asked: dict[str, Any], facts: Any) -> None:
        if asked is self._asked and not self.findings.isVisible():
            self.estimate.setText(_plan_words(facts) if facts else "No plan could be made; Check data says why.")

    def _params(self) -> dict[str, Any]:
        unreviewed = self.form.values()["unreviewed"]
        return {"form": self._form(), "studies": self._studies(), "unreviewed": unreviewed}

    def _check(self) -> None:
        asked = self._params()
        self.session.ask("check_run", "Checking the data", asked, lambda found: self._checked(asked, found))

    def _checked(self, asked: dict[str, Any], found: Any) -> None:
        if asked != self._params():  # another form by now
            return
        self.estimate.setText(_plan_words(found))
        bad = [p for p in found["problems"] if p["level"] == "bad"]
        marks = [f"{'Cannot be used' if p in bad else 'Note'}: {p['case']}: {p['text']}" for p in found["problems"]]
        cases = f"{found['checked']} case{'' if found['checked'] == 1 else 's'} read"
        head = (
            f"{cases}: {len(bad)} faults; repair the files or leave the cases out."
            if bad
            else f"{cases}, none of them with a fault."
        )
        self.findings.setText("\n".join([head, *marks]))
        self.findings.show()
        self.session.bridge.later(50, lambda: self.scroll_area.ensureWidgetVisible(self.findings, 0, 8))

    def _prepare(self, then: Any, title: str) -> None:
        folder = training.new_run_folder(self.form.values()["name"])
        self.session.ask("prepare_run", title, {**self._params(), "folder": folder}, then)

    def _start(self) -> None:
        self._prepare(self._begin, "Preparing the run")

    def _begin(self, folder: Path) -> None:
        self.follow(folder)
        self._run_process(folder)

    def _run_process(self, folder: Path) -> None:
        self.error.hide()
        self._told = None
        try:
            training.start(folder)
        except UserError as error:
            self.session.tell_error("train", str(error), "")
        self.feed.wake()

    # --- the run -------------------------------------------------------------------------------------------------

    def _on_run(self, folder: Path, now: RunState) -> None:
        before, self.now = self.now, now
        self.view.show_run(folder, now)
        if before is None or before.state != now.state or before.stopping != now.stopping:
            self._on_busy()
        if now.state in ("failed", "lost") and self._told != (folder, now.log):
            self._told = (folder, now.log)
            cause = now.cause[:1].upper() + now.cause[1:] if now.cause.split(" ")[0].isalpha() else now.cause
            self.error.tell(cause, now.log)
        if now.state == "finished" and before is not None and before.working:
            self.session.bridge.later(50, lambda: self.scroll_to(self.view))

    def _stop(self) -> None:
        assert self.feed.folder is not None
        try:
            training.stop(self.feed.folder)
        except UserError as error:
            self.session.tell_error("train", str(error), "")
        self.feed.look()

    def _resume(self) -> None:
        assert self.feed.folder is not None
        self._run_process(self.feed.folder)

    def _use(self) -> None:
        assert self.feed.folder is not None
        params = {"folder": self.feed.folder / "model"}
        self.session.ask("add_model", "Adding the model", params, self._added)

    def _added(self, model: Model) -> None:
        from napari.utils.notifications import show_info

        from napari_multiphase.gui.workbench import bring_forward, open_workbench

        segment = open_workbench(self.session.viewer)["Segment"]
        segment.picker.add_folder(model.folder)  # type: ignore[attr-defined]
        bring_forward(segment)
        show_info(f"'{model.card.name}' is first in the list of models now, and chosen.")

    def _ask_export(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Export the model into a folder", recall("last_out", ""))
        if chosen:
            remember("last_out", chosen)
            self.export_into(Path(chosen))

    def export_into(self, folder: Path) -> None:
        """Copy the model, verified, into a new folder in `folder`."""
        assert self.feed.folder is not None
        params = {"folder": self.feed.folder / "model", "target": folder / self.feed.folder.name}
        self.session.ask("export_model", "Exporting the model", params, self._exported)

    def _exported(self, path: Path) -> None:
        from napari.utils.notifications import show_info

        show_info(f"The model is in {path}.")

    def _copy(self) -> None:
        if self.feed.folder is not None:
            self._copy_of(self.feed.folder)
        else:
            self._prepare(self._prepared_to_copy, "Preparing the run")

    def _prepared_to_copy(self, folder: Path) -> None:
        self.follow(folder)
        self._copy_of(folder)

    def _copy_of(self, folder: Path) -> None:
        from napari.utils.notifications import show_info

        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(training.command_text(folder))
            show_info("The command is in the clipboard.")

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.feed.folder)))

    # --- buttons -------------------------------------------------------------------------------------------------

    def _show_mode(self) -> None:
        self.setup.setVisible(self.feed.folder is None)
        self.view.setVisible(self.feed.folder is not None)
        self._on_busy()

    def _on_busy(self) -> None:
        session, now = self.session, self.now
        busy = f"'{session.job.title}' is running" if session.job else ""
        new, working = self.feed.folder is None, now is not None and now.working
        finished = now is not None and now.state == "finished"
        for part in (self.start, self.check):
            part.setVisible(new)
        self.stop.setVisible(working)
        self.resume.setVisible(now is not None and not working and not finished)
        self.resume.setText("Start training" if now is not None and now.state == "ready" else "Resume")
        self.open_folder.setVisible(not new)
        for part, tip in ((self.use, _USE_TIP), (self.export, _EXPORT_TIP)):
            part.setVisible(finished)
            allow(part, busy, tip)
        reason = busy or self.reason_not()
        allow(self.start, reason, _START_TIP)
        allow(self.check, busy or self.cases.reason_not(), _CHECK_TIP)
        allow(self.copy, reason if new else "", _COPY_TIP)
        allow(self.stop, "It is stopping" if now is not None and now.stopping else "", _STOP_TIP)
        if session.job and session.job.task in _SHOWN:
            self.error.hide()
            self.progress.start(session.job.title)
        else:
            self.progress.stop()

    def _on_progress(self, text: str, fraction: float | None, remaining_s: float | None) -> None:
        if self.session.job and self.session.job.task in _SHOWN:
            self.progress.step(text, fraction, remaining_s)

    def _on_failure(self, task: str, sentence: str, log: str) -> None:
        if task in _SHOWN:
            self.error.tell(sentence, log)


def _plan_words(facts: Any) -> str:
    """Steps, time, memory and the split of a plan."""
    seconds, memory = spell_seconds(facts["seconds"]), facts["memory_mb"] / 1024
    lines = [
        f"{facts['steps']:,} steps, {seconds} (to a factor of two, looks at held-out cases apart), {memory:.1f} GB on "
        f"{facts['device']}.",
        split_lines(facts["train"], facts["validation"], facts["notes"]),
    ]
    return "<br>".join(lines)
