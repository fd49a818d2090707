"""Typed progress: what a long piece of work says while it runs, one JSON line each.

The core takes ``on_event: OnEvent`` and a ``Cancel`` token; it never sees Qt. The window turns events into
signals, the command line into a progress bar, a run folder into ``events.jsonl``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from threading import Event as _Flag
from typing import Any, Literal

from napari_multiphase.errors import Cancelled

EventKind = Literal["started", "progress", "metric", "preview", "warning", "done", "failed"]


@dataclass(frozen=True)
class Event:
    """One step of a job.

    Attributes
    ----------
    kind : what happened.
    message : one short phrase for a person ("arterial, tile 34 of 120").
    fraction : share of the whole job that is done, in [0, 1], or None where it cannot be known.
    remaining_s : estimated seconds left, or None.
    data : further values (JSON types only): metric values, array leases, the failing step.
    time_s : seconds since the epoch.
    """

    kind: EventKind
    message: str = ""
    fraction: float | None = None
    remaining_s: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    time_s: float = field(default_factory=time.time)

    def to_json(self) -> str:
        """This event as one line of JSON, without the newline."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(line: str) -> Event:
        """The event of one JSON line; raises ValueError or TypeError on anything else."""
        return Event(**json.loads(line))


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """An ``on_event`` for callers who do not want to know."""


class Cancel:
    """A flag that the caller sets and the work looks at between two steps. Safe across threads."""

    def __init__(self) -> None:
        self._flag = _Flag()

    def set(self) -> None:
        """Ask the work to stop at its next check."""
        self._flag.set()

    @property
    def requested(self) -> bool:
        """Whether someone asked to stop."""
        return self._flag.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if someone asked to stop."""
        if self._flag.is_set():
            raise Cancelled
