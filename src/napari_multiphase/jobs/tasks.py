"""The job functions: what the worker, the parser child and the command line run, each with the same arguments.

A heavy room is imported inside the function that needs it, so that the parser never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_multiphase.jobs.server import Context

if TYPE_CHECKING:
    pass


def warm(context: Context, model: str | None = None) -> None:
    """Load what the first Segment needs (torch, the engine), so that it starts at once."""
    import napari_multiphase.inference.segment
    import napari_multiphase.methods  # noqa: F401


def warm_parser(context: Context) -> None:
    """Load what the first Open needs."""
    import napari_multiphase.studies  # noqa: F401


def demo(context: Context, steps: int = 3, shape: Sequence[int] = (8, 8, 8)) -> dict[str, Any]:
    """A job that only counts: for trying the worker. Returns an array of `shape` filled with `steps`."""
    import time

    import numpy as np

    from napari_multiphase.events import Event

    for step in range(steps):
        context.cancel.check()
        context.on_event(Event("progress", f"step {step + 1} of {steps}", (step + 1) / steps))
        time.sleep(0.02)
    return {"steps": steps, "data": np.full(tuple(shape), steps, np.uint8)}


TASKS: Mapping[str, Callable[..., Any]] = {
    "demo": demo,
    "warm": warm,
    "warm_parser": warm_parser,
}
