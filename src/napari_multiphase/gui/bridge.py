"""From the client's reader threads to the window's thread: the only Qt object the session has."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, QTimer, Signal


class Bridge(QObject):
    """Runs callables on the window's thread, and tells the docks what of the session changed."""

    changed = Signal(str)
    """Topic: "scans", "study", "transform", "registered", "kept", "model", "plan", "prediction", "weight", "hidden",
    "translated", "busy", "preparing", "annotation", "edited", "states", "saved", "recalled" or "predictions"."""
    progressed = Signal(str, object, object)
    """What is being done, share done or None, seconds left or None."""
    failed = Signal(str, str, str)
    """Task, sentence, log."""
    _posted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, work: Callable[[], object]) -> None:
        """Run `work` on the window's thread, soon; from any thread."""
        if not self._closed:
            self._posted.emit(work)

    def later(self, milliseconds: int, work: Callable[[], object]) -> None:
        """Run `work` on the window's thread after a while; only from that thread."""
        timer = QTimer(self)
        timer.setSingleShot(True)

        def ring() -> None:
            timer.deleteLater()
            self._run(work)

        timer.timeout.connect(ring)
        timer.start(milliseconds)

    def in_turns(self, work: list[Callable[[], object]], milliseconds: int = 1) -> None:
        """Run each of `work` in an event-loop turn of its own, so that the window can draw in between."""

        def turn() -> None:
            work[0]()
            self.in_turns(work[1:], milliseconds)

        if work:
            self.later(milliseconds, turn)

    def close(self) -> None:
        """Nothing that is still on its way runs any more: the window is gone."""
        self._closed = True

    def _run(self, work: Callable[[], object]) -> None:
        if not self._closed:
            work()
