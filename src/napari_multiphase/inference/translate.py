"""Translate one phase of a study into the other: a synthetic image on the grid of the scan it is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_multiphase.config import Traits, TranslateOptions
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.inference.device import remember_speed
from napari_multiphase.inference.inputs import network_images, synthetic_words
from napari_multiphase.inference.memory import PeakMemory
from napari_multiphase.inference.progress import Clock
from napari_multiphase.inference.report import common_report
from napari_multiphase.inference.room import in_words
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.translation_plan import PreparedTranslation, prepare_translation, speed_name
from napari_multiphase.inference.translation_run import TranslationRun
from napari_multiphase.methods import method
from napari_multiphase.model import Model
from napari_multiphase.study import Study, Translation
from napari_multiphase.volume import Phase


def translate(
    study: Study,
    model: Model,
    to: Phase,
    options: TranslateOptions | None = None,
    *,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
    scratch: Path | None = None,
) -> Translation:
    """The scan of phase ``to.other`` as `model` makes it look in phase `to`, (D, H, W) int16 HU on that scan's grid.

    The network sees the scan at the model's spacing, clipped to the model's HU window. Beyond the window it cannot
    follow: air and dense bone stay as they were (see `imaging.windows.translated_hu`), and outside the body everything
    does. Run in tiles or in one piece, the image is the same to within 1 HU: layers that normalise by instance take
    their statistics from the whole scan, and context around each tile is cut off.

    Parameters
    ----------
    scratch : folder for the result, which is then memory-mapped; in memory without it.

    Raises
    ------
    UserError : the model does not translate, the scan is missing, the device is not there, or memory does not suffice.
    Cancelled : between two tiles; nothing is left in `scratch`.
    """
    options, cancel, clock, memory = options or TranslateOptions(), cancel or Cancel(), Clock(), PeakMemory()
    on_event(Event("started", "planning", fraction=0.0))
    with clock("plan"):
        prepared = prepare_translation(model, study, to, options)
    warnings = list[str]()

    def listen(event: Event) -> None:
        if event.kind == "warning":
            warnings.append(event.message)
        on_event(event)

    for note in prepared.notes:
        on_event(Event("warning", note))
    cancel.check()
    settings, volume = prepared.settings, study.volumes[to.other]
    with clock("load"):
        translator = method(model.card.method).load_translator(model, settings.device)
    with in_words():
        with clock("resample"):
            scan = _scan(study, to, prepared, model)
        with clock("translate"):
            run = TranslationRun(translator, to, scan, volume.data, prepared.cost, listen, cancel, scratch)
            image, settings = run(settings)
    tiles, seconds = run.ran
    if tiles:
        speed = settings.tiles.seen_vox / max(seconds, 1e-3)
        remember_speed(settings.device, settings.precision, speed_name(model.card, to), speed)
    notes = (*_notes(to, model), *synthetic_words(study, [to.other]), *prepared.notes, *warnings)
    report = _report(study, to, model, options, prepared, run.passes, clock.seconds, memory.peak_mb(), notes)
    on_event(Event("progress", "translated", fraction=1.0, remaining_s=0.0))
    return Translation(study.id, model.card.name, to.other, image, notes, report)


def _scan(study: Study, to: Phase, prepared: PreparedTranslation, model: Model) -> Scan:
    grid = prepared.plan.grid
    images = network_images(study, to.other, grid, Traits())
    own = study.volumes[to.other].grid
    return Scan(f"synthetic {to}", images, grid, own, prepared.body, model.card.window_hu, ())


def _notes(to: Phase, model: Model) -> tuple[str, ...]:
    low, high = model.card.window_hu
    made = (
        f"the {to} image is synthetic: a model made it from the {to.other} scan, and it shows no real contrast medium"
    )
    window = f"the model sees {low:g} to {high:g} HU: beyond, and outside the body, the {to.other} scan's own HU stand"
    phantoms = "this model was trained on phantoms only: check every result"
    return (made, window, *([phantoms] if model.card.phantoms_only else []))


def _report(
    study: Study,
    to: Phase,
    model: Model,
    options: TranslateOptions,
    prepared: PreparedTranslation,
    passes: int,
    seconds: dict[str, float],
    peak_mb: float,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """The body of the report."""
    common = common_report(study, (to.other,), model, options, prepared.plan, seconds, peak_mb, notes)
    return {**common, "synthetic": to.value, "window_hu": list(model.card.window_hu), "statistics_passes": passes}
