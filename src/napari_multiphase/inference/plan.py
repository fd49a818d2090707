"""What a run will take, decided and shown before it starts: device, tiles, memory, time. Needs no loaded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from napari_multiphase.config import SegmentOptions, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.inference.device import (
    choose_device,
    choose_precision,
    device_words,
    free_mb,
    free_ram_mb,
    speed_vox_s,
)
from napari_multiphase.inference.emit import CHUNK_FLOATS
from napari_multiphase.inference.engine import Settings
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.inference.tiles import Shape, Tiles, body_tiles, fit_tile
from napari_multiphase.model import Model, ModelCard
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase

_MB = 1024 * 1024
_TORCH_MB = 300.0  # a process with torch loaded, before it does anything
_SHARE_OF_FREE = 0.9
_EMIT_VOX_S = 2.5e6  # voxels per second carried to the scan's grid and fused, one phase


@dataclass(frozen=True)
class PhasePlan:
    """One phase: the grid the network sees, whether it differs from the scan's, and the tiles with body in them."""

    grid: Grid
    resampled: bool
    tiles: int
    possible_tiles: int


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    model, device, device_name, precision : what runs where ("cuda", "NVIDIA T4", "float16").
    tile_vox, overlap, batch : (D, H, W) of a tile, share repeated by its neighbour, tiles per forward pass.
    phases : per phase.
    ram_mb, vram_mb : estimated peak of this process; vram_mb is 0 without CUDA.
    seconds : estimated duration.
    sentences : the plan in words, warnings among them.
    """

    model: str
    device: str
    device_name: str
    precision: str
    tile_vox: Shape
    overlap: float
    batch: int
    phases: Mapping[Phase, PhasePlan]
    ram_mb: float
    vram_mb: float
    seconds: float
    sentences: tuple[str, ...] = ()

    @property
    def tiles(self) -> int:
        """Tiles of all phases."""
        return sum(p.tiles for p in self.phases.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        phases = {
            phase.value: {
                "grid": p.grid.to_dict(),
                "resampled": p.resampled,
                "tiles": p.tiles,
                "possible_tiles": p.possible_tiles,
            }
            for phase, p in self.phases.items()
        }
        plain = {k: v for k, v in asdict(self).items() if k != "phases"}
        plain |= {"tile_vox": list(self.tile_vox), "sentences": list(self.sentences)}
        return {**plain, "phases": phases, "tiles": self.tiles}


@dataclass(frozen=True)
class Prepared:
    """A plan with what it was made from, so that a run need not find it again."""

    plan: Plan
    settings: Settings
    bodies: Mapping[Phase, Body]
    notes: tuple[str, ...]


def make_plan(model: Model, study: Study, options: SegmentOptions) -> Plan:
    """The plan of segmenting `study`.

    Raises
    ------
    UserError : the model knows none of the study's phases, the device is not there, or memory cannot suffice.
    """
    return prepare(model, study, options).plan


def prepare(model: Model, study: Study, options: SegmentOptions) -> Prepared:
    """`make_plan` with the settings and bodies that the run uses; raises as it does."""
    card = model.card
    phases, notes = _usable(card, study)
    device = choose_device(options.device)
    precision = choose_precision(device)
    divisor = _divisor(card)
    grids = {p: network_grid(study.volumes[p].grid, card.spacing_mm) for p in phases}
    bodies = {p: find_body(study.volumes[p].data, study.volumes[p].grid) for p in phases}
    notes += [
        f"no body was found in the {p} scan: everything was searched; is it a CT of the trunk?"
        for p in phases
        if not bodies[p].found
    ]
    largest: Shape = tuple(max(g.shape[a] for g in grids.values()) for a in range(3))  # type: ignore[assignment]
    tile = fit_tile(options.tile_vox or card.tile_vox, largest, divisor)
    overlap = card.overlap if options.overlap is None else options.overlap
    batch = options.batch or (4 if device.type == "cuda" else 1)
    settings = Settings(device, precision, tile, overlap, batch, divisor)

    free_device_mb = free_mb(device)
    while True:
        tiles = {
            p: body_tiles(grids[p], bodies[p], fit_tile(settings.tile, grids[p].shape, divisor), overlap)
            for p in phases
        }
        ram_mb, vram_mb = _memory_mb(card, study, grids, tiles, settings)
        short = _shortage(ram_mb, vram_mb, free_device_mb)
        if not short:
            break
        less = settings.smaller()
        if less is None:
            raise UserError(f"{short}; close other programs, crop the scan, or use a machine with more memory")
        settings = less
    if settings.tile != tile or settings.batch != batch:
        notes.append(f"memory is short, so the run uses {settings.words()}")
    seconds = _seconds(card, study, tiles, settings)
    per_phase = {
        p: PhasePlan(grids[p], grids[p] != study.volumes[p].grid, t.count, t.possible) for p, t in tiles.items()
    }
    plan = Plan(
        model=card.name,
        device=device.type,
        device_name=device_words(device),
        precision=str(precision).removeprefix("torch."),
        tile_vox=settings.tile,
        overlap=overlap,
        batch=settings.batch,
        phases=per_phase,
        ram_mb=round(ram_mb),
        vram_mb=round(vram_mb),
        seconds=round(seconds, 1),
        sentences=(*_sentences(per_phase, settings, ram_mb, vram_mb, seconds), *notes),
    )
    return Prepared(plan, settings, bodies, tuple(notes))


def _usable(card: ModelCard, study: Study) -> tuple[list[Phase], list[str]]:
    phases = [p for p in study.phases if p in card.phases]
    if not phases:
        known = " and ".join(card.phases)
        raise UserError(
            f"the model '{card.name}' segments {known} scans, the study holds {' and '.join(study.phases)}; "
            "choose another model or correct the phases"
        )
    return phases, [f"the model does not segment the {p} scan" for p in study.phases if p not in card.phases]


def _divisor(card: ModelCard) -> int:
    config = method_config(card.method, card.config)
    return int(getattr(config, "divisor", 0) or config.segmentor.divisor)


def _memory_mb(
    card: ModelCard, study: Study, grids: Mapping[Phase, Grid], tiles: Mapping[Phase, Tiles], settings: Settings
) -> tuple[float, float]:
    """(RAM, VRAM) at the peak of the run. The largest phase counts; phases run one after another."""
    k, half = len(card.labels), 4 if settings.precision == torch.float32 else 2
    widths = method_config(card.method, card.config).segmentor.widths
    tile_vox = settings.tile[0] * settings.tile[1] * settings.tile[2]
    # At full resolution: skip, upsampled, both joined, convolved, one spare; then logits.
    network = settings.batch * tile_vox * (6 * widths[0] * half + k * half + 8)
    slab = max(
        (k + 1) * 4 * min(t.tile[0], t.shape[0]) * (t.box[0][1] - t.box[0][0]) * (t.box[1][1] - t.box[1][0])
        for t in tiles.values()
    )
    # Handing slices out holds a chunk of probabilities where they are interpolated, and their two best.
    chunk = max(4 * max(CHUNK_FLOATS, k * _plane_vox(study, p)) for p in tiles)
    resampled = [p for p in tiles if grids[p] != study.volumes[p].grid]
    emit = (1.5 if resampled else 0.0) * chunk + 8 * chunk / k
    images = max((2 * grids[p].shape[0] * grids[p].shape[1] * grids[p].shape[2] for p in resampled), default=0)
    results = sum(7 * study.volumes[p].data.size for p in tiles)
    base = max(psutil.Process().memory_info().rss, _TORCH_MB * _MB)
    if settings.device.type == "cuda":
        return (base + images + results) / _MB + 500, (network + slab + emit) / _MB + 300
    return (base + network + slab + emit + images + results) / _MB, 0.0


def _plane_vox(study: Study, phase: Phase) -> int:
    _, height, width = study.volumes[phase].shape
    return height * width


def _shortage(ram_mb: float, vram_mb: float, free_device_mb: float | None) -> str:
    """Why the run would not fit, or nothing."""
    free = free_ram_mb() + psutil.Process().memory_info().rss / _MB
    if ram_mb > free * _SHARE_OF_FREE:
        return f"segmenting needs about {ram_mb:.0f} MB of memory and {free:.0f} MB are free"
    if free_device_mb is not None and vram_mb > free_device_mb * _SHARE_OF_FREE:
        return f"segmenting needs about {vram_mb:.0f} MB of GPU memory and {free_device_mb:.0f} MB are free"
    return ""


def _seconds(card: ModelCard, study: Study, tiles: Mapping[Phase, Tiles], settings: Settings) -> float:
    voxels = sum(t.count * t.tile[0] * t.tile[1] * t.tile[2] for t in tiles.values())
    native = sum(study.volumes[p].data.size for p in tiles)
    return voxels / speed_vox_s(settings.device, settings.precision, card.name) + native / _EMIT_VOX_S + 1.0


def _sentences(
    phases: Mapping[Phase, PhasePlan], settings: Settings, ram_mb: float, vram_mb: float, seconds: float
) -> tuple[str, ...]:
    tiles = sum(p.tiles for p in phases.values())
    possible = sum(p.possible_tiles for p in phases.values())
    memory = f"about {ram_mb / 1024:.1f} GB of memory" + (f" and {vram_mb / 1024:.1f} GB on the GPU" if vram_mb else "")
    grid = next(iter(phases.values())).grid
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
    precision = str(settings.precision).removeprefix("torch.")
    return (
        f"Runs on {device_words(settings.device)}, in {precision}.",
        f"{tiles} {settings.words()}, at {spacing} mm; {possible - tiles} of {possible} without body are left out.",
        f"Takes {memory} and about {max(1, round(seconds))} s.",
    )
