"""``multiphase plan``: a run configuration for a data set, on standard output, that says why."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_multiphase.cli.console import in_process, verb


@verb
def plan(
    dataset: Annotated[
        str, typer.Argument(help="Folder with dataset.json, a case list (YAML), or the word: phantoms.")
    ],
    method: Annotated[str, typer.Option("--method", help="pcn, hpn, urim, pann or csgan.")],
    preset: Annotated[
        str, typer.Option("--preset", help="What to start from: paper, workstation, smoke.")
    ] = "workstation",
    structure: Annotated[
        list[str] | None,
        typer.Option(help="A label of the data set and the structure it is: 'cancer=22'; 'cancer=' leaves it out."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune this model (name or folder).")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.5, help="Memory a step may take; without: this machine's GPU, or what is free."),
    ] = None,
) -> None:
    """Look at a data set and propose a run: labels, window, spacing, patch, batch, memory, time; > run.yaml."""
    from napari_multiphase.training.plan import plan_training

    named = _structures(structure or [])
    with in_process("looking at the data") as context:
        made = plan_training(
            dataset,
            method,
            preset,
            structures=named,
            start_from=start_from,
            memory_gb=memory_gb,
            on_event=context.on_event,
            cancel=context.cancel,
        )
    typer.echo(made.to_yaml(), nl=False)


def _structures(given: list[str]) -> dict[str, int | None]:
    """'name=id' pairs; the table's names may stand for ids."""
    from napari_multiphase.errors import UserError
    from napari_multiphase.labels import IDS_BY_NAME

    named: dict[str, int | None] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        value = value.strip()
        if not equals or not (value.isdigit() or value in IDS_BY_NAME or not value):
            raise UserError(
                f"--structure {text}: say NAME=ID or NAME=STRUCTURE of the label table, or NAME= to leave out"
            )
        named[name] = None if not value else int(value) if value.isdigit() else IDS_BY_NAME[value]
    return named
