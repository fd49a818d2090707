"""The compute worker: ``python -m napari_multiphase worker``. Warm, one job at a time, below the window's priority."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

from napari_multiphase.jobs.server import serve


def main(folder: Path, tasks: str = "napari_multiphase.jobs.tasks") -> None:
    """Serve the table ``TASKS`` of the module `tasks` until the end of input; arrays lie in the session `folder`."""
    step_back()
    serve(importlib.import_module(tasks).TASKS, folder)


def step_back() -> None:
    """Give way to the window: all cores are used, but only while nobody else wants them, and if the system runs out of
    memory it ends this process first."""
    with contextlib.suppress(OSError, ImportError):
        if sys.platform == "win32":
            import psutil

            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(5)
            Path("/proc/self/oom_score_adj").write_text("500")
