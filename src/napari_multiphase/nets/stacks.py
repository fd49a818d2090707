"""Stacks of neighbouring slices as channels, for 2-D networks that see a little of what lies above and below."""

from __future__ import annotations

from torch import Tensor


def stacks(x: Tensor, slices: int) -> Tensor:
    """(B, d + slices - 1, h, w) -> (B d, slices, h, w), the neighbourhood of each of the d inner slices."""
    return x.unfold(1, slices, 1).movedim(-1, 2).flatten(0, 1)


def unstack(y: Tensor, batch: int) -> Tensor:
    """(B d, K, h, w) -> (B, K, d, h, w)."""
    return y.unflatten(0, (batch, -1)).movedim(2, 1)
