"""What lies where in a run folder, how a row of its curves looks, and the message that stops the run. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from napari_multiphase.errors import Cancelled
from napari_multiphase.events import Cancel

RUN_FILE = "run.yaml"
PLAN_FILE = "plan.yaml"
"""What a run was asked to be from the window: the trainer reads it and writes ``run.yaml``."""
EVENTS_FILE = "events.jsonl"
METRICS_FILE = "metrics.csv"
MODEL_FOLDER = "model"
STOP_FILE = "stop"
"""Whoever makes this file in the folder of a run stops it after its current step, on every system."""

Split = Literal["train", "validation"]


class Row(NamedTuple):
    """One line of ``metrics.csv``; `step` counts over all stages."""

    step: int
    stage: str
    split: Split
    name: str
    value: float


class CancelOrStop(Cancel):
    """Asked to stop by `cancel`, or by a `STOP_FILE` in the run folder that is younger than this process.

    An older one was meant for a process that is gone.
    """

    def __init__(self, folder: Path, cancel: Cancel) -> None:
        super().__init__()
        self._file, self._cancel = folder / STOP_FILE, cancel
        self._begun_s = psutil.Process().create_time()

    def set(self) -> None:
        """Ask for it from within."""
        self._cancel.set()

    @property
    def requested(self) -> bool:
        """Whether someone asked."""
        return self._cancel.requested or self._file_asks()

    def check(self) -> None:
        """Raise `Cancelled` if someone asked."""
        self._cancel.check()
        if self._file_asks():
            raise Cancelled

    def forget(self) -> None:
        """The message was heard."""
        self._file.unlink(missing_ok=True)

    def _file_asks(self) -> bool:
        try:
            return self._file.stat().st_mtime > self._begun_s
        except OSError:
            return False
