"""Whether a run fits into memory, in words: what segmenting and translating share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from napari_multiphase.errors import UserError
from napari_multiphase.inference.stepping import S

SHARE_OF_FREE = 0.9
"""Of what is free, the most that a run is planned to take."""
_MB = 1024 * 1024
_TORCH_MB = 300.0  # a process with torch loaded, before it does anything


def process_bytes() -> float:
    """What this process takes before a run, with torch loaded."""
    return max(float(psutil.Process().memory_info().rss), _TORCH_MB * _MB)


def fitting(
    work: str, wanted: S, memory_mb: Callable[[S], tuple[float, float]], free_mb: tuple[float, float | None]
) -> tuple[S, tuple[float, float], list[str]]:
    """`wanted`, or the next smaller settings for which there is room, with what they take and a note where it is less.

    `work` is what the run does ("segmenting"), the pairs are (RAM, GPU memory). Raises UserError where nothing fits.
    """
    settings = wanted
    while short := _shortage(work, needed := memory_mb(settings), free_mb):
        less = settings.smaller()
        if less is None:
            raise UserError(f"{short}; close other programs, crop the scan, or use a machine with more memory")
        settings = less  # type: ignore[assignment]  # of the same kind
    notes = [] if settings is wanted else [f"memory is short, so the run uses {settings.words()}"]
    return settings, needed, notes


def _shortage(work: str, needed_mb: tuple[float, float], free_mb: tuple[float, float | None]) -> str:
    """Why a run would not fit, or nothing."""
    (ram_mb, vram_mb), (free_ram_mb, free_device_mb) = needed_mb, free_mb
    free = free_ram_mb + psutil.Process().memory_info().rss / _MB
    if ram_mb > free * SHARE_OF_FREE:
        return f"{work} needs about {ram_mb:.0f} MB of memory and {free:.0f} MB are free"
    if free_device_mb is not None and vram_mb > free_device_mb * SHARE_OF_FREE:
        return f"{work} needs about {vram_mb:.0f} MB of GPU memory and {free_device_mb:.0f} MB are free"
    return ""


def memory_words(ram_mb: float, vram_mb: float, seconds: float) -> str:
    """What a run takes, as a sentence."""
    memory = f"about {ram_mb / 1024:.1f} GB of memory" + (f" and {vram_mb / 1024:.1f} GB on the GPU" if vram_mb else "")
    return f"Takes {memory} and about {max(1, round(seconds))} s."


@contextmanager
def in_words() -> Iterator[None]:
    """Memory or a disk that gives out, as a sentence."""
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{error or 'memory ran out'}; close other programs or crop the scan") from error
    except OSError as error:
        raise UserError(
            f"intermediate results cannot be written: {error.strerror or error}; free disk space"
        ) from error
