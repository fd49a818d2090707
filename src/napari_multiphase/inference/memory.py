"""Peak memory of this process while something runs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

_MB = 1024 * 1024


class PeakMemory:
    """Peak resident memory since construction where the system tells (Linux resets its mark); else of the process."""

    def __init__(self) -> None:
        self.start_mb = psutil.Process().memory_info().rss / _MB
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM

    def peak_mb(self) -> float:
        """Megabytes."""
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        info = psutil.Process().memory_info()
        if hasattr(info, "peak_wset"):
            return float(info.peak_wset) / _MB
        if sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
        return float(info.rss) / _MB
