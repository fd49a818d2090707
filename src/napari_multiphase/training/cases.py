"""Cases as the trainer sees them: arrays on the network's grid, memory-mapped, with what was annotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.volume import Phase

Reads = Literal["each", "pair"]
"""What a network is fed: one phase, or both at the same place."""


@dataclass(frozen=True)
class PhaseArrays:
    """One phase of a case.

    Attributes
    ----------
    hu : (D, H, W) int16, memory-mapped.
    channels : (D, H, W) uint8, memory-mapped: channel of the run's labels, 254 unknown, 255 ignore.
    anchors : per channel up to 512 voxel indices (n, 3) int32 where it lies (with `reviewed`: and was looked at); empty
        where absent.
    mean, std : of the whole scan, clipped to the run's window and mapped to [-1, 1].
    reviewed : (D, H, W) bool, memory-mapped: where a person looked at the labels; None: everywhere.
    """

    hu: NDArray[np.int16]
    channels: NDArray[np.uint8]
    anchors: tuple[NDArray[np.int32], ...]
    mean: float
    std: float
    reviewed: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TrainingCase:
    """One study to learn from.

    Attributes
    ----------
    id, patient : names; patients are never split between training and validation.
    scans : each phase on its own grid at the run's spacing; a phase may be missing.
    pair : both phases on the venous grid (the arterial scan and its labels resampled through the case's transform);
        None where a phase is missing, empty where the method does not read pairs.
    annotated : (K,) bool per channel; channel 0 is True where every structure of the run's labels is annotated.
    spacing_mm : (z, y, x).
    key : hash of everything it was made from: the same key, the same arrays.
    """

    id: str
    patient: str
    scans: Mapping[Phase, PhaseArrays]
    pair: Mapping[Phase, PhaseArrays] | None
    annotated: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    key: str = ""

    def shows(self, reads: Reads) -> bool:
        """Whether a prediction of it can be judged: it has what the method reads, and labels there."""
        scans = self.scans if reads == "each" else self.pair or {}
        judged = [scan for phase, scan in scans.items() if reads == "each" or phase == Phase.VENOUS]
        labelled = bool(self.annotated.any()) or self.corrected
        return labelled and any(len(points) for scan in judged for points in scan.anchors)

    @property
    def corrected(self) -> bool:
        """Whether its labels are corrected predictions, of which a person looked at a part."""
        return any(scan.reviewed is not None for scan in self.scans.values())

    @property
    def complete(self) -> bool:
        """Whether every structure is annotated."""
        return bool(self.annotated[0])
