"""Overlap of two masks: Dice per case and global, volumetric overlap error, relative volume difference.

Everything is derived from three counts, so that a case's figures and those of many cases pooled come from the same
numbers. P is the prediction, G the reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RvdConvention = Literal["natural", "lits"]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of two masks: |P|, |G| and the voxels in both. They add up over cases."""

    prediction: int
    reference: int
    both: int

    @staticmethod
    def of(prediction: NDArray[Any], reference: NDArray[Any]) -> Overlap:
        """The counts of two masks of one shape; anything but 0 is foreground."""
        if prediction.shape != reference.shape:
            raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} cannot be compared")
        p, g = prediction.astype(bool, copy=False), reference.astype(bool, copy=False)
        return Overlap(int(np.count_nonzero(p)), int(np.count_nonzero(g)), int(np.count_nonzero(p & g)))

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.prediction + other.prediction, self.reference + other.reference, self.both + other.both)

    @property
    def both_empty(self) -> bool:
        """Neither mask has a voxel."""
        return self.prediction + self.reference == 0

    @property
    def dice(self) -> float:
        """DSC = 2|P and G| / (|P| + |G|). Both empty: 1, as in the LiTS scorer (RSTN's own code gives 0)."""
        return 1.0 if self.both_empty else 2.0 * self.both / (self.prediction + self.reference)

    @property
    def voe(self) -> float:
        """Volumetric overlap error, 1 - |P and G| / |P or G|. Both empty: 0."""
        union = self.prediction + self.reference - self.both
        return 0.0 if union == 0 else 1.0 - self.both / union

    def rvd(self, convention: RvdConvention = "natural") -> float:
        """Relative volume difference, signed.

        "natural" is (|P| - |G|) / |G|: negative means under-segmented. "lits" is (|G| - |P|) / |P|, which is what the
        official LiTS scorer computes, as it passes its arguments the other way round. NaN where the divisor is empty
        and the other mask is not; 0 where both are.
        """
        if convention not in ("natural", "lits"):
            raise ValueError(f"there is no RVD convention '{convention}': natural or lits")
        if self.both_empty:
            return 0.0
        top, bottom = self.prediction - self.reference, self.reference
        if convention == "lits":
            top, bottom = -top, self.prediction
        return top / bottom if bottom else float("nan")


def dice_per_case(cases: Iterable[Overlap]) -> float:
    """DPC: the mean of the cases' DSC; NaN without a case."""
    values = [case.dice for case in cases]
    return float(np.mean(values)) if values else float("nan")


def dice_global(cases: Iterable[Overlap]) -> float:
    """DG: 2 sum |P and G| / sum (|P| + |G|), all cases pooled as if they were one; NaN without a case."""
    pooled = list(cases)
    return sum(pooled, Overlap(0, 0, 0)).dice if pooled else float("nan")
