"""A dock that works only while somebody looks at it."""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtGui import QShowEvent

from napari_multiphase.gui.dock_parts import Dock
from napari_multiphase.gui.private import dock_of
from napari_multiphase.gui.session import Session

_SEEN_MS = 50
"""A dock that is shown for less (while tabs are made) was not looked at."""


class SeenDock(Dock):
    """Told when it is looked at: Qt calls a dock visible behind another tab too, and changes tabs untold."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._known = False

    def first_seen(self) -> None:
        """Somebody looks for the first time."""

    def seen(self) -> None:
        """Somebody looks, a moment after the dock came to the front."""

    def in_front(self, front: bool) -> None:
        """The dock is in front of the others, or not any more."""

    def showEvent(self, event: QShowEvent | None) -> None:
        """Somebody may look."""
        super().showEvent(event)
        self._soon()

    def _soon(self) -> None:
        self.session.bridge.later(_SEEN_MS, self._look)

    def _look(self) -> None:
        if not self.isVisible():
            return
        if not self._known:
            self._known = True
            with suppress(LookupError):
                dock_of(self).visibilityChanged.connect(self._on_front)
            self.in_front(not self.visibleRegion().isEmpty())
            self.first_seen()
        self.seen()

    def _on_front(self, front: bool) -> None:
        self.in_front(front)
        if front:
            self._soon()
