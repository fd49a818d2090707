"""The verbs no person types: the processes that the window starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TASKS = "napari_multiphase.jobs.tasks"
Folder = Annotated[Path, typer.Option(help="Session folder where arrays lie.")]
Tasks = Annotated[str, typer.Option(help="Module whose TASKS are served.")]


def worker(folder: Folder, tasks: Tasks = _TASKS) -> None:
    """Compute for a window: JSON lines on standard input and output."""
    from napari_multiphase.jobs.worker import main

    main(folder, tasks)


def parser(folder: Folder, tasks: Tasks = _TASKS) -> None:
    """Read untrusted files for a window under a memory limit."""
    from napari_multiphase.jobs.parser import main

    main(folder, tasks)
