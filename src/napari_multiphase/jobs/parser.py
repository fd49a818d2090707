"""The parser child: ``python -m napari_multiphase parser``. Reads untrusted files for one job, then is thrown away.

A decoder that crashes or allocates without bound (GDCM has such an advisory) takes only this process with it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path

from napari_multiphase.jobs.keeping import KEEPING_TASKS
from napari_multiphase.jobs.priority import end_first
from napari_multiphase.jobs.server import serve

ALLOWED = ("scan", "open", "look", "pair", "warm_parser", "look_at_model", "add_model", *KEEPING_TASKS)
_MIN_BYTES = 4 << 30
_SHARE_OF_RAM = 0.75


def main(folder: Path, tasks: str = "napari_multiphase.jobs.tasks") -> None:
    """Serve the reading jobs of the module `tasks` under a memory limit, where the system has one."""
    end_first()
    limit_memory()
    table = importlib.import_module(tasks).TASKS
    if tasks == "napari_multiphase.jobs.tasks":
        table = {name: table[name] for name in ALLOWED}
    serve(table, folder)


def limit_memory() -> int:
    """Cap this process's address space at three quarters of the RAM, 4 GB at least; the cap in bytes, 0 where none."""
    if sys.platform == "win32":
        return 0
    import resource

    import psutil

    limit = max(_MIN_BYTES, int(psutil.virtual_memory().total * _SHARE_OF_RAM))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return limit
    return 0
