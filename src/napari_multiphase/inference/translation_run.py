"""One run of a generator over a scan: statistics of the whole first where they are needed, then the image.

Tile by tile, a layer that normalises by its input would give each tile a brightness of its own. So the statistics of
such layers are gathered over all tiles beforehand, layer after layer, as each depends on what those before it made;
every voxel of the scan, rounded up to the network's divisor, counts once. A pass ends where its layer begins, which is
halfway through the network on average. A scan that is run in one piece needs none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, OnEvent
from napari_multiphase.inference.context_tiles import ContextTile
from napari_multiphase.inference.cost import TranslationCost
from napari_multiphase.inference.progress import Progress
from napari_multiphase.inference.results import open_results
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.stepping import stepping_down
from napari_multiphase.inference.translation_emit import HuEmitter
from napari_multiphase.inference.translation_plan import TranslationSettings, shares
from napari_multiphase.methods.base import Translator
from napari_multiphase.nets.instance_norm import Moments
from napari_multiphase.volume import Phase

HU = "hu"
"""Name of the array of the result."""


@dataclass
class TranslationRun:
    """A generator, what it reads, and how far it is.

    Attributes
    ----------
    source_hu : (D, H, W) of the scan on ``scan.grid``.
    passes : statistics passes done; they stay good when a run goes on with smaller tiles.
    ran : tiles and seconds of the pass that translated.
    """

    translator: Translator
    to: Phase
    scan: Scan
    source_hu: NDArray[Any]
    cost: TranslationCost
    on_event: OnEvent
    cancel: Cancel
    scratch: Path | None
    passes: int = 0
    ran: tuple[int, float] = (0, 0.0)
    _progress: Progress = field(init=False)

    def __call__(self, settings: TranslationSettings) -> tuple[NDArray[np.int16], TranslationSettings]:
        """(D, H, W) int16 HU on ``scan.grid`` (mapped from `scratch` where that is given), the settings that worked.

        Raises
        ------
        Cancelled : between two tiles; files begun in `scratch` are gone.
        MemoryError : where the smallest step is still too much.
        """
        try:
            return stepping_down(self._attempt, settings, self.scan.name, self.on_event)
        finally:
            for norm in self.translator.norms(self.to):
                norm.use(None)

    def _attempt(self, settings: TranslationSettings) -> NDArray[np.int16]:
        work = shares(self.cost, settings.tiles)
        self._progress = Progress(self.on_event, sum(work[min(self.passes, len(work) - 1) :]))
        for share in work[self.passes : -1]:
            self._gather(settings, share, len(work) - 1)
        return self._translate(settings)

    def _gather(self, settings: TranslationSettings, share: float, of: int) -> None:
        """One statistics pass, of the next layer in running order."""
        index, _ = self.cost.until_norm[self.passes]
        norm, moments = self.translator.norms(self.to)[index], Moments()
        name = f"statistics {self.passes + 1} of {of}"
        for done, tile in enumerate(_all_tiles(settings), 1):
            with norm.gathering(moments, tile.part):
                self._forward(tile, settings)
            self._progress.tile(share, name, done, settings.tiles.count)
        norm.use(moments)
        self.passes += 1

    def _translate(self, settings: TranslationSettings) -> NDArray[np.int16]:
        scan, name = self.scan, self.scan.name
        _, height, width = scan.network_grid.shape
        with open_results(scan.grid.shape, self.scratch, name, (HU,), np.int16) as results:
            emitter = HuEmitter(scan, self.source_hu, results)
            done = 0
            for (z0, z1), tiles in settings.tiles.rows():
                row = np.empty((z1 - z0, *settings.tiles.shape[1:]), np.float32)
                for tile in tiles:
                    row[(slice(None), *(slice(a, b) for a, b in tile.owns[1:]))] = self._own(tile, settings)
                    done += 1
                    self._progress.tile(1.0, name, done, settings.tiles.count)
                if not np.isfinite(row).all():
                    raise UserError("the model's output is not a number for this scan; choose another model or device")
                emitter.take(row[: scan.network_grid.shape[0] - z0, :height, :width])
            self.ran = self._progress.ran[name]
            (image,) = results.complete()
            return image

    def _own(self, tile: ContextTile, settings: TranslationSettings) -> NDArray[np.float32]:
        """What the tile owns, translated; where there is no body, as it is."""
        part = tuple(slice(a, b) for a, b, _ in tile.part)
        if not self._meets_body(tile):
            self.cancel.check()
            return self.scan.cut(tile.place, tile.size)[0][part]
        return self._forward(tile, settings)[0, 0][part].float().cpu().numpy()

    def _meets_body(self, tile: ContextTile) -> bool:
        """Whether a voxel of the body, or one that it is interpolated from, is owned."""
        coarse, grid, held = self.scan.body, self.scan.network_grid, []
        for axis, (start, stop) in enumerate(tile.owns):
            index = coarse.indices(grid, axis)
            last = len(index) - 1
            held.append(slice(int(index[min(max(0, start - 1), last)]), int(index[min(stop, last)]) + 1))
        return bool(coarse.coarse[tuple(held)].any())

    @torch.inference_mode()
    def _forward(self, tile: ContextTile, settings: TranslationSettings) -> Tensor:
        """(1, 1, d, h, w) of what the tile sees."""
        self.cancel.check()
        x = torch.from_numpy(self.scan.cut(tile.place, tile.size))[None].to(settings.device)
        half = settings.precision != torch.float32
        with torch.autocast(settings.device.type, settings.precision, enabled=half):
            return self.translator.translate(self.to, x)


def _all_tiles(settings: TranslationSettings) -> Iterator[ContextTile]:
    for _, tiles in settings.tiles.rows():
        yield from tiles
