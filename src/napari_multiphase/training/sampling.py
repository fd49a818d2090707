"""Which patches come next: each item is drawn from (seed, stage, step, item) alone.

So a resumed run needs no generator state, and any division of a batch over processes or loaders gives the same items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_multiphase.config import RunConfig, Traits
from napari_multiphase.errors import UserError
from napari_multiphase.imaging.resample import AIR_HU
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.labels import BACKGROUND, UNKNOWN, name_of
from napari_multiphase.methods.base import Batch, Draw
from napari_multiphase.training.augment import Move, Vox, change_hu, draw_move, moved
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.volume import Phase

MIXED_PERIOD = 4
"""One item of so many comes from partly annotated cases (PAPER 004, Sec. 3: 3 : 1)."""


def draw_batch(
    run: RunConfig,
    traits: Traits,
    draw: Draw,
    cases: Sequence[TrainingCase],
    stage_index: int,
    step: int,
    items: range | None = None,
    salt: tuple[int, ...] = (),
) -> Batch:
    """The items `items` of the step's whole batch of ``run.batch`` (all without it).

    `salt` tells the items of a further draw from those of the first.

    Raises
    ------
    UserError : none of `cases` has what `draw` asks for.
    """
    items = range(run.batch) if items is None else items
    turns = _turns(draw)
    phases = turns[step % len(turns)]
    pools = {group: _pools(run, draw, cases, group) for group in _groups(draw, phases)}
    drawn = []
    for item in items:
        rng = np.random.default_rng([run.seed, stage_index, step, item, *salt])
        parts = []
        for group, halves in pools.items():
            pool = halves[item % MIXED_PERIOD == MIXED_PERIOD - 1]
            case = pool[int(rng.integers(len(pool)))]
            parts.append(_item(run, traits, draw, case, group, rng))
        drawn.append(_joined(draw, parts))
    x = {phase: torch.stack([item.x[phase] for item in drawn])[:, None] for phase in phases}
    y = {phase: torch.stack([item.y[phase] for item in drawn]) for phase in phases}
    annotated = torch.stack([item.annotated for item in drawn])
    seed = int(np.random.SeedSequence([run.seed, stage_index, step]).generate_state(1)[0])
    also = (
        None if draw.also is None else draw_batch(run, traits, draw.also, cases, stage_index, step, items, (*salt, 1))
    )
    weight = {phase: torch.stack([item.weight[phase] for item in drawn]) for phase in drawn[0].weight}
    return Batch(x, y, annotated, seed, items.start, run.batch, also, weight)


def check_draws(run: RunConfig, draws: Iterable[Draw], cases: Sequence[TrainingCase]) -> None:
    """Raise the UserError that some step of some stage would end in, before the first one: no case for it, or none
    that shows what background is."""
    for draw in draws:
        for group in (group for phases in _turns(draw) for group in _groups(draw, phases)):
            pool = [case for half in _pools(run, draw, cases, group) for case in half]
            told = draw.knows_background or _free(draw, group)
            if not told and not any(case.complete or _shows_background(case) for case in pool):
                most = max(pool, key=lambda case: int(case.annotated.sum()))
                lacking = ", ".join(
                    name_of(label)
                    for label, known in zip(run.labels, most.annotated, strict=True)
                    if label and not known
                )
                raise UserError(
                    f"no case to learn from is annotated in full (even '{most.id}' lacks {lacking}), so nothing would "
                    f"tell {run.method} what is background; leave such structures out of `labels`, or add cases that "
                    "have them all"
                )
        if draw.also:
            check_draws(run, [draw.also], cases)


def _shows_background(case: TrainingCase) -> bool:
    """Whether a person looked at background in a corrected case."""
    return any(scan.reviewed is not None and len(scan.anchors[0]) for scan in case.scans.values())


def _turns(draw: Draw) -> tuple[tuple[Phase, ...], ...]:
    """The phases that each step reads, step by step in turn."""
    if draw.pairing == "single":
        return tuple((phase,) for phase in draw.phases)
    return (tuple(Phase) if draw.pairing == "pair" else draw.phases,)


def _groups(draw: Draw, phases: tuple[Phase, ...]) -> tuple[tuple[Phase, ...], ...]:
    """Of a step's phases, those that come from one case each."""
    return tuple((phase,) for phase in phases) if draw.pairing == "unpaired" else (phases,)


@dataclass(frozen=True)
class _Item:
    x: Mapping[Phase, Tensor]
    y: Mapping[Phase, Tensor]
    annotated: Tensor
    weight: Mapping[Phase, Tensor]


def _joined(draw: Draw, parts: Sequence[_Item]) -> _Item:
    """Parts of one item, of different phases."""
    x = {phase: values for part in parts for phase, values in part.x.items()}
    y = {phase: channels for part in parts for phase, channels in part.y.items()}
    weight = {phase: values for part in parts for phase, values in part.weight.items()}
    known = [part.annotated for part in parts if not _free(draw, part.x)] or [part.annotated for part in parts]
    return _Item(x, y, torch.stack(known).all(0), weight)


def _pools(
    run: RunConfig, draw: Draw, cases: Sequence[TrainingCase], phases: tuple[Phase, ...]
) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """Cases for most items, and for every fourth one; the same list unless the draw is "mixed"."""
    there = _share(draw, [case for case in cases if _usable(case, draw, phases)], phases)
    full, partly = [c for c in there if c.complete], [c for c in there if not c.complete]
    if draw.annotation == "mixed":
        if run.batch % MIXED_PERIOD:
            raise UserError(
                f"batch is {run.batch}, but this stage takes 3 fully to 1 partly labelled patch; set it to 4"
            )
        return _some(full, "annotated in full", phases), _some(partly, "annotated in part", phases)
    words = {"any": "", "full": "annotated in full", "partial": "annotated in part"}[draw.annotation]
    chosen = _some({"any": there, "full": full, "partial": partly}[draw.annotation], words, phases)
    return chosen, chosen


def _share(draw: Draw, cases: list[TrainingCase], phases: tuple[Phase, ...]) -> list[TrainingCase]:
    """Those of `cases` that ``draw.shares`` leaves."""
    share = draw.shares.get(phases[0], 1.0) if draw.pairing != "pair" else 1.0
    count = max(1, round(share * len(cases)))
    return cases[-count:] if phases[0] == Phase.VENOUS else cases[:count]


def _free(draw: Draw, phases: Iterable[Phase]) -> bool:
    """Whether nobody reads the labels of `phases`."""
    return set(phases) <= set(draw.unlabelled)


def _usable(case: TrainingCase, draw: Draw, phases: tuple[Phase, ...]) -> bool:
    """Whether the case has the phases, and labels in them (a pair: in the venous one) unless it has none at all (then
    it is unlabelled data) or nobody reads them."""
    arrays = _arrays(case, draw)
    if any(phase not in arrays for phase in phases):
        return False
    drawn = (Phase.VENOUS,) if draw.pairing == "pair" else phases
    unread = not case.annotated.any() or _free(draw, drawn)
    return unread or any(len(points) for phase in drawn for points in arrays[phase].anchors)


def _arrays(case: TrainingCase, draw: Draw) -> Mapping[Phase, PhaseArrays]:
    return (case.pair or {}) if draw.pairing == "pair" else case.scans


def _some(cases: list[TrainingCase], words: str, phases: tuple[Phase, ...]) -> list[TrainingCase]:
    if not cases:
        needed = "both scans with venous labels" if len(phases) > 1 else f"the {phases[0]} scan with labels"
        raise UserError(
            f"no case to learn from {words + ' ' if words else ''}has {needed}; add such cases, or choose another "
            "method, another `supervision` or another split"
        )
    return cases


def _item(
    run: RunConfig, traits: Traits, draw: Draw, case: TrainingCase, phases: tuple[Phase, ...], rng: np.random.Generator
) -> _Item:
    patch_vox = draw.patch_vox or run.patch_vox
    arrays = {phase: _arrays(case, draw)[phase] for phase in phases}
    start = _place(draw, patch_vox, list(arrays.values()), rng)
    move = draw_move(draw.augment, patch_vox, case.spacing_mm, rng)
    outside = BACKGROUND if case.complete else UNKNOWN
    x, y, weight = {}, {}, {}
    for phase, scan in arrays.items():
        hu, channels, reviewed = _cut(scan, start, patch_vox, move, outside)
        values = torch.from_numpy(normalise(change_hu(hu, draw.augment, rng).numpy(), run.window_hu))
        x[phase] = (values - scan.mean) / max(scan.std, 1e-6) if traits.standardise else values
        y[phase] = channels
        if draw.reviewed_weight != 1:
            weight[phase] = 1 + (draw.reviewed_weight - 1) * reviewed.float()
    return _Item(x, y, torch.from_numpy(np.asarray(case.annotated)), weight)


def _place(draw: Draw, patch_vox: Vox, scans: Sequence[PhaseArrays], rng: np.random.Generator) -> NDArray[np.int_]:
    """First voxel of a patch: near a voxel of a structure, each structure present being equally likely so that adrenals
    are seen as often as livers; or anywhere. In a corrected case: near a voxel that was looked at, background too."""
    shape = scans[0].hu.shape
    first = 0 if any(scan.reviewed is not None for scan in scans) else 1
    wanted = draw.focus or range(first, len(scans[0].anchors))
    there = [c for c in wanted if any(len(scan.anchors[c]) for scan in scans)]
    if rng.random() < draw.focus_share and there:
        channel = there[int(rng.integers(len(there)))]
        points = np.concatenate([scan.anchors[channel] for scan in scans])
        jitter = [int(rng.integers(-(p // 4), p // 4 + 1)) for p in patch_vox]
        centre = points[int(rng.integers(len(points)))] + jitter
    else:
        centre = np.array([int(rng.integers(n)) for n in shape])
    last = np.maximum(np.array(shape) - patch_vox, 0)
    return np.clip(centre - np.array(patch_vox) // 2, 0, last)


def _cut(
    scan: PhaseArrays, start: NDArray[np.int_], patch_vox: Vox, move: Move | None, outside: int
) -> tuple[Tensor, Tensor, Tensor]:
    """HU (d, h, w) float32, channels (d, h, w) int64 and where they were looked at (d, h, w) bool of a patch; only what
    it needs is read from the maps."""
    first, end = (start, start + patch_vox) if move is None else move.reach(start, patch_vox)
    hu = torch.from_numpy(_window(scan.hu, first, end, AIR_HU).astype(np.float32))
    channels = _window(scan.channels, first, end, outside)
    seen = None if scan.reviewed is None else _window(scan.reviewed, first, end, False)
    if move is None:
        whole = torch.from_numpy(channels.astype(np.int64))
        return hu, whole, torch.ones_like(whole, dtype=torch.bool) if seen is None else torch.from_numpy(seen.copy())
    d, h, w = (int(n) for n in end - first)
    grid = move.grid(start, patch_vox, first, (d, h, w))
    picked = moved(torch.from_numpy(channels.astype(np.float32)), grid, "nearest")
    looked = (
        torch.ones_like(picked) if seen is None else moved(torch.from_numpy(seen.astype(np.float32)), grid, "nearest")
    )
    return moved(hu, grid, "bilinear"), picked.round().long(), looked > 0.5


def _window(data: NDArray, first: NDArray[np.int_], end: NDArray[np.int_], outside: float) -> NDArray:
    """``data[first:end]``, with `outside` where that reaches beyond it."""
    low, high = np.clip(first, 0, data.shape), np.clip(end, 0, data.shape)
    inner = data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    pad = [(int(a), int(b)) for a, b in zip(low - first, end - high, strict=True)]
    return np.pad(inner, pad, constant_values=outside) if any(map(any, pad)) else np.asarray(inner)
