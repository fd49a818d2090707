"""Weighted sums of overlapping tiles, kept for one tile's depth only."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_multiphase.inference.tiles import Tiles


class RollingSlab:
    """Accumulates tiles whose z only grows, and hands out slices that no later tile can touch.

    Memory is classes x tile depth x body box, whatever the length of the scan.
    """

    def __init__(self, classes: int, tiles: Tiles, device: torch.device) -> None:
        (self._y0, self._y1), (self._x0, self._x1) = tiles.box
        self._end = tiles.shape[0]
        depth = min(tiles.tile[0], self._end)
        box = (depth, self._y1 - self._y0, self._x1 - self._x0)
        self._sums = torch.zeros((classes, *box), device=device)
        self._weights = torch.zeros(box, device=device)
        self._base = 0

    def add(self, probabilities: Tensor, weight: Tensor, place: tuple[int, int, int]) -> None:
        """Add (K, d, h, w) float32 probabilities of the tile at `place` (z0, y0, x0), with its (d, h, w) weight."""
        z0, y0, x0 = place
        _, d, h, w = probabilities.shape
        low = (z0, max(y0, self._y0), max(x0, self._x0))
        high = (min(z0 + d, self._end), min(y0 + h, self._y1), min(x0 + w, self._x1))
        if any(b <= a for a, b in zip(low, high, strict=True)):
            return
        inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, place, strict=True))
        outer = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, (self._base, self._y0, self._x0), strict=True))
        cut = weight[inner]
        self._sums[(slice(None), *outer)].addcmul_(probabilities[(slice(None), *inner)], cut)
        self._weights[outer] += cut

    def finish_before(self, z: int) -> Tensor:
        """Mean probabilities (K, n, box) of the slices before `z` that were not handed out; a view until `drop`.

        Where no tile was, background (channel 0) has probability 1.
        """
        n = min(z, self._end) - self._base
        sums, weights = self._sums[:, :n], self._weights[:n]
        bare = weights == 0
        sums[0][bare] = 1.0
        sums /= weights.masked_fill(bare, 1.0)
        return sums

    def drop_before(self, z: int) -> None:
        """Forget the slices before `z` and make room for as many."""
        n = min(z, self._end) - self._base
        keep = self._weights.shape[0] - n
        for plane in (*self._sums, self._weights):  # one class at a time: the copy of an overlap stays small
            plane[:keep] = plane[n:].clone() if keep > n else plane[n:]
            plane[keep:] = 0
        self._base += n
