"""The sliding window: tiles with body in them, Gaussian blending in a rolling slab, results slice by slice.

What is blended is the softmax of each tile (a probability), weighted by a Gaussian around the tile's centre. Half
precision (bfloat16 on processors that have it, float16 on CUDA) is used inside the network only; softmax, sums and
means are float32. Against float32 it changes a probability by up to about 0.02 and a label only where the two best
classes are that close; batch size, chunking and scratch files change nothing beyond rounding of 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.events import Cancel, OnEvent
from napari_multiphase.imaging.body import Body
from napari_multiphase.inference.emit import Emitter
from napari_multiphase.inference.results import open_results
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.slab import RollingSlab
from napari_multiphase.inference.stepping import stepping_down
from napari_multiphase.inference.tiles import SHELL_MM, Shape, Tiles, body_tiles, fit_tile, gaussian_weight, shapes_of
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid

Network = Callable[[Tensor], Tensor]
"""(B, C, d + 2 context, h, w) float32 -> logits (B, K, d, h, w)."""


@dataclass(frozen=True)
class Networks:
    """What is run over a scan.

    Attributes
    ----------
    members : networks that see every tile; the probabilities of each are blended in a slab of its own.
    combine : their mean probabilities, each (K, n, h, w), as one (K, n, h, w), none of it negative.
    """

    members: tuple[Network, ...]
    combine: Callable[[Sequence[Tensor]], Tensor] = lambda means: means[0]


@dataclass(frozen=True)
class Settings:
    """How networks are run: what a plan decides.

    `divisor`: (z, y, x), each side of a tile is a multiple of it. `flat`: the slices of a tile do not see each other,
    so that neither overlap nor weights are needed along z. `further_sizes`: in which a tile is looked at, too.
    """

    device: torch.device
    precision: torch.dtype
    tile: Shape
    overlap: float
    batch: int
    divisor: Shape
    flat: bool = False
    further_sizes: tuple[float, ...] = ()

    @property
    def looks_vox(self) -> tuple[int, ...]:
        """Voxels of each look at a tile, the first one in its own size."""
        return tuple(prod(shape) for shape in shapes_of(self.tile, self.further_sizes, self.divisor))

    def smaller(self) -> Settings | None:
        """The next step down in memory: half the batch, then half the slices where these do not see each other, then
        the longest side of the tile halved; None at the end."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        axis = 0 if self.flat and self.tile[0] > 1 else int(np.argmax(self.tile))
        divisor = self.divisor[axis]
        half = self.tile[axis] // 2 // divisor * divisor
        if half < (1 if self.flat and axis == 0 else max(16, 2 * divisor)):
            return None
        d, h, w = (half if a == axis else t for a, t in enumerate(self.tile))
        return replace(self, tile=(d, h, w))

    def tiles_of(self, grid: Grid, body: Body, shell_mm: float = SHELL_MM) -> Tiles:
        """The tiles of `grid` that `body` needs, see `body_tiles`."""
        tile = fit_tile(self.tile, grid.shape, self.divisor)
        return body_tiles(grid, body, tile, self.overlap, flat=self.flat, shell_mm=shell_mm)

    def words(self) -> str:
        """For a person: "tiles of 64 x 96 x 96, 2 at a time"."""
        return f"tiles of {' x '.join(map(str, self.tile))}, {self.batch} at a time"


TileDone = Callable[[int, int], None]
"""Called after each batch with (tiles done, tiles to do) of this scan."""


def predict(
    networks: Networks,
    scan: Scan,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_tiles: TileDone,
    cancel: Cancel,
    scratch: Path | None,
) -> tuple[PhasePrediction, Settings]:
    """Run `networks` over `scan`; on out-of-memory try again with less, saying so.

    Returns the prediction on ``scan.grid`` (mapped from `scratch` where that is given) and the settings that worked.

    Raises
    ------
    Cancelled : between two tiles; files begun in `scratch` are gone.
    MemoryError : where the smallest step is still too much.
    """

    def attempt(settings: Settings) -> PhasePrediction:
        return _predict(networks, scan, settings, on_tiles, cancel, scratch)

    return stepping_down(attempt, settings, scan.name, on_event)


@torch.inference_mode()
def _predict(
    networks: Networks, scan: Scan, settings: Settings, on_tiles: TileDone, cancel: Cancel, scratch: Path | None
) -> PhasePrediction:
    tiles = _tiles_of(scan, settings)
    with open_results(scan.grid.shape, scratch, scan.name) as results:
        emitter = Emitter(tiles, scan.grid, scan.body, scan.labels, results)
        _run(networks, scan, settings, tiles, emitter.take, on_tiles, cancel)
        first, second, p_first, p_second, confidence = results.complete()
        return PhasePrediction(first, confidence, TwoBest(first, second, p_first, p_second))


def predict_probability(
    networks: Networks, scan: Scan, settings: Settings, *, on_event: OnEvent, on_tiles: TileDone, cancel: Cancel
) -> tuple[NDArray[np.float16], Settings]:
    """Probability of channel 1 on the network's grid, (D, H, W), 0 where no tile was; else as `predict`."""

    @torch.inference_mode()
    def attempt(settings: Settings) -> NDArray[np.float16]:
        tiles, rows = _tiles_of(scan, settings), 0
        out = np.zeros(tiles.shape, np.float16)
        (y0, y1), (x0, x1) = tiles.box

        def take(means: Tensor) -> None:
            nonlocal rows
            out[rows : rows + means.shape[1], y0:y1, x0:x1] = means[1].cpu().numpy()
            rows += means.shape[1]

        _run(networks, scan, settings, tiles, take, on_tiles, cancel)
        return out

    return stepping_down(attempt, settings, scan.name, on_event)


def _tiles_of(scan: Scan, settings: Settings) -> Tiles:
    return settings.tiles_of(scan.network_grid, scan.body, 0.0 if scan.appended else SHELL_MM)


def _run(
    networks: Networks,
    scan: Scan,
    settings: Settings,
    tiles: Tiles,
    take: Callable[[Tensor], None],
    on_tiles: TileDone,
    cancel: Cancel,
) -> None:
    """Give `take` the combined mean probabilities (K, n, box) of all slices in ascending z."""
    weight = torch.from_numpy(gaussian_weight(tiles.tile, settings.flat)).to(settings.device)
    # Blending and writing mostly use one core: done by a helper thread, they fill the gaps the network leaves.
    with ThreadPoolExecutor(1) as helper:
        slabs = [RollingSlab(len(scan.labels), tiles, settings.device) for _ in networks.members]
        done = 0
        pending: Future[None] = helper.submit(lambda: None)
        for row, (z0, places) in enumerate(tiles.rows):
            for batch in _batches(places, settings.batch):
                x = np.stack([scan.cut((z0, y0, x0), tiles.tile) for y0, x0 in batch])
                images = torch.from_numpy(x).to(settings.device)
                for slab, network in zip(slabs, networks.members, strict=True):
                    cancel.check()
                    logits = _logits(network, images, settings)
                    pending.result()  # one batch of logits waits at most
                    pending = helper.submit(_blend, slab, logits, weight, z0, batch)
                done += len(batch)
                on_tiles(done, tiles.count)
            following = tiles.rows[row + 1][0] if row + 1 < len(tiles.rows) else tiles.shape[0]
            pending.result()
            pending = helper.submit(_emit, slabs, networks, take, following)
        pending.result()


@torch.inference_mode()
def _blend(slab: RollingSlab, logits: Tensor, weight: Tensor, z0: int, batch: tuple[tuple[int, int], ...]) -> None:
    for (y0, x0), one in zip(batch, logits, strict=True):
        slab.add(one, weight, (z0, y0, x0))


@torch.inference_mode()
def _emit(slabs: list[RollingSlab], networks: Networks, take: Callable[[Tensor], None], before: int) -> None:
    means = [slab.finish_before(before) for slab in slabs]
    if means[0].shape[1]:
        take(networks.combine(means))
    for slab in slabs:
        slab.drop_before(before)


def _logits(network: Network, images: Tensor, settings: Settings) -> Tensor:
    """(B, K, d, h, w) of the tiles `images` (B, C, d + 2 context, h, w), in the precision of `settings`."""
    half = settings.precision != torch.float32
    with torch.autocast(settings.device.type, settings.precision, enabled=half):
        return network(images)


def _batches(places: tuple[tuple[int, int], ...], size: int) -> Iterator[tuple[tuple[int, int], ...]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
