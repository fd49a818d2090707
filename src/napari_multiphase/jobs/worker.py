"""The compute worker: ``python -m napari_multiphase worker``. Warm, one job at a time."""

from __future__ import annotations

import importlib
from pathlib import Path

from napari_multiphase.jobs.priority import end_first
from napari_multiphase.jobs.server import serve


def main(folder: Path, tasks: str = "napari_multiphase.jobs.tasks") -> None:
    """Serve the table ``TASKS`` of the module `tasks` until the end of input; arrays lie in the session `folder`."""
    end_first()
    serve(importlib.import_module(tasks).TASKS, folder)
