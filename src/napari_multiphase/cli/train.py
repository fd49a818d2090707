"""``multiphase train`` and ``multiphase export``: from a configuration to a run folder, from that to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_multiphase.cli.console import check_folder, say, verb
from napari_multiphase.events import Event


@verb
def train(
    run: Annotated[Path, typer.Argument(help="Configuration of the run, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder; phantoms already made there are used again.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes that make phantoms at the same time.")] = 2,
) -> None:
    """Train a model from a configuration; the model ends in RUN_DIR/model."""
    from napari_multiphase.training.train import read_run
    from napari_multiphase.training.train import train as run_training

    config = read_run(run)
    check_folder(out)
    model = run_training(config, out, processes=processes, on_event=_print)
    say(f"model '{model.card.name}' is in {model.folder}")


@verb
def export(
    run_dir: Annotated[Path, typer.Argument(help="A finished run.")],
    model_dir: Annotated[Path, typer.Argument(help="Folder to write the model to.")],
) -> None:
    """Copy a finished run's model, verified, to a folder of its own."""
    from safetensors.numpy import load_file

    from napari_multiphase.io.models import read_model, write_model

    model = read_model(run_dir / "model")
    check_folder(model_dir)
    card = model.card.model_dump(mode="json", exclude={"weights_sha256"})
    say(f"model '{model.card.name}' is in {write_model(model_dir, card, load_file(model.weights)).folder}")


def _print(event: Event) -> None:
    left = "" if event.remaining_s is None else f", about {event.remaining_s / 60:.0f} min left"
    say(f"{event.message}{left}")
