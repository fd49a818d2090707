"""What a run leaves behind while it runs: ``events.jsonl``, ``metrics.csv`` and, if installed, TensorBoard's files.

``metrics.csv`` holds no times: the file of a run that was killed and resumed equals an uninterrupted run's, byte for
byte. A disk that refuses is reported once and never ends a run: curves are worth less than the weights.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event, OnEvent, ignore
from napari_multiphase.training.run_folder import EVENTS_FILE, METRICS_FILE, Row, Split

TENSORBOARD_FOLDER = "tensorboard"


class Recorder:
    """Writes a run folder's records. One process of a run has one; opening it changes no file.

    Parameters
    ----------
    folder : the run folder.
    on_warning : hears, once per file, that it cannot be written; the run goes on.
    """

    def __init__(self, folder: Path, on_warning: OnEvent = ignore) -> None:
        self._events, self._metrics = folder / EVENTS_FILE, folder / METRICS_FILE
        self._warn, self._warned = on_warning, set[str]()
        self._size = _size(self._metrics)
        self._unwritten = b""
        self._board = _Board(folder / TENSORBOARD_FOLDER)

    def tell(self, event: Event) -> None:
        """Append `event` to ``events.jsonl``; it is in the file when this returns."""
        try:
            with self._events.open("ab", buffering=0) as log:
                torn = log.tell() and not _ends_a_line(self._events)
                _write(log, (b"\n" if torn else b"") + event.to_json().encode() + b"\n")
        except OSError as error:
            self._refused(EVENTS_FILE, error)

    def metrics(self, split: Split, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row per value; `step` counts over all stages. Rows that a full disk refused are tried again."""
        rows = [Row(step, stage, split, name, float(value)) for name, value in values.items()]
        self._unwritten += _lines(rows)
        try:
            self._append()
        except OSError as error:
            self._refused(METRICS_FILE, error)
        try:
            self._board.add(rows)
        except OSError as error:
            self._refused(TENSORBOARD_FOLDER, error)
        except Exception as error:  # an installation that does not work is not worth a run
            self._board.broken = True
            self._refused(TENSORBOARD_FOLDER, UserError(f"{type(error).__name__}: {error}"))

    def attempt(self, what: str, write: Callable[[], object]) -> None:
        """Call `write`, which makes `what` in the run folder; where the disk refuses, that is all that is lost."""
        try:
            write()
        except (OSError, UserError) as error:
            self._refused(what, error)

    def position(self) -> dict[str, int]:
        """How much of the records belongs to the run up to now, for a checkpoint; what it counts is on the disk."""
        try:
            with self._metrics.open("r+b", buffering=0) as table:
                table.truncate(self._size)
                os.fsync(table.fileno())
        except FileNotFoundError:
            self._size = 0
        except OSError as error:
            self._refused(METRICS_FILE, error)
        return {"metrics_bytes": self._size}

    def rewind(self, position: Mapping[str, int]) -> None:
        """Drop every row after `position`, torn lines included; ``{"metrics_bytes": 0}`` starts over.

        A lost file is reported and begun anew.

        Raises
        ------
        UserError : ``metrics.csv`` is shorter than `position`, or cannot be cut.
        """
        wanted = int(position["metrics_bytes"])
        self._unwritten = b""
        self._board.resumed = True
        try:
            self._size = self._cut(wanted)
        except OSError as error:
            words = error.strerror or str(error)
            raise UserError(f"{self._metrics}: cannot be cut to the checkpoint's length ({words})") from error

    def _cut(self, wanted: int) -> int:
        if not self._metrics.exists():
            if wanted:
                text = f"{self._metrics} is gone: the curves begin anew, the weights are not affected"
                self._warn(Event("warning", text))
            return 0
        there = self._metrics.stat().st_size
        if there < wanted:
            raise UserError(
                f"{self._metrics} has {there} bytes where the checkpoint counts {wanted}: put back the whole file, "
                "or remove it to go on with new curves"
            )
        os.truncate(self._metrics, wanted)
        return wanted

    def _append(self) -> None:
        """Write what waits behind the last whole row, over anything a refused write left there."""
        with self._metrics.open("r+b" if self._metrics.exists() else "w+b", buffering=0) as table:
            if table.seek(0, os.SEEK_END) < self._size:
                self._size = _size(self._metrics)
                raise OSError("somebody shortened it")
            table.seek(self._size)
            block = self._unwritten if self._size else _HEADER + self._unwritten
            _write(table, block)
            table.truncate()
        self._size += len(block)
        self._unwritten = b""

    def _refused(self, what: str, error: OSError | UserError) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        words = str(error) if isinstance(error, UserError) else (error.strerror or str(error)).lower()
        self._warn(Event("warning", f"{what} of this run cannot be written ({words}); training goes on"))


class _Board:
    """TensorBoard's event files, where the package is installed; made with the first row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self.resumed = False
        self.broken = False

    def add(self, rows: list[Row]) -> None:
        """One point per row; after a resume, points from there on replace those of the run that was killed."""
        if self.broken or not rows or find_spec("tensorboard") is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=rows[0].step if self.resumed else None)
        for row in rows:
            self._writer.add_scalar(f"{row.stage}/{row.name} ({row.split})", row.value, row.step)
        self._writer.flush()


# --- reading ---------------------------------------------------------------------------------------------------------


def read_metrics(folder: Path) -> list[Row]:
    """The rows of a run folder's ``metrics.csv``, a torn last line left out; empty where there is no such file."""
    try:
        text = (folder / METRICS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / METRICS_FILE} cannot be read: {error}") from error
    whole = text[: text.rfind("\n") + 1]
    return list(_rows(csv.reader(io.StringIO(whole)), folder))


def _rows(table: Iterator[list[str]], folder: Path) -> Iterator[Row]:
    for number, cells in enumerate(table):
        if number == 0:
            continue
        try:
            step, stage, split, name, value = cells
            yield Row(int(step), stage, split, name, float(value))  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"{folder / METRICS_FILE}: line {number + 1} is damaged; remove that line") from error


def read_events(folder: Path) -> list[Event]:
    """The events of a run folder, oldest first; lines that a crash tore are left out."""
    try:
        lines = (folder / EVENTS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [event for line in lines if (event := _event(line)) is not None]


def _event(line: str) -> Event | None:
    try:
        return Event.from_json(line)
    except (ValueError, TypeError):
        return None


# --- bytes -----------------------------------------------------------------------------------------------------------


def _lines(rows: list[Row]) -> bytes:
    text = io.StringIO()
    written = [(*row[:4], repr(row.value) if math.isfinite(row.value) else str(row.value)) for row in rows]
    csv.writer(text, lineterminator="\n").writerows(written)
    return text.getvalue().encode()


_HEADER = (",".join(Row._fields) + "\n").encode()


def _write(handle: Any, block: bytes) -> None:
    """All of `block`; an unbuffered write may take only a part."""
    view = memoryview(block)
    while view:
        view = view[handle.write(view) :]


def _size(path: Path) -> int:
    """Bytes up to the last whole line; 0 where there is no such file."""
    try:
        block = path.read_bytes()
    except OSError:
        return 0
    return block.rfind(b"\n") + 1


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"
