"""``multiphase cases``: what was corrected in studies, as cases to learn from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_multiphase.cli.console import in_process, say, verb


class Unreviewed(StrEnum):
    """What voxels that nobody looked at teach."""

    SURE = "sure"
    UNKNOWN = "unknown"
    IGNORE = "ignore"


@verb
def cases(
    studies: Annotated[list[Path], typer.Argument(help="Folders of studies that were corrected (with study.json).")],
    out: Annotated[Path, typer.Option(help="New folder for the case list and the labels.", show_default=False)],
    unreviewed: Annotated[
        Unreviewed,
        typer.Option(
            help="Voxels nobody looked at: the prediction where it is sure; 254, for pann; or left out of training."
        ),
    ] = Unreviewed.SURE,
) -> None:
    """Write what was corrected as a case list that `plan` and `train` read; it never changes afterwards."""
    from napari_multiphase.studies.corrections import write_cases
    from napari_multiphase.studies.workspace import Workspace

    workspaces = [Workspace.open(folder) for folder in studies]
    with in_process("writing cases") as context:
        made = write_cases(
            workspaces,
            out,
            unreviewed.value,  # type: ignore[arg-type]
            on_event=context.on_event,
            cancel=context.cancel,
        )
    say(f"{made}: {len(workspaces)} {'case' if len(workspaces) == 1 else 'cases'}")
    say(f"multiphase plan {made} --method pcn --from MODEL > tune.yaml proposes a run that learns from it")
