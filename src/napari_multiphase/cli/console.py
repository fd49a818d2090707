"""How every verb speaks: one sentence for an error, a bar on a terminal, plain lines elsewhere, pure JSON if asked."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Event, OnEvent

if TYPE_CHECKING:
    from napari_multiphase.events import Cancel
    from napari_multiphase.jobs.server import Context
    from napari_multiphase.volume import Volume

USER_ERROR = 2
INTERRUPTED = 130

P = ParamSpec("P")
T = TypeVar("T")


def verb(function: Callable[P, T]) -> Callable[P, T]:
    """A command whose bad input ends with one sentence and code 2, and whose Ctrl+C ends with 130."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(USER_ERROR) from None
        except (KeyboardInterrupt, Cancelled):
            typer.echo("cancelled: nothing was written", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            lack = _lacking(error)
            if not lack:
                raise
            typer.echo(f"error: {lack}", err=True)
            raise typer.Exit(USER_ERROR) from None

    return run


def _lacking(error: Exception) -> str:
    from napari_multiphase.jobs.server import lacking

    return lacking(error)


def say(text: str = "") -> None:
    """One line for the person, on standard output."""
    typer.echo(text)


def source_words(volume: Volume) -> str:
    """Where a scan came from: the file, or the series within its folder or zip."""
    header = volume.source.header
    named = {"series": header.get("series_number"), "acquisition": header.get("acquisition_number")}
    parts = [f"{what} {number}" for what, number in named.items() if number is not None]
    if header.get("description"):
        parts.append(str(header["description"]))
    return ", ".join((volume.source.path.name, *parts))


def say_json(value: Any) -> None:
    """`value` as indented JSON on standard output, and nothing else."""
    typer.echo(json.dumps(value, indent=2, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of text, the first to the left, figures to the right."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        first, *rest = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        say("  ".join((first, *rest)).rstrip())


@contextmanager
def progress(title: str, quiet: bool = False) -> Iterator[OnEvent]:
    """An ``on_event`` that draws on standard error: a bar on a terminal, a line per phase of the work elsewhere."""
    if quiet:
        yield _warnings_only
    elif sys.stderr.isatty():
        with _bar(title) as on_event:
            yield on_event
    else:
        yield _Lines()


def check_folder(folder: Path) -> None:
    """Raise a UserError where `folder` cannot be written to, before anything is computed. Leaves no trace."""
    import tempfile

    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write to {folder}: {existing} is a file, not a folder; choose another name")
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".multiphase-"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {folder}: {reason}; choose another folder") from error


@contextmanager
def in_process(title: str, quiet: bool = False) -> Iterator[Context]:
    """What a job function of `jobs.tasks` needs to run here: progress on screen and a scratch folder that goes."""
    from napari_multiphase.events import Cancel
    from napari_multiphase.jobs.leases import Session
    from napari_multiphase.jobs.server import Context

    cancel, session = Cancel(), Session()
    try:
        with progress(title, quiet) as on_event, _interruptible(cancel):
            yield Context(on_event, cancel, session.root / "run")
    finally:
        session.close()


@contextmanager
def _interruptible(cancel: Cancel) -> Iterator[None]:
    """Ctrl+C also asks the work to stop, for libraries that turn the exception into one of their own."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        cancel.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception:
        cancel.check()
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _warnings_only(event: Event) -> None:
    if event.kind == "warning":
        typer.echo(f"warning: {event.message}", err=True)


class _Lines:
    """A plain line whenever another tenth is done or the work changes its name."""

    def __init__(self) -> None:
        self._last: tuple[str, int] = ("", -1)

    def __call__(self, event: Event) -> None:
        _warnings_only(event)
        if event.kind != "progress":
            return
        step = (event.message.split(",")[0], int(10 * (event.fraction or 0.0)))
        if step != self._last:
            self._last = step
            share = "" if event.fraction is None else f"{event.fraction:4.0%} "
            typer.echo(f"{share}{event.message}", err=True)


@contextmanager
def _bar(title: str) -> Iterator[OnEvent]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def on_event(event: Event) -> None:
            if event.kind == "warning":
                bar.console.print(f"warning: {event.message}", markup=False)
            elif event.kind in ("started", "progress"):
                bar.update(task, description=event.message or title, completed=event.fraction)

        yield on_event
