"""What the engine runs over: images on the network's grid, and how a tile is cut out of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.body import Body
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.inference.tiles import Shape
from napari_multiphase.volume import Grid

LEAST_STD = 1e-6
"""A scan that is constant is centred, not divided by nothing (as in training)."""


@dataclass(frozen=True)
class Scan:
    """One run's input, ready to be cut into tiles, and where its result goes.

    Attributes
    ----------
    name : of the result, in messages and files.
    images_hu : each (D, H, W) on `network_grid`: one phase, or the arterial and the venous one.
    network_grid, grid : what the network sees; the grid that results are wanted on.
    body : only tiles that it needs are run, and outside it everything is background.
    window_hu : HU are clipped to it and mapped to [-1, 1].
    labels : id of each output channel.
    stats : (mean, std) per image, by which its mapped values are standardised; empty to leave them as they are.
    context_vox : slices that a tile carries beyond either end.
    appended : each (D, H, W) on `network_grid`, the last input channels: the region's mask, or what the last round of a
        method that works from coarse to fine found. Then every tile that meets the body is run.
    """

    name: str
    images_hu: tuple[NDArray[Any], ...]
    network_grid: Grid
    grid: Grid
    body: Body
    window_hu: tuple[float, float]
    labels: tuple[int, ...]
    stats: tuple[tuple[float, float], ...] = ()
    context_vox: int = 0
    appended: tuple[NDArray[Any], ...] = ()

    @property
    def channels(self) -> int:
        """Images of a tile, appended ones among them."""
        return len(self.images_hu) + len(self.appended)

    def within(self, region: NDArray[np.bool_]) -> Scan:
        """The same scan with `region` as an input; only tiles that meet it are run, outside it all is background."""
        body = Body(region, self.network_grid.spacing_mm, self.network_grid.origin_mm, bool(region.any()))
        return replace(self, appended=(region,), body=body)

    def cut(self, place: Shape, tile: Shape) -> NDArray[np.float32]:
        """(C, d + 2 context, h, w) of the tile at `place`; beyond the scan its outermost voxels are repeated."""
        z0, y0, x0 = place
        around = (z0 - self.context_vox, y0, x0)
        size = (tile[0] + 2 * self.context_vox, *tile[1:])
        low = [max(0, a) for a in around]
        high = [min(n, a + s) for n, a, s in zip(self.network_grid.shape, around, size, strict=True)]
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        missing = [(a - s, s + n - b) for a, b, s, n in zip(low, high, around, size, strict=True)]
        out = np.empty((self.channels, *size), np.float32)
        for channel in range(self.channels):
            x = self._values(channel, part)
            out[channel] = np.pad(x, missing, mode="edge") if any(a or b for a, b in missing) else x
        return out

    def _values(self, channel: int, part: tuple[slice, ...]) -> NDArray[Any]:
        if channel >= len(self.images_hu):
            return self.appended[channel - len(self.images_hu)][part]
        x = normalise(self.images_hu[channel][part], self.window_hu)
        if self.stats:
            mean, std = self.stats[channel]
            x -= np.float32(mean)
            x /= np.float32(max(std, LEAST_STD))
        return x
