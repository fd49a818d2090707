"""What a dock shows of the jobs that are its own: progress with Cancel, and failures in words."""

from __future__ import annotations

from collections.abc import Collection

from qtpy.QtCore import QObject

from napari_multiphase.gui.dock_parts import ErrorBox, ProgressRow
from napari_multiphase.gui.session import Session


class JobParts(QObject):
    """Keeps `error` and `progress` true to the session's jobs of the names `tasks`; the dock lays them out.

    `failures` are further names whose failures are told here. Goes with its parent, the dock.
    """

    def __init__(
        self, parent: QObject, session: Session, tasks: Collection[str], failures: Collection[str] = ()
    ) -> None:
        super().__init__(parent)
        self._session, self._tasks, self._failures = session, frozenset(tasks), frozenset((*tasks, *failures))
        self.error, self.progress = ErrorBox(), ProgressRow(session.cancel)
        session.bridge.changed.connect(self._on_change)
        session.bridge.progressed.connect(self._on_progress)
        session.bridge.failed.connect(self._on_failure)
        self._on_change("busy")

    def _on_change(self, topic: str) -> None:
        if topic != "busy":
            return
        job = self._session.job
        if job is not None and job.task in self._tasks:
            self.error.hide()
            self.progress.start(job.title)
        else:
            self.progress.stop()

    def _on_progress(self, text: str, fraction: float | None, remaining_s: float | None) -> None:
        if self._session.job is not None and self._session.job.task in self._tasks:
            self.progress.step(text, fraction, remaining_s)

    def _on_failure(self, task: str, sentence: str, log: str) -> None:
        if task in self._failures:
            self.error.tell(sentence, log)
