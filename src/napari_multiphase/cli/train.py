"""``multiphase train`` and ``multiphase export``: from a configuration to a run folder, from that to a model."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_multiphase.cli.console import INTERRUPTED, check_folder, say, verb
from napari_multiphase.cli.watch import watch
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, OnEvent

if TYPE_CHECKING:
    from napari_multiphase.config import RunConfig
    from napari_multiphase.model import Model

Work = Callable[..., "Model"]


@verb
def train(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN.YAML]", help="Configuration of the run, a YAML file.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME without.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN_DIR", help="Go on with a run that was stopped.")
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune: start from this model (name or folder).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's seed.")] = None,
    name: Annotated[str | None, typer.Option(help="Instead of the configuration's name.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that prepare cases at the same time.")] = 2,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Check and prepare the cases, which a later run finds, and stop.")
    ] = False,
) -> None:
    """Train a model from a configuration, or go on with a run; the model ends in RUN_DIR/model.

    Ctrl+C stops after the current step and saves. Several GPUs: accelerate launch -m napari_multiphase train RUN.YAML
    """
    changes = {"start_from": _absolute(start_from), "seed": seed, "name": name}
    given = {key: value for key, value in changes.items() if value is not None}
    if resume is not None:
        if run is not None or out is not None or given or prepare:
            raise UserError("--resume goes on with a run as it was begun: give it alone")
        folder = resume
    else:
        if run is None:
            raise UserError("give the configuration of a run (RUN.YAML), or --resume and the folder of a run")
        config = _read(run, given)
        if prepare:
            _prepare(config, processes)
            return
        folder = out or Path("runs") / _file_name(config.name)
    from napari_multiphase.training.processes import keep_freed_memory

    keep_freed_memory()
    try:
        model = _watched(_begun(config, folder) if resume is None else _resumed(folder), processes)
    except KeyboardInterrupt:
        if not (folder / "run.yaml").is_file():
            raise
        if _speaks():
            text = f"stopped at once; `multiphase train --resume {folder}` goes on from the last checkpoint"
            typer.echo(text, err=True)
        raise typer.Exit(INTERRUPTED) from None
    if _speaks():
        say(f"model '{model.card.name}' is in {model.folder}; the run is explained in {folder / 'report.html'}")
        say(f"to give it a place of its own: multiphase export {folder} MODEL_DIR")


@verb
def export(
    run_dir: Annotated[Path, typer.Argument(help="A finished run.")],
    model_dir: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
) -> None:
    """Copy a finished run's model, verified, to a folder of its own."""
    from safetensors.numpy import load_file

    from napari_multiphase.io.models import read_model, write_model

    _check_target(model_dir)
    if (run_dir / "run.yaml").is_file() and not (run_dir / "model").exists():
        raise UserError(f"{run_dir}: is not finished; go on with it by `multiphase train --resume {run_dir}`")
    if not (run_dir / "model").is_dir():
        raise UserError(f"{run_dir}: is no run; name the folder that `multiphase train` wrote")
    model = read_model(run_dir / "model")
    check_folder(model_dir)
    card = model.card.model_dump(mode="json", exclude={"weights_sha256"})
    say(f"model '{model.card.name}' is in {write_model(model_dir, card, load_file(model.weights)).folder}")


def _check_target(folder: Path) -> None:
    """A model may take the place of a model, never of a folder that holds something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise UserError(f"{folder}: holds other files; choose a new folder for the model")


def _read(path: Path, changes: dict[str, Any]) -> RunConfig:
    from napari_multiphase.config.files import read_run
    from napari_multiphase.io.models import find_model

    config = read_run(path, **changes)
    if config.start_from:
        find_model(config.start_from)
    return config


def _absolute(model: str | None) -> str | None:
    """A folder's full path, so that resuming elsewhere finds it; a name stays a name."""
    return str(Path(model).resolve()) if model is not None and Path(model).is_dir() else model


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


def _begun(config: RunConfig, folder: Path) -> Work:
    from napari_multiphase.training.train import train as begin

    check_folder(folder)
    return lambda **options: begin(config, folder, **options)


def _resumed(folder: Path) -> Work:
    from napari_multiphase.training.train import resume as go_on

    return lambda **options: go_on(folder, **options)


def _prepare(config: RunConfig, processes: int) -> None:
    from napari_multiphase.config import method_config
    from napari_multiphase.training.cache import default_cache, prepare_cases

    traits, cancel = method_config(config.method, config.method_config).traits, Cancel()
    with watch(quiet=not _speaks()) as on_event, _stopping(cancel, on_event, "stopping; what is prepared is kept"):
        try:
            cases = prepare_cases(config, traits, processes=processes, on_event=on_event, cancel=cancel)
        except (Cancelled, KeyboardInterrupt):
            raise typer.Exit(INTERRUPTED) from None
    if _speaks():
        say(f"{len(cases)} cases are prepared in {default_cache()}; a run that begins finds them there")


def _speaks() -> bool:
    """Whether this is the process that talks to the person (of those that accelerate started, the first)."""
    return os.environ.get("RANK", "0") == "0"


def _watched(work: Work, processes: int) -> Model:
    cancel = Cancel()
    words = "stopping after this step, then saving; Ctrl+C again stops at once"
    with watch(quiet=not _speaks()) as on_event, _stopping(cancel, on_event, words):
        try:
            return work(processes=processes, on_event=on_event, cancel=cancel)
        except Cancelled:
            raise typer.Exit(INTERRUPTED) from None
        except Exception:
            if cancel.requested:  # a library turned the interruption into an error of its own
                raise typer.Exit(INTERRUPTED) from None
            raise


@contextmanager
def _stopping(cancel: Cancel, on_event: OnEvent, words: str) -> Iterator[None]:
    """Ctrl+C (or a scheduler's SIGTERM) asks for a stop after the current step; a second Ctrl+C stops at once."""
    from napari_multiphase.events import Event

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    own = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != own:  # a forked helper inherits this; whoever ends it must not wait for a step
            if number == signal.SIGTERM:
                os._exit(1)
            return
        if cancel.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        cancel.set()
        on_event(Event("warning", words))

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
