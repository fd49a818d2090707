"""Segmenting arrays that lie on the network's grid already: what the trainer validates with. No file, no message."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from napari_multiphase.events import Cancel, ignore
from napari_multiphase.imaging.body import find_body
from napari_multiphase.inference.engine import Settings
from napari_multiphase.inference.plan import choose_settings
from napari_multiphase.inference.runs import run_method
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.tiles import Shape, fit_tile
from napari_multiphase.methods.base import Segmentor
from napari_multiphase.volume import Grid, Phase


def predict_arrays(
    segmentor: Segmentor,
    inputs: Mapping[Phase, NDArray[np.int16]],
    spacing_mm: tuple[float, float, float],
    window_hu: tuple[float, float],
    tile_vox: Shape,
    overlap: float,
    device: torch.device,
    precision: torch.dtype,
    stats: Mapping[Phase, tuple[float, float]],
    cancel: Cancel | None = None,
) -> dict[Phase, NDArray[np.uint8]]:
    """Channel indices (D, H, W) as Segment would give them, without fusing.

    Parameters
    ----------
    segmentor : its networks in evaluation mode, on `device`.
    inputs : HU (D, H, W) at the network's spacing. Each phase is segmented on its own grid; a method that reads pairs
        gets both on one grid and gives the venous result alone.
    tile_vox, overlap : as on a model's card.
    precision : of the networks (float32: no autocast).
    stats : (mean, std) by phase of the clipped scan mapped to [-1, 1]; used by methods that standardise.
    """
    traits = segmentor.traits
    pair = traits.reads == "pair"
    out: dict[Phase, NDArray[np.uint8]] = {}
    for phase in (Phase.VENOUS,) if pair else tuple(inputs):
        read = tuple(Phase) if pair else (phase,)
        images = tuple(inputs[p] for p in read)
        d, h, w = images[-1].shape
        grid = Grid((d, h, w), spacing_mm)
        settings = choose_settings(
            traits, device, precision, None, tile_vox, grid.shape, overlap, 4 if device.type == "cuda" else 1
        )
        known = tuple(stats[p] for p in read) if traits.standardise else ()
        body, labels = find_body(images[-1], grid), tuple(range(_classes(segmentor, phase, settings)))
        scan = Scan(phase.value, images, grid, grid, body, window_hu, labels, known, traits.context_vox)
        result, _ = run_method(
            segmentor,
            phase,
            scan,
            settings,
            on_event=ignore,
            on_tiles=lambda name, done, of: None,
            cancel=cancel or Cancel(),
            scratch=None,
        )
        out[phase] = result.labels
    return out


@torch.inference_mode()
def _classes(segmentor: Segmentor, phase: Phase, settings: Settings) -> int:
    """How many channels the networks give: asked with the smallest tile there is."""
    traits = segmentor.traits
    d, h, w = fit_tile((1, 1, 1), settings.tile, traits.divisor)
    x = torch.zeros(1, traits.channels, d + 2 * traits.context_vox, h, w, device=settings.device)
    half = settings.precision != torch.float32
    with torch.autocast(settings.device.type, settings.precision, enabled=half):
        return int(segmentor.logits(phase, x, 0).shape[1])
