"""What a run will take, decided and shown before it starts: device, tiles, memory, time. Needs no loaded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from napari_multiphase.config import SegmentOptions, Traits, traits_of
from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.inference.branches import with_branches
from napari_multiphase.inference.cost import first_cost, network_cost
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
from napari_multiphase.inference.room import fitting, memory_words, process_bytes
from napari_multiphase.inference.tiles import Shape, Tiles, fit_tile
from napari_multiphase.io.models import with_synthetic_branch
from napari_multiphase.model import Model, ModelCard
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase

_MB = 1024 * 1024
_EMIT_VOX_S = 2.5e6  # voxels per second carried to the scan's grid and fused, one phase
_FLAT_SLICES = 8  # slices of a tile where they do not see each other: enough to keep a processor busy
_WHOLE = 1 << 20  # more than any scan has: fitted to it
_REGION_BYTES = 10  # per voxel of the network's grid while the region is found: five results, components, the mask
_ROUNDS_BYTES = 18  # the same in a round: two probabilities, masks, where tiles are needed, components


@dataclass(frozen=True)
class PhasePlan:
    """One result: the grid the network sees, whether it differs from the scan's, and the tiles with body in them.

    `region_tiles`: of those, how many a first pass sees, which finds the region to work in or a coarse result; then
    `tiles` are at most that many, of all rounds of a method that refines: these see the slices around what was found.
    """

    grid: Grid
    resampled: bool
    tiles: int
    possible_tiles: int
    region_tiles: int = 0


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    model, device, device_name, precision : what runs where ("cuda", "NVIDIA T4", "float16").
    tile_vox, overlap, batch : (D, H, W) of a tile, share repeated by its neighbour, tiles per forward pass.
    further_sizes : in which every tile is looked at beside its own.
    reads : "each" phase by itself, or the "pair" at once; then the only entry of `phases` is the venous one.
    phases : per phase that a network's result lies on.
    ram_mb, vram_mb : estimated peak of this process; vram_mb is 0 without CUDA.
    seconds : estimated duration.
    sentences : the plan in words, warnings among them.
    offer : name of a model that would also segment a synthetic image of the phase that is missing, where one is.
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
    reads: str = "each"
    sentences: tuple[str, ...] = ()
    offer: str = ""
    further_sizes: tuple[float, ...] = ()

    @property
    def tiles(self) -> int:
        """Tiles of all phases, those of finding a region among them."""
        return sum(p.tiles + p.region_tiles for p in self.phases.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        phases = {
            phase.value: {
                "grid": p.grid.to_dict(),
                "resampled": p.resampled,
                "tiles": p.tiles,
                "possible_tiles": p.possible_tiles,
                "region_tiles": p.region_tiles,
            }
            for phase, p in self.phases.items()
        }
        plain = {k: v for k, v in asdict(self).items() if k != "phases"}
        lists = {"tile_vox": self.tile_vox, "sentences": self.sentences, "further_sizes": self.further_sizes}
        plain |= {name: list(values) for name, values in lists.items()}
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
    UserError : the model knows none of the study's phases or needs both and one is missing, it has no branches to
        weigh, the device is not there, or memory cannot suffice.
    """
    return prepare(model, study, options).plan


def prepare(model: Model, study: Study, options: SegmentOptions) -> Prepared:
    """`make_plan` with the settings and bodies that the run uses; raises as it does."""
    card = with_branches(model, options).card
    traits = traits_of(card.method, card.config)
    phases, notes = _usable(card, traits, study)
    device = choose_device(options.device)
    precision = choose_precision(device)
    grids = {p: network_grid(study.volumes[p].grid, card.spacing_mm) for p in phases}
    bodies = {p: find_body(study.volumes[p].data, study.volumes[p].grid) for p in phases}
    notes += [
        f"no body was found in the {p} scan: everything was searched; is it a CT of the trunk?"
        for p in phases
        if not bodies[p].found
    ]
    offer = _offer(traits, study) if options.branch_weight is None else ""
    if offer:
        only = study.phases[0]
        notes.append(
            f"only the {only} scan is there: the model '{offer}' would segment a synthetic {only.other} image as well, "
            "made from it"
        )
    largest: Shape = tuple(max(g.shape[a] for g in grids.values()) for a in range(3))  # type: ignore[assignment]
    overlap = card.overlap if options.overlap is None else options.overlap
    batch = options.batch or (4 if device.type == "cuda" else 1)
    wanted = choose_settings(traits, device, precision, options.tile_vox, card.tile_vox, largest, overlap, batch)
    if traits.in_volumes:
        asked = options.further_sizes
        wanted = replace(wanted, further_sizes=card.further_sizes if asked is None else asked)

    def tiles_of(tried: Settings) -> dict[Phase, Tiles]:
        return {p: tried.tiles_of(grids[p], bodies[p]) for p in phases}

    def memory_mb(tried: Settings) -> tuple[float, float]:
        return _memory_mb(card, traits, study, grids, tiles_of(tried), tried)

    settings, (ram_mb, vram_mb), less = fitting("segmenting", wanted, memory_mb, (free_ram_mb(), free_mb(device)))
    notes += less
    tiles = tiles_of(settings)
    seconds = _seconds(card, traits, study, tiles, settings)
    first = traits.region or traits.rounds is not None
    per_phase = {
        p: PhasePlan(grids[p], grids[p] != study.volumes[p].grid, t.count, t.possible, t.count if first else 0)
        for p, t in tiles.items()
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
        reads=traits.reads,
        sentences=(*_sentences(traits, per_phase, settings, ram_mb, vram_mb, seconds), *notes),
        offer=offer,
        further_sizes=settings.further_sizes,
    )
    return Prepared(plan, settings, bodies, tuple(notes))


def choose_settings(
    traits: Traits,
    device: torch.device,
    precision: torch.dtype,
    asked: Shape | None,
    usual: Shape,
    grid: Shape,
    overlap: float,
    batch: int,
) -> Settings:
    """Tiles of the size `asked` for, else the `usual` one, fitted to a `grid` of that shape.

    Where slices do not see each other (a divisor of 1 along z) a tile is by default a few whole ones: nothing overlaps,
    and nothing is blended.
    """
    flat = traits.divisor[0] == 1
    default = (_FLAT_SLICES, _WHOLE, _WHOLE) if flat else usual
    tile = fit_tile(asked or default, grid, traits.divisor)
    return Settings(device, precision, tile, overlap, batch, traits.divisor, flat)


def _usable(card: ModelCard, traits: Traits, study: Study) -> tuple[list[Phase], list[str]]:
    if traits.reads == "pair":
        if len(study.phases) < len(Phase):
            only = study.phases[0]
            raise UserError(
                f"the model '{card.name}' reads both phases at once and the study holds only the {only} scan; "
                f"open the {only.other} scan as well, or choose a model that segments one phase"
            )
        return [Phase.VENOUS], []
    phases = [p for p in study.phases if p in card.phases]
    if not phases:
        known = " and ".join(card.phases)
        raise UserError(
            f"the model '{card.name}' segments {known} scans, the study holds {' and '.join(study.phases)}; "
            "choose another model or correct the phases"
        )
    return phases, [f"the model does not segment the {p} scan" for p in study.phases if p not in card.phases]


def _memory_mb(
    card: ModelCard,
    traits: Traits,
    study: Study,
    grids: Mapping[Phase, Grid],
    tiles: Mapping[Phase, Tiles],
    settings: Settings,
) -> tuple[float, float]:
    """(RAM, VRAM) at the peak of the run. The largest phase counts; phases run one after another."""
    k, half = len(card.labels), 4 if settings.precision == torch.float32 else 2
    looks = settings.looks_vox
    live_floats = max(network_cost(card).live_floats, first_cost(card).live_floats)
    network = settings.batch * max(looks) * (live_floats * half + k * half + 8)
    if len(looks) > 1:  # logits on their way back to the tile's size, and the mean
        network += settings.batch * looks[0] * 3 * 4 * k
    # Each member's probabilities are summed apart; what several members say together is one volume more.
    volumes = traits.members * (k + 1) + (k if traits.members > 1 else 0)
    slab = max(
        volumes * 4 * min(t.tile[0], t.shape[0]) * (t.box[0][1] - t.box[0][0]) * (t.box[1][1] - t.box[1][0])
        for t in tiles.values()
    )
    # Handing slices out holds a chunk of probabilities where they are interpolated, and their two best.
    chunk = max(4 * max(CHUNK_FLOATS, k * _plane_vox(study, p)) for p in tiles)
    resampled = [p for p in tiles if grids[p] != study.volumes[p].grid]
    emit = (1.5 if resampled else 0.0) * chunk + 8 * chunk / k
    seen = {p: grids[p].shape[0] * grids[p].shape[1] * grids[p].shape[2] for p in tiles}
    images = max((2 * seen[p] for p in resampled), default=0)
    if traits.reads == "pair":
        images += 2 * seen[Phase.VENOUS]
    kept = _REGION_BYTES * traits.region + _ROUNDS_BYTES * (traits.rounds is not None)
    region = kept * max(seen.values())
    results = sum(7 * study.volumes[p].data.size for p in tiles)
    if traits.reads == "pair":
        results += 2 * study.volumes[Phase.ARTERIAL].data.size
    here = process_bytes() + images + region + results
    if settings.device.type == "cuda":
        return here / _MB + 500, (network + slab + emit) / _MB + 300
    return (here + network + slab + emit) / _MB, 0.0


def _offer(traits: Traits, study: Study) -> str:
    """Where a phase is missing, a model that would segment a synthetic image of it; empty where there is none."""
    if len(study.phases) == 2 or traits.synthetic:
        return ""
    return next(iter(with_synthetic_branch()), "")


def _plane_vox(study: Study, phase: Phase) -> int:
    _, height, width = study.volumes[phase].shape
    return height * width


def _seconds(card: ModelCard, traits: Traits, study: Study, tiles: Mapping[Phase, Tiles], settings: Settings) -> float:
    voxels = sum(t.count * sum(replace(settings, tile=t.tile).looks_vox) for t in tiles.values())
    flop = network_cost(card).flop
    network_s = voxels / speed_vox_s(settings.device, settings.precision, card.name, flop)
    region_s = network_s * first_cost(card).flop / max(flop, 1.0)
    native = sum(study.volumes[p].data.size for p in (study.phases if traits.reads == "pair" else tiles))
    return network_s + region_s + native / _EMIT_VOX_S + 1.0


def _sentences(
    traits: Traits,
    phases: Mapping[Phase, PhasePlan],
    settings: Settings,
    ram_mb: float,
    vram_mb: float,
    seconds: float,
) -> tuple[str, ...]:
    tiles = sum(p.tiles for p in phases.values())
    possible = sum(p.possible_tiles for p in phases.values())
    grid = next(iter(phases.values())).grid
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
    precision = str(settings.precision).removeprefix("torch.")
    pair = ("Reads both phases at once, the arterial scan on the venous grid.",) if traits.reads == "pair" else ()
    region = ("First finds the region it works in; then only tiles that meet it are run.",) if traits.region else ()
    if traits.rounds is not None:
        region = (f"Goes over what it found up to {traits.rounds.most} times; time and tiles are for one.",)
    synthetic = (
        ("Each scan is also segmented as a synthetic image of the other phase; both results are fused.",)
        if traits.synthetic
        else ()
    )
    further = " and ".join(f"{size:g}" for size in settings.further_sizes)
    sizes = (f"Looks at every tile in its own size and in {further} of it.",) if further else ()
    return (
        f"Runs on {device_words(settings.device)}, in {precision}.",
        f"{tiles} {settings.words()}, at {spacing} mm; {possible - tiles} of {possible} without body are left out.",
        memory_words(ram_mb, vram_mb, seconds),
        *sizes,
        *pair,
        *region,
        *synthetic,
    )
