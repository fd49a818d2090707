"""Small scans and networks with known answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_multiphase.events import Cancel, Event
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.imaging.resample import resample
from napari_multiphase.inference.engine import Network, Networks, Settings, predict
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.inference.scan import Scan
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Grid

LABELS = (0, 1, 2, 5)
WINDOW_HU = (-200.0, 600.0)
CARD: dict[str, Any] = {
    "name": "small",
    "method": "pcn",
    "labels": LABELS,
    "phases": ["arterial", "venous"],
    "window_hu": WINDOW_HU,
    "spacing_mm": (4.0, 4.0, 4.0),
    "tile_vox": (16, 32, 32),
    "overlap": 0.25,
    "summary": "random weights",
    "training_data": "none",
    "phantoms_only": True,
    "licence": "BSD-3-Clause",
}
"""Of a small model; its settings ("config") are missing."""


def trunk_hu(grid: Grid, seed: int = 0) -> np.ndarray:
    """(D, H, W) int16: an ellipse of tissue with smooth texture in air."""
    rng = np.random.default_rng(seed)
    d, h, w = grid.shape
    y, x = (np.arange(h) + 0.5)[:, None] / h - 0.5, (np.arange(w) + 0.5)[None, :] / w - 0.5
    z = (np.arange(d) + 0.5)[:, None, None] / d
    hu = 100 + 150 * np.sin(9 * x + 4 * z + seed) * np.cos(7 * y - 3 * z) + rng.normal(0, 15, grid.shape)
    return np.where((y / 0.36) ** 2 + (x / 0.4) ** 2 < 1, hu, -1000).astype(np.int16)


def everywhere(grid: Grid) -> Body:
    """A body that fills the grid."""
    return Body(np.ones((1, 1, 1), bool), grid.spacing_mm, grid.origin_mm)


def make_scan(grid: Grid, *, spacing_mm: tuple[float, float, float] | None = None, body: Body | None = None) -> Scan:
    """A trunk on `grid`; the network sees it at `spacing_mm`."""
    data = trunk_hu(grid)
    seen = network_grid(grid, spacing_mm or grid.spacing_mm)
    body = body or find_body(data, grid)
    return Scan("arterial", (resample(data, grid, seen),), seen, grid, body, WINDOW_HU, LABELS)


def settings_for(tile: tuple[int, int, int], overlap: float = 0.25, batch: int = 1, divisor: int = 1) -> Settings:
    """On the processor in float32."""
    return Settings(torch.device("cpu"), torch.float32, tile, overlap, batch, (divisor, divisor, divisor))


def run(
    network: Network | Networks,
    scan: Scan,
    settings: Settings,
    *,
    scratch: Path | None = None,
    events: list[Event] | None = None,
    cancel: Cancel | None = None,
    on_tiles: Callable[[int, int], None] = lambda done, of: None,
) -> PhasePrediction:
    """`predict` without the ceremony."""
    told = [] if events is None else events
    prediction, _ = predict(
        network if isinstance(network, Networks) else Networks((network,)),
        scan,
        settings,
        on_event=told.append,
        on_tiles=on_tiles,
        cancel=cancel or Cancel(),
        scratch=scratch,
    )
    return prediction


def pointwise(x: torch.Tensor) -> torch.Tensor:
    """A 1x1x1 convolution: logits (B, 4, ...) linear in the voxel's own value, so tiles cannot matter."""
    slope = torch.tensor([-3.0, 1.0, 4.0, 2.0]).view(1, -1, 1, 1, 1)
    offset = torch.tensor([-1.0, 0.5, 0.2, 0.4]).view(1, -1, 1, 1, 1)
    return x * slope + offset


def place_dependent(x: torch.Tensor) -> torch.Tensor:
    """Logits that depend on where in its tile a voxel lies: blending decides, so every weight must be right."""
    b, _, d, h, w = x.shape
    z, y, q = (torch.linspace(-1, 1, n) for n in (d, h, w))
    ramp = (z[:, None, None] + 2 * y[:, None] - q).expand(b, 1, d, h, w)
    return torch.cat([x, 0.9 * ramp, -1.3 * ramp * x + 0.2, 0.5 * ramp + 0.7 * x], dim=1) * 2
