"""Weighted sums of overlapping tiles, kept for one tile's depth only."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_multiphase.inference.tiles import Shape, Tiles


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
        # On a processor one slice at a time stays in its cache: twice as fast as the whole tile.
        self._step = 1 if device.type == "cpu" else depth

    def add(self, logits: Tensor, weight: Tensor, place: Shape) -> None:
        """Add the softmax of (K, d, h, w) logits of the tile at `place` (z0, y0, x0), times its (d, h, w) weight."""
        _, d, h, w = logits.shape
        z0, y0, x0 = place
        low = (z0, max(y0, self._y0), max(x0, self._x0))
        high = (min(z0 + d, self._end), min(y0 + h, self._y1), min(x0 + w, self._x1))
        if any(b <= a for a, b in zip(low, high, strict=True)):
            return
        tile_z, tile_y, tile_x = (slice(a - s, b - s) for a, b, s in zip(low, high, place, strict=True))
        base = (self._base, self._y0, self._x0)
        slab_z, slab_y, slab_x = (slice(a - s, b - s) for a, b, s in zip(low, high, base, strict=True))
        values, weight = logits[:, tile_z, tile_y, tile_x], weight[tile_z, tile_y, tile_x]
        sums, weights = self._sums[:, slab_z, slab_y, slab_x], self._weights[slab_z, slab_y, slab_x]
        weights += weight
        for z in range(0, len(weight), self._step):
            part = slice(z, z + self._step)
            powers = values[:, part].float()
            powers = (powers - powers.amax(0)).exp_()
            sums[:, part].addcmul_(powers, weight[part] / powers.sum(0))

    def finish_before(self, z: int) -> Tensor:
        """Mean probabilities (K, n, box) of the slices before `z` that were not handed out; a view until `drop_before`.

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
        for volume in (*self._sums, self._weights):  # one class at a time: the copy of an overlap stays small
            volume[:keep] = volume[n:].clone() if keep > n else volume[n:]
            volume[keep:] = 0
        self._base += n
