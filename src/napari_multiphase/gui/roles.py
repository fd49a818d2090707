"""The scans that were found, as the Study dock shows them, in words. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FoundScan:
    """One entry of the job `look`. `guess` is (phase, confidence in [0, 1], reason); `thumbnail` (h, w) uint8 grey."""

    key: str
    title: str
    usable: bool
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    guess: tuple[str, float, str] | None
    remarks: tuple[str, ...]
    thumbnail: NDArray[np.uint8] | None = None


def found_scan(entry: Mapping[str, Any]) -> FoundScan:
    """An entry of the job's answer."""
    guess = entry["guess"]
    return FoundScan(
        key=entry["key"],
        title=entry["title"],
        usable=bool(entry["usable"]),
        shape=tuple(entry["shape"]) if entry["shape"] else None,
        spacing_mm=tuple(entry["spacing_mm"]) if entry["spacing_mm"] else None,
        guess=(guess["phase"], float(guess["sure"]), guess["why"]) if guess else None,
        remarks=(*entry["problems"], *entry["notes"]),
        thumbnail=entry["thumbnail"],
    )


def describe(scan: FoundScan) -> str:
    """Slices and spacing of a scan in words: ``"96 slices, 512 x 512, 1.0 x 0.8 x 0.8 mm"``."""
    words = []
    if scan.shape:
        words.append(f"{scan.shape[0]} slices of {scan.shape[1]} x {scan.shape[2]}")
    if scan.spacing_mm:
        words.append(" x ".join(f"{s:.2g}" if s < 10 else f"{s:.0f}" for s in scan.spacing_mm) + " mm")
    return ", ".join(words)


def explain(scan: FoundScan) -> str:
    """The guessed phase with its confidence and reason, or why the scan is not offered."""
    if not scan.usable:
        return "not offered as a phase"
    if scan.guess is None:
        return "phase not recognised"
    phase, sure, why = scan.guess
    return f"{phase}, {100 * sure:.0f} % sure: {why}"
