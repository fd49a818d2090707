"""The Train dock: what to learn from, how, the run as it goes, and the model that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_multiphase.errors import UserError
from napari_multiphase.gui.dock_parts import allow, button, row
from napari_multiphase.gui.job_parts import JobParts
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.run_feed import RunFeed
from napari_multiphase.gui.run_uses import USE_TASKS, RunUses
from napari_multiphase.gui.run_view import RunView
from napari_multiphase.gui.seen_dock import SeenDock
from napari_multiphase.gui.session import get_session
from napari_multiphase.gui.train_setup import SETUP_TASKS, TrainSetup
from napari_multiphase.jobs import training
from napari_multiphase.jobs.following import RunState

if TYPE_CHECKING:
    import napari

_SHOWN = (*SETUP_TASKS, *USE_TASKS, "train")
"""Jobs whose progress and failures this dock tells."""
_START_TIP = "Train in a process of its own, which goes on when napari is closed (Ctrl+Shift+T)"
_CHECK_TIP = "Read every case, and say what is wrong with it, who is held out, and what the run would take"
_COPY_TIP = "The command that does the same without the window, for a terminal or a server"
_STOP_TIP = "End after the current step and save; Resume goes on from there"
_MOST_RUNS = 12


class TrainDock(SeenDock):
    """From cases to a model."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(get_session(napari_viewer))
        self.feed = RunFeed(self.session, self._on_run)
        self.now: RunState | None = None
        self._told: tuple[Path, str] | None = None
        self._build_body()
        self.body.addStretch(1)
        self._build_footer()
        self.session.bridge.changed.connect(lambda topic: self._on_busy() if topic == "busy" else None)
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
        self.setup = TrainSetup(self.session, self._on_busy, self._show_found)
        self.view = RunView()
        self.body.addWidget(self.setup)
        self.body.addWidget(self.view)

    def _build_footer(self) -> None:
        jobs = JobParts(self, self.session, _SHOWN)
        self.error, self.progress = jobs.error, jobs.progress
        self.start = button("Start training", self._start, _START_TIP)
        self.start.setShortcut("Ctrl+Shift+T")
        self.check = button("Check data", self.setup.check, _CHECK_TIP)
        self.stop = button("Stop", self._stop, _STOP_TIP)
        self.resume = button("Resume", self._resume, "Go on exactly where it stopped")
        self.copy = button("Copy command", self._copy, _COPY_TIP)
        self.uses = uses = RunUses(self.session, self, lambda: self.feed.folder)
        self.footer.addWidget(self.error)
        self.footer.addWidget(self.progress)
        self.footer.addLayout(row(self.start, self.stop, self.resume, uses.use, self.check, uses.export, stretch=0))
        self.footer.addLayout(row(uses.open_folder, self.copy))

    # --- what is there -------------------------------------------------------------------------------------------

    def first_seen(self) -> None:
        """The run that was followed last, if it is still there."""
        last = Path(recall("training_run", "") or "/")
        self._fill_runs()
        if last in training.list_runs():
            self.follow(last)

    def seen(self) -> None:
        """Whatever was corrected since the last look."""
        if self.feed.folder is None:
            self.setup.look()

    def _show_found(self, what: QWidget) -> None:
        self.session.bridge.later(50, lambda: self.scroll_area.ensureWidgetVisible(what, 0, 8))

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
            self.setup.anew()

    # --- a new run -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.setup.prepare(self._begin)

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

    def _copy(self) -> None:
        if self.feed.folder is not None:
            self.uses.copy_command()
        else:
            self.setup.prepare(self._prepared_to_copy)

    def _prepared_to_copy(self, folder: Path) -> None:
        self.follow(folder)
        self.uses.copy_command()

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
        self.uses.permit(finished, busy)
        reason = busy or self.setup.reason_not()
        allow(self.start, reason, _START_TIP)
        allow(self.check, busy or self.setup.cases.reason_not(), _CHECK_TIP)
        allow(self.copy, reason if new else "", _COPY_TIP)
        allow(self.stop, "It is stopping" if now is not None and now.stopping else "", _STOP_TIP)
