"""Segment a study: every phase by itself, then both fused on the venous grid."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.imaging.fusion import carry, fuse
from napari_multiphase.imaging.resample import resample
from napari_multiphase.inference.device import remember_speed
from napari_multiphase.inference.engine import Scan, Settings, predict
from napari_multiphase.inference.memory import PeakMemory
from napari_multiphase.inference.plan import Prepared, prepare
from napari_multiphase.inference.report import make_report
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Segmentor
from napari_multiphase.model import Model
from napari_multiphase.study import PhasePrediction, PhaseTransform, Prediction, Study
from napari_multiphase.volume import Grid, Phase

FUSED_SHARE = 0.03
"""Share of the progress that fusing and measuring take."""


def segment(
    study: Study,
    model: Model,
    options: SegmentOptions | None = None,
    *,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
    scratch: Path | None = None,
) -> Prediction:
    """Labels and confidence of every phase, and the fused result on the venous grid (or the only phase's).

    Phases are related by ``study.transform``; without one they are taken to lie in one space, and a note says so. One
    phase alone works: fused is that phase.

    Parameters
    ----------
    scratch : folder for the per-phase arrays, which are then memory-mapped; in memory without it.

    Raises
    ------
    UserError : the model does not fit the study, the device is not there, or memory does not suffice.
    Cancelled : between two tiles; nothing is left in `scratch`.
    """
    options, cancel, clock, memory = options or SegmentOptions(), cancel or Cancel(), _Clock(), PeakMemory()
    on_event(Event("started", "planning", fraction=0.0))
    with clock("plan"):
        prepared = prepare(model, study, options)
    for note in prepared.notes:
        on_event(Event("warning", note))
    cancel.check()
    with clock("load"):
        segmentor = method(model.card.method).load(model, prepared.settings.device)
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if event.kind == "warning":
            warnings.append(event.message)
        on_event(event)

    with _in_words():
        phases, written = {}, []
        try:
            for phase, result in _predict(study, model, segmentor, prepared, listen, cancel, scratch, clock):
                phases[phase] = result
                written.append(phase)
            on_event(Event("progress", "fusing", fraction=1 - FUSED_SHARE))
            with clock("fuse"):
                grid, labels, confidence = fuse_phases(study, phases, options.phase_weight, cancel)
        except BaseException:
            phases.clear()
            _forget(scratch, written)
            raise
    notes = (*_notes(study, model, phases), *prepared.notes, *warnings)
    fused = (labels, confidence)
    report = make_report(study, model, options, prepared.plan, phases, fused, clock.seconds, memory.peak_mb(), notes)
    on_event(Event("progress", "segmented", fraction=1.0, remaining_s=0.0))
    return Prediction(study.id, model.card.name, phases, labels, confidence, grid, options.phase_weight, notes, report)


def _predict(
    study: Study,
    model: Model,
    segmentor: Segmentor,
    prepared: Prepared,
    on_event: OnEvent,
    cancel: Cancel,
    scratch: Path | None,
    clock: _Clock,
) -> Iterator[tuple[Phase, PhasePrediction]]:
    """Each phase in turn. Settings that had to step down stay down for the next phase."""
    settings = replace(prepared.settings, divisor=segmentor.divisor)
    progress = _Progress(on_event, prepared.plan.tiles)
    for phase, phase_plan in prepared.plan.phases.items():
        volume, grid = study.volumes[phase], phase_plan.grid
        with clock(f"resample {phase}"):
            data = resample(volume.data, volume.grid, grid, order=1) if phase_plan.resampled else volume.data
        card = model.card
        scan = Scan(phase.value, data, grid, volume.grid, prepared.bodies[phase], card.window_hu, card.labels)
        began = time.perf_counter()
        with clock(f"segment {phase}"):
            result, settings = predict(
                partial(segmentor.logits, phase),
                scan,
                settings,
                on_event=on_event,
                on_tiles=partial(progress, phase, phase_plan.tiles),
                cancel=cancel,
                scratch=scratch,
            )
        progress.phase_done(phase_plan.tiles)
        _measure(phase_plan.tiles, prepared.settings, model, time.perf_counter() - began)
        yield phase, result


def _measure(tiles: int, settings: Settings, model: Model, seconds: float) -> None:
    voxels = tiles * int(np.prod(settings.tile))
    if voxels:
        remember_speed(settings.device, settings.precision, model.card.name, voxels / max(seconds, 1e-3))


def fuse_phases(
    study: Study, phases: Mapping[Phase, PhasePrediction], phase_weight: float, cancel: Cancel | None = None
) -> tuple[Grid, NDArray[np.uint8], NDArray[np.uint8]]:
    """Fused labels and confidence, with their grid: the venous one, or that of the only phase.

    `phase_weight` 0 is the venous result itself and one phase alone is that phase, confidence included; else see
    `imaging.fusion`. Runs no network.
    """
    cancel = cancel or Cancel()
    home = Phase.VENOUS if Phase.VENOUS in phases else next(iter(phases))
    grid, alone = study.volumes[home].grid, phases[home]
    if len(phases) == 1 or phase_weight == 0.0:
        return grid, np.array(alone.labels), np.array(alone.confidence)
    other = phases[home.other].two_best
    matrix = (study.transform or PhaseTransform.identity()).venous_to_arterial_mm
    labels, confidence = np.empty(grid.shape, np.uint8), np.empty(grid.shape, np.uint8)
    step = max(1, 4_000_000 // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        cancel.check()
        rows = slice(start, min(start + step, grid.shape[0]))
        arterial = carry(other, study.volumes[home.other].grid, grid, matrix, rows)
        venous = carry(alone.two_best, grid, grid, np.eye(4), rows)
        labels[rows], confidence[rows] = fuse(arterial, venous, phase_weight)
    return grid, labels, confidence


def _notes(study: Study, model: Model, phases: Mapping[Phase, PhasePrediction]) -> Iterator[str]:
    """What the user should know about this result."""
    if len(study.phases) == 1:
        only = study.phases[0]
        yield f"the {only.other} scan is missing: the fused result is the {only} one"
    if len(phases) == 2:
        if study.transform is None or study.transform.method == "identity":
            yield "the phases were not registered: they are taken to lie in one space"
        else:
            yield f"the phases were aligned by a {study.transform.method} transform: organs that deform do not match"
    if model.card.phantoms_only:
        yield "this model was trained on phantoms only: check every result"


def _forget(scratch: Path | None, phases: list[Phase]) -> None:
    """Remove the files of phases that were complete when another one failed."""
    if scratch is None:
        return
    gc.collect()  # maps must be closed before their files can go (Windows)
    for phase in phases:
        for path in scratch.glob(f"{phase}_*.npy"):
            path.unlink(missing_ok=True)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{error or 'memory ran out'}; close other programs or crop the scan") from error
    except OSError as error:
        raise UserError(
            f"intermediate results cannot be written: {error.strerror or error}; free disk space"
        ) from error


class _Clock:
    """Seconds by stage: ``with clock("fuse"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - began, 3)


class _Progress:
    """Turns finished tiles into events: what, how far, how long."""

    def __init__(self, on_event: OnEvent, tiles: int) -> None:
        self._on_event, self._tiles = on_event, max(1, tiles)
        self._before = 0
        self._began = time.perf_counter()

    def __call__(self, phase: Phase, planned: int, done: int, of: int) -> None:
        """`done` of the `of` tiles of `phase`, for which `planned` were planned (a step down makes more of them)."""
        share = min(1.0, (self._before + planned * done / of) / self._tiles)
        elapsed = time.perf_counter() - self._began
        remaining = elapsed * (1 - share) / share if share else None
        fraction = share * (1 - FUSED_SHARE)
        self._on_event(Event("progress", f"{phase}, tile {done} of {of}", fraction, remaining))

    def phase_done(self, tiles: int) -> None:
        """The next phase starts."""
        self._before += tiles
