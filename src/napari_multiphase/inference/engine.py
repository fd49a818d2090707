"""The sliding window: tiles with body in them, Gaussian blending in a rolling slab, results slice by slice.

What is blended is the softmax of each tile (a probability), weighted by a Gaussian around the tile's centre. Half
precision (bfloat16 on processors that have it, float16 on CUDA) is used inside the network only; softmax, sums and
means are float32. Against float32 it changes a probability by up to about 0.02 and a label only where the two best
classes are that close; batch size, chunking and scratch files change nothing beyond rounding of 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.imaging.body import Body
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.inference.device import is_out_of_memory
from napari_multiphase.inference.emit import Emitter
from napari_multiphase.inference.results import open_results
from napari_multiphase.inference.slab import RollingSlab
from napari_multiphase.inference.tiles import Shape, body_tiles, fit_tile, gaussian_weight
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Grid

Network = Callable[[Tensor], Tensor]
"""(B, 1, d, h, w) float32 in [-1, 1] -> logits (B, K, d, h, w)."""


@dataclass(frozen=True)
class Settings:
    """How a network is run: what a plan decides. `divisor`: every side of a tile is a multiple of it."""

    device: torch.device
    precision: torch.dtype
    tile: Shape
    overlap: float
    batch: int
    divisor: int

    def smaller(self) -> Settings | None:
        """The next step down in memory: half the batch, then the longest side of the tile halved; None at the end."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        axis = int(np.argmax(self.tile))
        half = self.tile[axis] // 2 // self.divisor * self.divisor
        if half < max(16, 2 * self.divisor):
            return None
        d, h, w = (half if a == axis else t for a, t in enumerate(self.tile))
        return replace(self, tile=(d, h, w))

    def words(self) -> str:
        """For a person: "tiles of 64 x 96 x 96, 2 at a time"."""
        return f"tiles of {' x '.join(map(str, self.tile))}, {self.batch} at a time"


@dataclass(frozen=True)
class Scan:
    """One phase, ready to be run: `data_hu` (D, H, W) on `network_grid`, results wanted on `grid`."""

    name: str
    data_hu: NDArray[Any]
    network_grid: Grid
    grid: Grid
    body: Body
    window_hu: tuple[float, float]
    labels: tuple[int, ...]


TileDone = Callable[[int, int], None]
"""Called after each batch with (tiles done, tiles to do) of this scan."""


def predict(
    network: Network,
    scan: Scan,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_tiles: TileDone,
    cancel: Cancel,
    scratch: Path | None,
) -> tuple[PhasePrediction, Settings]:
    """Run `network` over `scan`; on out-of-memory try again with less, saying so.

    Returns the prediction on ``scan.grid`` (mapped from `scratch` where that is given) and the settings that worked.

    Raises
    ------
    Cancelled : between two tiles; files begun in `scratch` are gone.
    MemoryError : where the smallest step is still too much.
    """
    while True:
        try:
            return _predict(network, scan, settings, on_tiles, cancel, scratch), settings
        except (MemoryError, RuntimeError) as error:
            less = settings.smaller()
            if not is_out_of_memory(error):
                raise
            if less is None:
                raise MemoryError(f"even {settings.words()} do not fit into memory") from error
        settings = less
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()
        on_event(Event("warning", f"{scan.name}: memory ran out; going on with {settings.words()}"))


@torch.inference_mode()
def _predict(
    network: Network, scan: Scan, settings: Settings, on_tiles: TileDone, cancel: Cancel, scratch: Path | None
) -> PhasePrediction:
    tile = fit_tile(settings.tile, scan.network_grid.shape, settings.divisor)
    tiles = body_tiles(scan.network_grid, scan.body, tile, settings.overlap)
    weight = torch.from_numpy(gaussian_weight(tile)).to(settings.device)
    # Blending and writing mostly use one core: done by a helper thread, they fill the gaps the network leaves.
    with open_results(scan.grid.shape, scratch, scan.name) as (results, paths), ThreadPoolExecutor(1) as helper:
        slab = RollingSlab(len(scan.labels), tiles, settings.device)
        emitter = Emitter(tiles, scan.grid, scan.body, scan.labels, results)
        done = 0
        pending: Future[None] = helper.submit(lambda: None)
        for row, (z0, places) in enumerate(tiles.rows):
            for batch in _batches(places, settings.batch):
                cancel.check()
                x = np.stack([_cut(scan, (z0, y0, x0), tile) for y0, x0 in batch])
                logits = _logits(network, x, settings)
                pending.result()  # one batch of logits waits at most
                pending = helper.submit(_blend, slab, logits, weight, z0, batch)
                done += len(batch)
                on_tiles(done, tiles.count)
            following = tiles.rows[row + 1][0] if row + 1 < len(tiles.rows) else tiles.shape[0]
            pending.result()
            pending = helper.submit(_emit, slab, emitter, following)
        pending.result()
        return results.complete(paths)


@torch.inference_mode()
def _blend(slab: RollingSlab, logits: Tensor, weight: Tensor, z0: int, batch: tuple[tuple[int, int], ...]) -> None:
    for (y0, x0), one in zip(batch, logits, strict=True):
        slab.add(one, weight, (z0, y0, x0))


@torch.inference_mode()
def _emit(slab: RollingSlab, emitter: Emitter, before: int) -> None:
    emitter.take(slab.finish_before(before))
    slab.drop_before(before)


def _logits(network: Network, x: NDArray[np.float32], settings: Settings) -> Tensor:
    """(B, K, d, h, w) of the tiles x (B, 1, d, h, w), in the precision of `settings`."""
    images = torch.from_numpy(x).to(settings.device)
    half = settings.precision != torch.float32
    with torch.autocast(settings.device.type, settings.precision, enabled=half):
        return network(images)


def _batches(places: tuple[tuple[int, int], ...], size: int) -> Iterator[tuple[tuple[int, int], ...]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _cut(scan: Scan, place: Shape, tile: Shape) -> NDArray[np.float32]:
    """(1, d, h, w) in [-1, 1] at `place`; beyond the scan its outermost voxels are repeated."""
    part = scan.data_hu[tuple(slice(p, p + t) for p, t in zip(place, tile, strict=True))]
    x = normalise(part, scan.window_hu)
    missing = [(0, t - n) for t, n in zip(tile, x.shape, strict=True)]
    if any(after for _, after in missing):
        x = np.pad(x, missing, mode="edge")
    return x[None]
