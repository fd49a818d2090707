"""How far a run is, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from napari_multiphase.events import Event, OnEvent

FUSED_SHARE = 0.03
"""Share of the progress that fusing and measuring take."""


class Clock:
    """Seconds by stage: ``with clock("fuse"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - began, 3)


class Progress:
    """Turns finished tiles into events: what, how far, how long."""

    def __init__(self, on_event: OnEvent, tiles: float) -> None:
        self._on_event, self._tiles = on_event, max(1.0, tiles)
        self._before = 0.0
        self._began = self._pass_began = time.perf_counter()
        self.ran: dict[str, tuple[int, float]] = {}
        """Tiles and seconds of each pass that is done."""

    def begin_pass(self) -> None:
        """The time of the next pass counts from here."""
        self._pass_began = time.perf_counter()

    def tile(self, planned: float, name: str, done: int, of: int) -> None:
        """`done` of the `of` tiles of pass `name`, for which `planned` were planned (a step down makes more).

        Passes whose tiles take unlike time may count them by their work, all passes alike.
        """
        share = min(1.0, (self._before + planned * done / of) / self._tiles)
        elapsed = time.perf_counter() - self._began
        remaining = elapsed * (1 - share) / share if share else None
        fraction = share * (1 - FUSED_SHARE)
        self._on_event(Event("progress", f"{name}, tile {done} of {of}", fraction, remaining))
        if done == of:
            self._before += planned
            self.ran[name] = of, time.perf_counter() - self._pass_began
            self.begin_pass()
