"""Follows a run beside the window's thread: a look every second while somebody is at it, and when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject, QTimer

from napari_multiphase.gui.session import Session
from napari_multiphase.jobs.following import Follower, RunState

_EVERY_MS = 700


class RunFeed(QObject):
    """Gives the newest `RunState` of one run folder to `hear`, on the window's thread."""

    def __init__(self, session: Session, hear: Callable[[Path, RunState], object]) -> None:
        super().__init__()
        self._session, self._hear = session, hear
        self._follower: Follower | None = None
        self._busy, self._outdated = False, False
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)

    @property
    def folder(self) -> Path | None:
        """The run that is followed."""
        return self._follower.folder if self._follower else None

    def follow(self, folder: Path | None) -> None:
        """Follow this run from its beginning, or none."""
        self._follower = Follower(folder) if folder is not None else None
        self._timer.stop()
        if folder is not None:
            self.look()
            self._timer.start(_EVERY_MS)

    def look(self) -> None:
        """Read what is new, unless that is being done."""
        if self._follower is not None and not self._busy:
            self._busy = True
            threading.Thread(target=self._read, args=(self._follower,), daemon=True, name="multiphase run").start()

    def _read(self, follower: Follower) -> None:
        try:
            state: RunState | None = follower.read()
        except OSError:  # the folder is being removed, or the drive is away
            state = None
        self._session.bridge.post(lambda: self._arrived(follower, state))

    def _arrived(self, follower: Follower, state: RunState | None) -> None:
        self._busy = False
        if follower is not self._follower or self._outdated:
            self._outdated = False
            self.look()
        elif state is not None:
            if not state.working:
                self._timer.stop()
            self._hear(follower.folder, state)

    def wake(self) -> None:
        """The run was started or resumed: look again and again; what is being read now is from before."""
        self._outdated = self._busy
        self.look()
        self._timer.start(_EVERY_MS)
