"""A run as it goes, read from what the trainer writes: state in words, progress, curves, pictures. No torch here."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from napari_multiphase.events import Event
from napari_multiphase.jobs import training
from napari_multiphase.training.preview import PREVIEW_FOLDER
from napari_multiphase.training.run_folder import EVENTS_FILE, METRICS_FILE, Row

State = Literal["ready", "starting", "preparing", "training", "validating", "stopped", "finished", "failed", "lost"]
WORKING: frozenset[State] = frozenset(("starting", "preparing", "training", "validating"))
_SIGNATURE = 256
_LOG_BYTES = 6000
_SILENT_S = 3600.0
"""A run on another computer that said nothing for so long is taken for dead."""
_NO_REASON = "ended without a word: most likely it was killed, or the computer ran out of memory or was switched off"

Points = list[tuple[int, float]]


@dataclass
class RunState:
    """What is known of a run.

    Attributes
    ----------
    cause : why it failed, one sentence; `log` holds the last lines that the trainer printed.
    message, fraction, remaining_s : what it does now, share of all steps done, seconds left when this was said.
    losses, dice : (step, value) by name; losses of training, Dice of held-out cases.
    previews : pictures of held-out slices, in the order of their steps.
    """

    state: State = "ready"
    cause: str = ""
    log: str = ""
    message: str = ""
    fraction: float | None = None
    remaining_s: float | None = None
    said_s: float = 0.0
    step: int = 0
    stopping: bool = False
    warnings: list[str] = field(default_factory=list)
    losses: dict[str, Points] = field(default_factory=dict)
    dice: dict[str, Points] = field(default_factory=dict)
    previews: list[Path] = field(default_factory=list)

    @property
    def working(self) -> bool:
        """Whether a process is at it."""
        return self.state in WORKING

    def left_s(self) -> float | None:
        """Seconds left now."""
        return None if self.remaining_s is None else max(0.0, self.remaining_s - (time.time() - self.said_s))


class GrowingFile:
    """The whole lines of a file that another process writes, each once; a torn end waits for its rest.

    A file that was cut and grew again, as ``metrics.csv`` when a run goes on from a checkpoint, is read anew: then
    what lies before the place that was read to is no longer what it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at, self._before = 0, b""

    def read(self) -> tuple[bool, list[str]]:
        """(whether to forget all lines before these, new lines)."""
        try:
            with self._path.open("rb") as handle:
                anew = self._at > 0 and not self._unchanged(handle)
                if anew:
                    self._at, self._before = 0, b""
                handle.seek(self._at)
                block = handle.read()
        except OSError:
            anew, self._at, self._before = self._at > 0, 0, b""
            return anew, []
        whole = block[: block.rfind(b"\n") + 1]
        self._at += len(whole)
        self._before = (self._before + whole)[-_SIGNATURE:]
        return anew, whole.decode("utf-8", errors="replace").split("\n")[:-1]

    def _unchanged(self, handle: BinaryIO) -> bool:
        if handle.seek(0, os.SEEK_END) < self._at:
            return False
        handle.seek(self._at - len(self._before))
        return bool(handle.read(len(self._before)) == self._before)


class Follower:
    """Reads a run folder again and again; each look costs what is new."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._events, self._metrics = GrowingFile(self.folder / EVENTS_FILE), GrowingFile(self.folder / METRICS_FILE)
        self._said: list[Event] = []
        self._rows: list[Row] = []

    def read(self) -> RunState:
        """The run as it is now."""
        alive = training.is_alive(self.folder)  # first: what a process says before it ends is then in the files
        self._read_events()
        self._read_metrics()
        now = RunState(stopping=alive and (self.folder / training.STOP_FILE).exists())
        self._fill(now)
        self._judge(now, alive)
        return now

    def _read_events(self) -> None:
        anew, lines = self._events.read()
        if anew:
            self._said = []
        for line in lines:
            try:
                event = Event.from_json(line)
            except (ValueError, TypeError):  # torn by a crash
                continue
            if "machine" in event.data:  # a process begins: what was said before is another one's
                self._said = []
            self._said.append(event)

    def _read_metrics(self) -> None:
        anew, lines = self._metrics.read()
        if anew:
            self._rows = []
        for cells in csv.reader(lines):
            try:
                step, stage, split, name, value = cells
                self._rows.append(Row(int(step), stage, split, name, float(value)))  # type: ignore[arg-type]
            except ValueError:  # the heading, or a torn line
                continue

    def _fill(self, now: RunState) -> None:
        losses: dict[str, Points] = defaultdict(list)
        dice: dict[str, Points] = defaultdict(list)
        for row in self._rows:
            of = losses if row.split == "train" else dice
            of[row.name if row.split == "train" else row.name.removeprefix("dice ")].append((row.step, row.value))
            now.step = max(now.step, row.step)
        now.losses, now.dice = dict(losses), dict(dice)
        now.previews = sorted((self.folder / PREVIEW_FOLDER).glob("[0-9]*.png"))
        now.warnings = [e.message for e in self._said if e.kind == "warning" and not e.data.get("stopped")]
        for event in self._said:
            if event.kind in ("started", "progress", "metric") and event.message:
                now.message = event.message
            if event.kind == "started" and "stage" in event.data and now.remaining_s is None:
                now.fraction = 0.0  # of the steps; before, it was of the cases to prepare
            if event.fraction is not None:
                now.fraction = event.fraction
            if event.remaining_s is not None:
                now.remaining_s, now.said_s = event.remaining_s, event.time_s

    def _judge(self, now: RunState, alive: bool) -> None:
        last = self._said[-1] if self._said else None
        if last is None or training.begun_s(self.folder) > last.time_s:  # who works now, or did, has not said a word
            now.message, now.fraction, now.remaining_s = "", None, None
            if alive:
                now.state = "starting"
            elif training.begun_s(self.folder):
                self._fail(now, "failed", _complaint(self.log_tail()))
        elif training.is_finished(self.folder):
            now.state, now.fraction, now.remaining_s = "finished", 1.0, None
        elif alive:  # also where it has said that it stops: it may not have ended yet
            now.state, now.stopping = self._doing(last), now.stopping or bool(last.data.get("stopped"))
        elif last.kind == "failed":
            self._fail(now, "failed", last.message)
        elif last.data.get("stopped"):
            now.state, now.remaining_s = "stopped", None
        elif (other := training.other_host(self.folder)) and time.time() - last.time_s < _SILENT_S:
            now.state, now.message = self._doing(last), f"on {other}: {now.message}"
        else:
            self._fail(now, "lost", self._ending())

    def _doing(self, last: Event) -> State:
        steps = [e for e in self._said if e.kind == "metric" or "stage" in e.data or e.data.get("validation")]
        if not steps:
            return "preparing"
        return "validating" if last.kind == "progress" and last.data.get("validation") else "training"

    def _fail(self, now: RunState, state: State, cause: str) -> None:
        now.state, now.cause, now.log, now.remaining_s = state, cause, self.log_tail(), None

    def _ending(self) -> str:
        code = training.exit_code(self.folder)
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            why = ", as a system does that runs out of memory" if name == "SIGKILL" else ""
            return f"the training process was ended by {name}{why}; Resume goes on from the last checkpoint"
        return f"the training process {_NO_REASON}; Resume goes on from the last checkpoint"

    def log_tail(self) -> str:
        """The last lines of what the trainer printed."""
        try:
            with (self.folder / training.LOG_FILE).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
                return log.read().decode("utf-8", errors="replace").strip()
        except OSError:
            return ""


def _complaint(log: str) -> str:
    """What a process said that ended before its run began."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = said[-1] if said else lines[-1] if lines else "$ "
    return f"the training process {_NO_REASON}" if last.startswith("$ ") else last
