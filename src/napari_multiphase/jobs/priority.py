"""The window comes first: what computes beside it takes what is left of the processor."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

NICE = 10
"""Steps down the scale of a POSIX system: beside a window that draws, such a process gets a tenth of a core."""


def give_way(pid: int) -> None:
    """Let a process that has just been started give way to the window, from its first import on."""
    import psutil  # not before it is needed: the window starts without it

    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else process.nice() + NICE)


def end_first() -> None:
    """If the system runs out of memory, it ends this process before the window."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
