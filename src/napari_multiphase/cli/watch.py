"""What a person sees of a training run: a bar with the losses on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from napari_multiphase.events import Event, OnEvent, ignore

LINES_EVERY_S = 15.0
"""A log gets the losses at most so often; stages, held-out figures and warnings always."""


@contextmanager
def watch(quiet: bool = False) -> Iterator[OnEvent]:
    """An ``on_event`` that draws a training run on standard error."""
    if quiet:
        yield ignore
    elif sys.stderr.isatty():
        with _bar() as on_event:
            yield on_event
    else:
        yield _Lines()


def left_words(seconds: float | None) -> str:
    """Time left, for a person: "about 3 min left"; empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 120 else f"about {seconds / 3600:.1f} h left"


def _is_loss(event: Event) -> bool:
    return event.kind == "metric" and not event.data.get("validation")


def _is_told(event: Event) -> bool:
    """A failure is told by the error that follows it."""
    return bool(event.message) and event.kind != "failed"


def _text(event: Event) -> str:
    return f"warning: {event.message}" if event.kind == "warning" else event.message


class _Lines:
    """One line per event; losses and progress not more often than `LINES_EVERY_S`."""

    def __init__(self) -> None:
        self._last_s = -LINES_EVERY_S

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        often = _is_loss(event) or event.kind == "progress"
        if not _is_told(event) or (often and now - self._last_s < LINES_EVERY_S):
            return
        if often:
            self._last_s = now
        share = "" if event.fraction is None or event.kind == "done" else f"{event.fraction:4.0%} "
        left = left_words(event.remaining_s)
        typer.echo(f"{share}{_text(event)}{f', {left}' if left else ''}", err=True)


@contextmanager
def _bar() -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    left = TextColumn("{task.fields[left]}", style="cyan")
    words = TextColumn("{task.description}")
    columns = (BarColumn(24), TaskProgressColumn(), TimeElapsedColumn(), left, words)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("preparing", total=1.0, left="")

        def on_event(event: Event) -> None:
            if _is_loss(event) or event.kind == "progress":
                words = escape(event.message)
                bar.update(task, description=words, completed=event.fraction or 0.0, left=left_words(event.remaining_s))
            elif _is_told(event):
                style = {"warning": "yellow", "done": "green"}.get(event.kind, "")
                bar.console.print(_text(event), markup=False, highlight=False, style=style)

        yield on_event
