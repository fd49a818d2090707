"""The window comes first: what computes beside it takes what is left of the processor."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

NICE = 10
"""Steps down the scale of a POSIX system: beside a window that draws, such a process gets a tenth of a core."""


def give_way(pid: int) -> None:
    """Let a process that has just been started give way to the window, from its first import on."""
    with contextlib.suppress(OSError, ImportError):
        if sys.platform == "win32":
            import psutil

            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def end_first() -> None:
    """If the system runs out of memory, it ends this process before the window."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
