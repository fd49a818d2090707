"""From finished probabilities on the network's grid to labels and confidence on the scan's own grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import Body
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.inference.results import Results
from napari_multiphase.inference.tiles import Tiles
from napari_multiphase.volume import Grid

CHUNK_FLOATS = 12_000_000
"""Probabilities held at once on the scan's grid: 48 MB."""
NEGLIGIBLE = 5e-4
"""A class that stays below this in a whole chunk is not interpolated: it could neither win nor lower a confidence
that is not already full (ratio 1000) wherever the best class exceeds 1/2."""


class Emitter:
    """Takes probability slices in ascending z, interpolates them linearly, keeps the two best classes.

    Interpolating probabilities rather than labels keeps borders smooth where the scan is finer than the network's grid.
    """

    def __init__(self, tiles: Tiles, grid: Grid, body: Body, labels: tuple[int, ...], results: Results) -> None:
        self._tiles, self._grid, self._body, self._results = tiles, grid, body, results
        self._ids = np.asarray(labels, np.uint8)
        self._same = tiles.shape == grid.shape
        self._held: Tensor | None = None  # the last slice taken: the next ones interpolate with it
        self._taken = 0
        self._given = 0

    def take(self, probabilities: Tensor) -> None:
        """The next slices (K, n, box) of mean probabilities."""
        if probabilities.shape[1] == 0:
            return
        if self._same:
            self._plain(probabilities)
            return
        first = self._taken - (self._held is not None)
        known = probabilities if self._held is None else torch.cat([self._held, probabilities], dim=1)
        self._taken += probabilities.shape[1]
        self._held = probabilities[:, -1:].clone()
        lower, share = half_pixel(self._grid.shape[0], self._tiles.shape[0])
        upper = np.minimum(lower + 1, self._tiles.shape[0] - 1)
        ready = int(np.searchsorted(upper, self._taken))
        step = max(1, CHUNK_FLOATS // (known.shape[0] * self._grid.shape[1] * self._grid.shape[2]))
        for start in range(self._given, ready, step):
            rows = slice(start, min(start + step, ready))
            weight = torch.from_numpy(share[rows]).to(known)[None, :, None, None]
            mixed = torch.lerp(known[:, lower[rows] - first], known[:, upper[rows] - first], weight)
            self._in_plane(mixed, rows)
        self._given = ready

    def _plain(self, probabilities: Tensor) -> None:
        k, n, h, w = probabilities.shape
        step = max(1, CHUNK_FLOATS // (k * h * w))
        for start in range(0, n, step):
            part = probabilities[:, start : start + step]
            rows = slice(self._given, self._given + part.shape[1])
            self._emit(part, self._ids, rows, self._tiles.box)
            self._given = rows.stop

    def _in_plane(self, mixed: Tensor, rows: slice) -> None:
        """Bilinear to the scan's rows and columns, of the classes that occur."""
        keep = mixed.amax(dim=(1, 2, 3)) > NEGLIGIBLE
        keep[:2] = True
        (y0, y1), (x0, x1) = self._tiles.box
        _, height, width = self._tiles.shape
        chosen = F.pad(mixed[keep], (x0, width - x1, y0, height - y1))
        chosen[0, :, :y0] = chosen[0, :, y1:] = chosen[0, :, :, :x0] = chosen[0, :, :, x1:] = 1.0
        _, h, w = self._grid.shape
        fine = F.interpolate(chosen, size=(h, w), mode="bilinear", align_corners=False)
        self._emit(fine, self._ids[keep.cpu().numpy()], rows, ((0, h), (0, w)))

    def _emit(
        self, probabilities: Tensor, ids: NDArray[np.uint8], rows: slice, box: tuple[tuple[int, int], tuple[int, int]]
    ) -> None:
        (y0, y1), (x0, x1) = box
        body = self._body.on(self._grid, rows)
        inside = body[:, y0:y1, x0:x1]
        found = two_best(probabilities)
        p_first, p_second = (p.cpu().numpy() for p in found[2:])
        if not np.isfinite(p_first).all():
            raise UserError("the model's output is not a number for this scan; choose another model or device")
        confidence = encode_confidence(p_first / np.maximum(p_second, np.float32(1e-12)))
        values = [*(ids[channel.cpu().numpy()] for channel in found[:2]), _quantise(p_first), _quantise(p_second)]
        out = []
        for value, elsewhere in zip([*values, confidence], (0, 0, 255, 0, 255), strict=True):
            full = np.full(body.shape, elsewhere, np.uint8)
            np.copyto(full[:, y0:y1, x0:x1], value, where=inside)
            out.append(full)
        self._results.append(*out)


def half_pixel(fine: int, coarse: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Lower neighbour and share of the upper one for `fine` voxel centres among `coarse` ones of the same extent."""
    at = np.clip((np.arange(fine) + 0.5) * (coarse / fine) - 0.5, 0, coarse - 1)
    lower = np.floor(at).astype(np.intp)
    return lower, (at - lower).astype(np.float32)


def two_best(probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Channels (uint8) and probabilities of the largest and second-largest of (K, ...); ties go to the lower one.

    Non-negative floats sort like their bits read as integers. With the channel written into the lowest bits (five for
    24 classes, a relative error of 4e-6 in the probability) two running maxima are all it takes: no comparison masks.
    """
    count = len(probabilities)
    low_bits = (1 << max(1, (count - 1).bit_length())) - 1
    high = second = None
    for channel, p in enumerate(probabilities):
        coded = (p.contiguous().view(torch.int32) & ~low_bits) | (low_bits - channel)
        if high is None or second is None:
            high, second = coded, torch.full_like(coded, low_bits - 1)
            continue
        second = torch.maximum(second, torch.minimum(high, coded))
        high = torch.maximum(high, coded)
    assert high is not None
    assert second is not None
    first, follower = ((low_bits - (c & low_bits)).to(torch.uint8) for c in (high, second))
    p_first, p_second = ((c & ~low_bits).view(torch.float32) for c in (high, second))
    return first, follower, p_first, p_second


def _quantise(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(probability * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
