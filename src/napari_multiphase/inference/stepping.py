"""Trying again with less when memory runs out, and saying so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from napari_multiphase.events import Event, OnEvent
from napari_multiphase.inference.device import is_out_of_memory


class Steps(Protocol):
    """Settings of a run that know the next step down in memory."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def smaller(self) -> Steps | None:
        """Settings that take less; None at the end."""

    def words(self) -> str:
        """For a person."""


S = TypeVar("S", bound=Steps)
R = TypeVar("R")


def stepping_down(attempt: Callable[[S], R], settings: S, name: str, on_event: OnEvent) -> tuple[R, S]:
    """What `attempt` makes of `settings`, or of the next smaller ones that fit, with those that worked.

    `name` begins the warning that says so. Raises MemoryError where the smallest step is still too much.
    """
    while True:
        try:
            return attempt(settings), settings
        except (MemoryError, RuntimeError) as error:
            less = settings.smaller()
            if not is_out_of_memory(error):
                raise
            if less is None:
                raise MemoryError(f"even {settings.words()} do not fit into memory") from error
        settings = less  # type: ignore[assignment]  # of the same kind
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()
        on_event(Event("warning", f"{name}: memory ran out; going on with {settings.words()}"))
