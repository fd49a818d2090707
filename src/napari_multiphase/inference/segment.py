"""Segment a study: every phase by itself and then both fused on the venous grid, or both phases at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import Rounds, SegmentOptions
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.imaging.fusion import carry, fuse
from napari_multiphase.inference.branches import with_branches
from napari_multiphase.inference.carrying import carry_to_arterial
from napari_multiphase.inference.device import remember_speed
from napari_multiphase.inference.engine import Settings
from napari_multiphase.inference.inputs import aligned_words, fused_words, make_scan, synthetic_words, transform_of
from napari_multiphase.inference.islands import without_islands
from napari_multiphase.inference.memory import PeakMemory
from napari_multiphase.inference.plan import PhasePlan, Prepared, prepare
from napari_multiphase.inference.progress import FUSED_SHARE, Clock, Progress
from napari_multiphase.inference.region import REGION
from napari_multiphase.inference.report import make_report
from napari_multiphase.inference.room import in_words
from napari_multiphase.inference.rounds import COARSE
from napari_multiphase.inference.runs import PassTiles, run_method
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Segmentor
from napari_multiphase.model import Model
from napari_multiphase.study import PhasePrediction, Prediction, Study
from napari_multiphase.volume import Phase


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
    phase alone works, unless the model reads both at once: fused is that phase. A model that reads both at once gives
    one result on the venous grid, which is the fused one too and is carried to the arterial grid.

    Parameters
    ----------
    scratch : folder for the per-phase arrays, which are then memory-mapped; in memory without it.

    Raises
    ------
    UserError : the model does not fit the study, the device is not there, or memory does not suffice.
    Cancelled : between two tiles; nothing is left in `scratch`.
    """
    options, cancel, clock, memory = options or SegmentOptions(), cancel or Cancel(), Clock(), PeakMemory()
    on_event(Event("started", "planning", fraction=0.0))
    with clock("plan"):
        model = with_branches(model, options)
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

    with in_words():
        phases, written = {}, []
        try:
            for phase, result in _predict(study, model, segmentor, prepared, listen, cancel, scratch, clock):
                phases[phase] = result
                written.append(phase)
            if prepared.plan.reads == "pair":
                on_event(Event("progress", "carrying to the arterial grid", fraction=1 - FUSED_SHARE))
                with clock("carry"):
                    carried = carry_to_arterial(study, phases[Phase.VENOUS], cancel, scratch)
                    phases = {Phase.ARTERIAL: carried, **phases}
                    written.append(Phase.ARTERIAL)
            on_event(Event("progress", "fusing", fraction=1 - FUSED_SHARE))
            with clock("fuse"):
                home, labels, confidence = fuse_phases(study, phases, options.phase_weight, cancel, options.fused_on)
        except BaseException:
            phases.clear()
            _forget(scratch, written)
            raise
    notes = (*_notes(study, model, phases, segmentor.traits.synthetic), *prepared.notes, *warnings)
    fused = (home, labels, confidence)
    report = make_report(study, model, options, prepared.plan, phases, fused, clock.seconds, memory.peak_mb(), notes)
    on_event(Event("progress", "segmented", fraction=1.0, remaining_s=0.0))
    grid, weight = study.volumes[home].grid, options.phase_weight
    return Prediction(study.id, model.card.name, phases, labels, confidence, grid, home, weight, notes, report)


def _predict(
    study: Study,
    model: Model,
    segmentor: Segmentor,
    prepared: Prepared,
    on_event: OnEvent,
    cancel: Cancel,
    scratch: Path | None,
    clock: Clock,
) -> Iterator[tuple[Phase, PhasePrediction]]:
    """Each result in turn. Settings that had to step down stay down for the next phase."""
    settings, card = prepared.settings, model.card
    progress = Progress(on_event, prepared.plan.tiles)
    for phase, phase_plan in prepared.plan.phases.items():
        with clock(f"resample {phase}"):
            scan = make_scan(study, phase, prepared, card, segmentor.traits)
        cancel.check()
        progress.begin_pass()
        with clock(f"segment {phase}"):
            result, settings = run_method(
                segmentor,
                phase,
                scan,
                settings,
                on_event=on_event,
                on_tiles=_tell(progress, phase_plan, segmentor.traits.rounds),
                cancel=cancel,
                scratch=scratch,
            )
        _measure(progress, scan.name, settings, model)
        if card.in_one_piece:
            with clock(f"islands {phase}"):
                result, left_out = without_islands(result, card.in_one_piece, scan.grid)
            if words := left_out.words(phase):
                on_event(Event("warning", words))
        yield phase, result


def _tell(progress: Progress, planned: PhasePlan, rounds: Rounds | None) -> PassTiles:
    later = planned.tiles / (1 if rounds is None else rounds.most)

    def tell(name: str, done: int, of: int) -> None:
        progress.tile(planned.region_tiles if name in (REGION, COARSE) else later, name, done, of)

    return tell


def _measure(progress: Progress, name: str, settings: Settings, model: Model) -> None:
    """Let the next plan know how fast this one was."""
    if name in progress.ran:
        tiles, seconds = progress.ran[name]
        voxels = tiles * sum(settings.looks_vox)
        remember_speed(settings.device, settings.precision, model.card.name, voxels / max(seconds, 1e-3))


def fuse_phases(
    study: Study,
    phases: Mapping[Phase, PhasePrediction],
    phase_weight: float,
    cancel: Cancel | None = None,
    on: Phase = Phase.VENOUS,
) -> tuple[Phase, NDArray[np.uint8], NDArray[np.uint8]]:
    """Fused labels and confidence on the grid of the scan of phase `on`, or of the only one; that phase first.

    `phase_weight` 0 is the venous result itself, 1 the arterial one; one phase alone is that phase, confidence
    included, as is the one result of a model that read both; else see `imaging.fusion`. Runs no network.
    """
    cancel = cancel or Cancel()
    cancel.check()
    home = on if on in phases else next(iter(phases))
    grid, alone = study.volumes[home].grid, phases[home]
    other = phases[home.other].two_best if home.other in phases else None
    own_alone = phase_weight == (1.0 if home is Phase.ARTERIAL else 0.0)
    if other is None or alone.two_best is None or own_alone:
        return home, np.array(alone.labels), np.array(alone.confidence)
    through, source = transform_of(study).into(home.other), study.volumes[home.other].grid
    labels, confidence = np.empty(grid.shape, np.uint8), np.empty(grid.shape, np.uint8)
    step = max(1, 4_000_000 // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        cancel.check()
        rows = slice(start, min(start + step, grid.shape[0]))
        best = {
            home: carry(alone.two_best, grid, grid, np.eye(4), rows),
            home.other: carry(other, source, grid, through, rows),
        }
        labels[rows], confidence[rows] = fuse(best[Phase.ARTERIAL], best[Phase.VENOUS], phase_weight)
    return home, labels, confidence


def _notes(study: Study, model: Model, phases: Mapping[Phase, PhasePrediction], synthetic: bool) -> Iterator[str]:
    """What the user should know about this result."""
    yield from synthetic_words(study, study.phases)
    if len(study.phases) == 1:
        only = study.phases[0]
        yield f"the {only.other} scan is missing: the fused result is the {only} one"
        if synthetic:
            yield f"the {only.other} segmentor saw a synthetic {only.other} image, made from the {only} scan"
    elif synthetic:
        yield "each scan was also segmented as a synthetic image of the other phase, and both results were fused"
    if len(phases) == 2:
        one_map = any(phase.two_best is None for phase in phases.values())
        if one_map:
            yield f"the model reads both phases at once; {aligned_words(study)}"
            yield "its one result lies on the venous grid and was carried to the arterial one"
        else:
            yield fused_words(study)
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
