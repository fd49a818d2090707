"""Saves an annotation on a thread of its own, soon after each change. No Qt: the window only leaves notes here.

A note says where something changed, or that it may be anywhere. The thread compares with the file and writes what
differs; it sleeps while there is no note, but for a look over everything once a minute, should a note have failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.studies.annotation import Annotation, StructureState
from napari_multiphase.studies.chunks import Box
from napari_multiphase.studies.snapshots import take

REST_S = 0.5
"""A save begins when nothing changed for this long,"""
MOST_S = 2.0
"""or when the oldest change that is not saved is this old."""
RETRY_S = 3.0
SWEEP_S = 60.0
SNAPSHOT_S = 600.0
"""While something changes, a snapshot is taken this often."""
_LOCK_WAIT_S = 3.0

Kind = Literal["saved", "unsaved", "saving", "failed", "reading", "closed"]


@dataclass(frozen=True)
class SaveState:
    """How it stands: when it was last safe (seconds, as `time.time`), why a save failed, what became of the states."""

    kind: Kind
    safe_at: float = 0.0
    why: str = ""
    states: dict[int, StructureState] | None = None

    def words(self, now: float) -> str:
        """How safe the work is, for the dock; `now` as `time.time`."""
        if self.kind == "failed":
            return f"NOT SAVED: {self.why}"
        if self.kind == "saving":
            return "Saving"
        if self.kind == "unsaved":
            return "Not yet saved"
        seconds = max(0.0, now - self.safe_at)
        if seconds < 60:
            return f"Saved {seconds:.0f} s ago"
        return f"Saved {seconds / 60:.0f} min ago" if seconds < 5400 else f"Saved {seconds / 3600:.0f} h ago"


@dataclass(frozen=True)
class Opened:
    """What the file held: arrays of the caller's own. `reading` says in words why it cannot be changed, or is ""."""

    annotation: Annotation
    labels: NDArray[np.uint8]
    reviewed: NDArray[np.bool_]
    reading: str


class Autosave(threading.Thread):
    """One annotation's file, from opening to closing. `start` it; all callbacks come on its thread.

    Parameters
    ----------
    path : the file.
    opened : gets what it held, or the UserError why it cannot be opened.
    told : gets every change of `SaveState`.
    """

    def __init__(
        self, path: Path, opened: Callable[[Opened | UserError], object], told: Callable[[SaveState], object]
    ) -> None:
        super().__init__(name="multiphase autosave", daemon=True)
        self.path = path
        self._opened, self._told = opened, told
        self._wake = threading.Condition()
        self._arrays: Callable[[], tuple[NDArray[np.uint8], NDArray[np.bool_]]] | None = None
        self._boxes: list[Box] = []
        self._anywhere = False
        self._wanted: dict[int, StructureState] = {}
        self._snapshot = ""
        self._first = self._last = 0.0
        self._not_before = 0.0
        self._closing = False
        self._annotation: Annotation | None = None
        self.state = SaveState("saved", time.time())

    # --- the window's side: none of these waits ------------------------------------------------------------------

    def watch(self, arrays: Callable[[], tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> None:
        """From now on the labels and what was reviewed are what `arrays` returns."""
        with self._wake:
            self._arrays = arrays
            self._wake.notify()

    def touch(self, box: Box | None = None) -> None:
        """Something changed in `box`, or anywhere."""
        with self._wake:
            now = time.monotonic()
            if not self._dirty:
                self._first = now
            self._last = now
            if box is None:
                self._anywhere = True
            elif box not in self._boxes[-1:]:
                self._boxes.append(box)
            self._wake.notify()
        if self.state.kind == "saved":
            self._tell("unsaved")

    def set_state(self, label: int, state: StructureState) -> None:
        """Give a structure a state with the next save."""
        with self._wake:
            self._wanted[label] = state
            self._first = self._last = min(self._first, time.monotonic()) if self._dirty else time.monotonic()
            self._wake.notify()
        if self.state.kind == "saved":
            self._tell("unsaved")

    def snapshot(self, name: str) -> None:
        """Save, then take a snapshot."""
        with self._wake:
            self._snapshot = name
            self._wake.notify()

    def close(self) -> None:
        """Look over everything, save what is left and end; "closed" is told. `join` waits for it.

        A save that fails is told as "failed" and tried again, as before.
        """
        with self._wake:
            self._closing = self._anywhere = True
            self._wake.notify()

    # --- the thread ----------------------------------------------------------------------------------------------

    @property
    def _dirty(self) -> bool:
        return bool(self._boxes or self._anywhere or self._wanted)

    def run(self) -> None:
        """Open, then save until `close`."""
        if not self._open():
            return
        assert self._annotation is not None
        swept = kept = time.monotonic()
        while True:
            with self._wake:
                while not self._due() and (pause := self._pause(swept)) > 0:
                    self._wake.wait(pause)
                closing, name = self._closing, self._snapshot
                self._snapshot = ""
            now = time.monotonic()
            if now - swept > SWEEP_S and self._arrays is not None:
                self._anywhere, swept = True, now
            good = self._save()
            if not name and now - kept > SNAPSHOT_S:
                name, kept = "later", now
            if name and good:
                self._take(name)
            if closing and good:
                self._annotation.close()
                self._tell("closed")
                return

    def _due(self) -> bool:
        if self._closing or self._snapshot:
            return time.monotonic() >= self._not_before
        return self._dirty and self._arrays is not None and self._pause(0.0) <= 0

    def _pause(self, swept: float) -> float:
        """Seconds until there is something to do, if nobody says anything."""
        now = time.monotonic()
        if self._arrays is None:
            return RETRY_S
        if not self._dirty:
            return swept + SWEEP_S - now
        return max(self._not_before, min(self._last + REST_S, self._first + MOST_S)) - now

    def _open(self) -> bool:
        until, reading = time.monotonic() + _LOCK_WAIT_S, ""
        while True:
            try:
                made = Annotation.open(self.path, write=not reading)
                held = Opened(made, made.labels(), made.reviewed(), reading)
                break
            except UserError as error:
                if "another window" in str(error) and not reading:
                    if time.monotonic() > until:
                        reading = str(error)
                    time.sleep(0.1)
                    continue
                self._opened(error)
                return False
        self._annotation = made
        self._opened(held)
        if reading:
            self._tell("reading", reading)
            made.close()
            return False
        self._tell("saved")
        return True

    def _save(self) -> bool:
        with self._wake:
            boxes, anywhere, wanted, arrays = self._boxes, self._anywhere, dict(self._wanted), self._arrays
            first = self._first
            self._boxes, self._anywhere = [], False
        if arrays is None or not (boxes or anywhere or wanted):
            return True
        assert self._annotation is not None
        begun = time.time()
        if self.state.kind != "failed":
            self._tell("saving")
        try:
            labels, reviewed = arrays()
            # Strokes bring what was reviewed with them; what is found by looking is marked as a person's change.
            self._annotation.save(labels, reviewed, {**self._annotation.states, **wanted}, boxes, mark=False)
            if anywhere:
                self._annotation.save(labels, reviewed)
        except Exception as error:  # whatever it is, the user must know, and the work must be tried again
            with self._wake:
                self._boxes, self._anywhere, self._first = [*boxes, *self._boxes], anywhere or self._anywhere, first
                self._not_before = time.monotonic() + RETRY_S
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._tell("failed", why)
            return False
        with self._wake:
            for label, state in wanted.items():
                if self._wanted.get(label) == state:
                    del self._wanted[label]
            dirty = self._dirty
        self._tell("unsaved" if dirty else "saved", safe_at=begun)
        return True

    def _take(self, name: str) -> None:
        assert self._annotation is not None
        try:
            take(self._annotation, name)
        except UserError as error:
            self._tell("failed", f"no snapshot could be taken: {error}")

    def _tell(self, kind: Kind, why: str = "", safe_at: float | None = None) -> None:
        states = dict(self._annotation.states) if self._annotation is not None else None
        self.state = SaveState(kind, self.state.safe_at if safe_at is None else safe_at, why, states)
        self._told(self.state)
