"""What translating a scan will take, decided and shown before it starts. Needs no loaded weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from typing import Any

import torch

from napari_multiphase.config import TranslateOptions, TranslatorTraits
from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.inference.context_tiles import ContextTiles, cheapest_tiles, given_tiles, padded
from napari_multiphase.inference.cost import TranslationCost, translation_cost
from napari_multiphase.inference.device import choose_device, device_words, free_mb, free_ram_mb, speed_vox_s
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.inference.room import fitting, memory_words, process_bytes
from napari_multiphase.inference.tiles import Shape
from napari_multiphase.io.models import translator_traits
from napari_multiphase.model import Model, ModelCard
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume

_MB = 1024 * 1024
_SHARE_FOR_NETWORK = 0.5
"""Of what is free: the most that the network may take at a time, however long the scan is."""
_ABOVE_LIVE = 1.4
"""What processes take beyond the tensors that are alive: convolutions copy their input (measured: 1.05 to 1.37)."""
_FLAT_SLICES = 8
"""Slices at a time where these do not see each other: enough to keep a processor busy."""
_EMIT_VOX_S = 1e7  # voxels per second brought to the scan's grid and written


@dataclass(frozen=True)
class TranslationSettings:
    """How a generator is run: what a plan decides. `divisor` is what sides of tiles are multiples of."""

    device: torch.device
    precision: torch.dtype
    tiles: ContextTiles
    divisor: Shape

    def smaller(self) -> TranslationSettings | None:
        """The next step down in memory: tiles that see at most half as much at a time; None at the end."""
        less = self.tiles.smaller(self.divisor)
        return None if less is None else replace(self, tiles=less)

    def words(self) -> str:
        """For a person: "4 tiles of 64 x 96 x 96 voxels and what surrounds them"."""
        if self.tiles.count == 1:
            return "the scan in one piece"
        size = " x ".join(map(str, self.tiles.tile))
        around = " and what surrounds them" if any(self.tiles.context) else ""
        return f"{self.tiles.count} tiles of {size} voxels{around}"


@dataclass(frozen=True)
class TranslationPlan:
    """What a run will take.

    Attributes
    ----------
    model, device, device_name, precision : what runs where ("cuda", "NVIDIA T4", "float16").
    source, to : from which phase to which.
    grid, resampled : what the network sees of the source, and whether it differs from the scan's own grid.
    tile_vox, seen_vox : (D, H, W) that a tile owns, and the largest that one sees, its context included.
    tiles, passes : tiles of one pass over the scan; passes that gather statistics before the one that translates.
    ram_mb, vram_mb : estimated peak of this process; vram_mb is 0 without CUDA.
    seconds : estimated duration.
    sentences : the plan in words, warnings among them.
    """

    model: str
    device: str
    device_name: str
    precision: str
    source: Phase
    to: Phase
    grid: Grid
    resampled: bool
    tile_vox: Shape
    seen_vox: Shape
    tiles: int
    passes: int
    ram_mb: float
    vram_mb: float
    seconds: float
    sentences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        lists = {name: list(getattr(self, name)) for name in ("tile_vox", "seen_vox", "sentences")}
        plain = {**asdict(self), **lists, "source": self.source.value, "to": self.to.value}
        return {**plain, "grid": self.grid.to_dict()}


@dataclass(frozen=True)
class PreparedTranslation:
    """A plan with what it was made from, so that a run need not find it again."""

    plan: TranslationPlan
    settings: TranslationSettings
    cost: TranslationCost
    body: Body
    notes: tuple[str, ...]


def make_translation_plan(
    model: Model, study: Study, to: Phase, options: TranslateOptions | None = None
) -> TranslationPlan:
    """The plan of translating the other scan of `study` to phase `to`.

    Raises
    ------
    UserError : the model does not translate, that scan is missing, the device is not there, or memory cannot suffice.
    """
    return prepare_translation(model, study, to, options or TranslateOptions()).plan


def prepare_translation(model: Model, study: Study, to: Phase, options: TranslateOptions) -> PreparedTranslation:
    """`make_translation_plan` with the settings, costs and body that the run uses; raises as it does."""
    card, source = model.card, to.other
    traits, volume = translator_traits(card), source_of(study, to)
    device, grid = choose_device(options.device), network_grid(volume.grid, card.spacing_mm)
    precision = translation_precision(device)
    body, cost = find_body(volume.data, volume.grid), translation_cost(card, to)
    notes = [] if body.found else [f"no body was found in the {source} scan: is it a CT of the trunk?"]
    free = free_ram_mb(), free_mb(device)
    most_vox = _most_vox(cost, precision, free, options.memory_gb)
    wanted = _settings(traits, device, precision, grid.shape, options.tile_vox, most_vox)
    settings, (ram_mb, vram_mb), less = fitting(
        "translating", wanted, lambda tried: _memory_mb(study, source, grid, cost, tried), free
    )
    notes += less
    passes = len(cost.until_norm) if settings.tiles.count > 1 else 0
    seconds = _seconds(card, to, cost, settings, volume.data.size)
    plan = TranslationPlan(
        model=card.name,
        device=device.type,
        device_name=device_words(device),
        precision=str(precision).removeprefix("torch."),
        source=source,
        to=to,
        grid=grid,
        resampled=grid != volume.grid,
        tile_vox=settings.tiles.tile,
        seen_vox=settings.tiles.largest,
        tiles=settings.tiles.count,
        passes=passes,
        ram_mb=round(ram_mb),
        vram_mb=round(vram_mb),
        seconds=round(seconds, 1),
    )
    sentences = (*_sentences(plan, settings), *notes)
    return PreparedTranslation(replace(plan, sentences=sentences), settings, cost, body, tuple(notes))


def source_of(study: Study, to: Phase) -> Volume:
    """The scan that a synthetic image of phase `to` is made from; UserError where it is missing."""
    source = to.other
    if source not in study.volumes:
        raise UserError(
            f"a synthetic {to} scan is made from the {source} one, and the study holds only the {to} scan; "
            f"open the {source} scan, or translate to {source}"
        )
    return study.volumes[source]


def translation_precision(device: torch.device) -> torch.dtype:
    """float16 on CUDA, else float32: bfloat16 tells no more than 512 intensities apart."""
    return torch.float16 if device.type == "cuda" else torch.float32


def speed_name(card: ModelCard, to: Phase) -> str:
    """Under which name the speed of translating to `to` is remembered."""
    return f"{card.name} to {to}"


def shares(cost: TranslationCost, tiles: ContextTiles) -> list[float]:
    """Work of each pass, those that gather statistics before the one that translates, in parts of the latter."""
    if tiles.count == 1:
        return [1.0]
    return [*(flop / max(cost.whole.flop, 1.0) for _, flop in cost.until_norm), 1.0]


def _settings(
    traits: TranslatorTraits,
    device: torch.device,
    precision: torch.dtype,
    grid: Shape,
    asked: Shape | None,
    most_vox: int,
) -> TranslationSettings:
    """Tiles of the size `asked` for, else the cheapest that the network may take at a time."""
    shape, divisor = padded(grid, traits.divisor), traits.divisor
    z, y, x = (ceil(c / s) * s for c, s in zip(traits.context_vox, divisor, strict=True))
    context = (z, y, x)
    if asked is None and traits.form == "slices":
        plane = shape[1] * shape[2]
        slices = max(1, min(_FLAT_SLICES, most_vox // plane - 2 * z))
        tiles = given_tiles(shape, context, divisor, (slices, *shape[1:]))
    elif asked is not None:
        tiles = given_tiles(shape, context, divisor, asked)
    else:
        tiles = cheapest_tiles(shape, context, divisor, most_vox)
    return TranslationSettings(device, precision, tiles, divisor)


def _vox_bytes(cost: TranslationCost, precision: torch.dtype) -> float:
    """Of a network, per voxel that it sees."""
    return _ABOVE_LIVE * cost.whole.live_floats * (4 if precision == torch.float32 else 2) + 8


def _most_vox(
    cost: TranslationCost, precision: torch.dtype, free: tuple[float, float | None], memory_gb: float | None
) -> int:
    """How many voxels a network may see at a time."""
    ram_mb, vram_mb = free
    most_mb = _SHARE_FOR_NETWORK * (ram_mb if vram_mb is None else vram_mb) if memory_gb is None else memory_gb * 1024
    return int(most_mb * _MB / _vox_bytes(cost, precision))


def _memory_mb(
    study: Study, source: Phase, grid: Grid, cost: TranslationCost, settings: TranslationSettings
) -> tuple[float, float]:
    """(RAM, VRAM) at the peak of the run."""
    volume, tiles = study.volumes[source], settings.tiles
    network = prod(tiles.largest) * _vox_bytes(cost, settings.precision)
    row = 8 * tiles.tile[0] * prod(grid.shape[1:])
    planes = 16 * 4 * prod(volume.shape[1:])
    image = 2 * prod(grid.shape) if grid != volume.grid else 0
    here = process_bytes() + image + 2 * volume.data.size + row + planes
    if settings.device.type == "cuda":
        return here / _MB + 500, network / _MB + 300
    return (here + network) / _MB, 0.0


def _seconds(card: ModelCard, to: Phase, cost: TranslationCost, settings: TranslationSettings, native: int) -> float:
    speed = speed_vox_s(settings.device, settings.precision, speed_name(card, to), cost.whole.flop)
    work = sum(shares(cost, settings.tiles)) * settings.tiles.seen_vox
    return work / speed + native / _EMIT_VOX_S + 1.0


def _sentences(plan: TranslationPlan, settings: TranslationSettings) -> tuple[str, ...]:
    spacing = " x ".join(f"{s:.3g}" for s in plan.grid.spacing_mm)
    passes = (
        f"First {plan.passes} passes gather statistics of the whole scan, so that tiles leave no seams."
        if plan.passes
        else ""
    )
    words = settings.words()
    return (
        f"Makes a synthetic {plan.to} scan from the {plan.source} one, on its grid.",
        f"Runs on {plan.device_name}, in {plan.precision}.",
        f"{words[0].upper()}{words[1:]}, at {spacing} mm.",
        *filter(None, [passes]),
        memory_words(plan.ram_mb, plan.vram_mb, plan.seconds),
    )
