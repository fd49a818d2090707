"""How much of the gap between synthetic and real training data a method closes (PAPER 003, Figure 8)."""

from __future__ import annotations


def gap_reduction(real: float, offline: float, joint: float) -> float | None:
    """1 - gap_joint / gap_offline, gap_m = Dice with as much more real data - Dice with synthetic data by m.

    Parameters
    ----------
    real, offline, joint : Dice where the added data are real, made by generators trained apart (ADA), and made by those
        trained with the segmentors.

    Returns
    -------
    1 where nothing of the gap is left; negative where it grew; None where generators trained apart leave no gap.
    """
    gap = real - offline
    return 1 - (real - joint) / gap if gap > 0 else None
