"""The job functions: what the worker, the parser child and the command line run, each with the same arguments.

A heavy room is imported inside the function that needs it, so that the parser never loads torch. Arguments and results
are the objects themselves; `codec` takes them across where the caller is another process.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_multiphase.config import RegisterOptions, SegmentOptions, TranslateOptions
from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.jobs.correcting import CORRECTING_TASKS
from napari_multiphase.jobs.keeping import KEEPING_TASKS
from napari_multiphase.jobs.server import Context
from napari_multiphase.jobs.sharing import SHARING_TASKS
from napari_multiphase.jobs.training_tasks import TRAINING_TASKS
from napari_multiphase.jobs.translating import TRANSLATION_TASKS
from napari_multiphase.jobs.window import WINDOW_TASKS
from napari_multiphase.model import Model
from napari_multiphase.study import PhaseTransform, Prediction, Study, Translation
from napari_multiphase.volume import Phase, Volume

if TYPE_CHECKING:
    from napari_multiphase.phantom import PhantomStudy
    from napari_multiphase.studies import Scan


def scan(context: Context, inputs: Sequence[Path]) -> list[Scan]:
    """Everything found in files, folders or zips; what can be opened with its guessed phase."""
    from napari_multiphase.studies import Loader, find_scans, recognise_scans

    loader = Loader()
    found = find_scans(inputs, loader=loader, on_event=context.on_event, cancel=context.cancel)
    return recognise_scans(found, loader=loader, on_event=context.on_event, cancel=context.cancel)


def open_study(
    context: Context,
    inputs: Sequence[Path],
    scans: Sequence[Scan] = (),
    chosen: Mapping[Phase, Scan] | None = None,
    *,
    arterial: Path | None = None,
    venous: Path | None = None,
) -> Study:
    """A study from `inputs`: the scans `chosen` from those found before, or roles by recognition, or as named."""
    from napari_multiphase.studies import open_study as run

    if chosen:
        return _from_chosen(context, chosen)
    return run(inputs, arterial=arterial, venous=venous, on_event=context.on_event, cancel=context.cancel)


def _from_chosen(context: Context, chosen: Mapping[Phase, Scan]) -> Study:
    from napari_multiphase.studies import Loader, build_study

    loader, volumes, guesses = Loader(), {}, {}
    for number, (phase, scan) in enumerate(chosen.items()):
        context.cancel.check()
        context.on_event(Event("progress", f"reading {scan.title}", number / (len(chosen) + 1)))
        if scan.problems:
            raise UserError(scan.problems[0])
        volumes[phase] = loader.load(scan)
        # A scan that the user gave another role than it looks like has no reason for that role.
        if scan.guess is not None and scan.guess.phase is phase:
            guesses[phase] = scan.guess
    context.on_event(Event("progress", "checking how the scans fit", len(chosen) / (len(chosen) + 1)))
    return build_study(volumes, guesses)


def sample(context: Context, out: Path, spec: Mapping[str, Any], format: str = "nifti") -> list[Path]:
    """Make a phantom by `spec` (fields of `PhantomSpec`, or with "atlas" of `AtlasSpec`) and write it; the files."""
    from napari_multiphase.phantom import AtlasSpec, PhantomSpec, make_atlas_phantom, make_phantom, write_sample

    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    values |= {key: Path(values[key]) for key in ("atlas", "names") if key in values}
    checked = AtlasSpec(**values) if "atlas" in values else PhantomSpec(**values)
    if format == "dicom" and Path(out).is_dir() and any(Path(out).iterdir()):
        raise UserError(f"{out}: holds files already; choose a new or empty folder for DICOM")
    context.on_event(Event("progress", "making the phantom", 0.0))
    study = make_atlas_phantom(checked) if isinstance(checked, AtlasSpec) else make_phantom(checked)
    context.cancel.check()
    context.on_event(Event("progress", "writing", 0.8))
    return _write_dicom(study, Path(out)) if format == "dicom" else list(write_sample(study, Path(out)))


def _write_dicom(study: PhantomStudy, out: Path) -> list[Path]:
    """Two CT series of one patient in one frame of reference, a subfolder each."""
    from napari_multiphase.io.atomic import atomic_folder
    from napari_multiphase.io.dicom import series_uids, write_series

    patient = f"PHANTOM-{study.spec.seed}-{study.spec.pathology}"
    study_uid, frame_uid = series_uids(repr(study.spec))
    with atomic_folder(out) as part:
        for phase, volume in study.volumes.items():
            write_series(
                part / phase,
                volume,
                phase=phase,
                patient_id=patient,
                study_uid=study_uid,
                frame_of_reference_uid=frame_uid,
            )
    return sorted(out.rglob("*.dcm"))


def plan(
    context: Context, study: Study, model: Model | str | None = None, options: SegmentOptions | None = None
) -> Any:
    """What segmenting `study` would take: device, tiles, memory, seconds; JSON types."""
    from napari_multiphase.inference.plan import make_plan

    made = make_plan(_model(model), study, options or SegmentOptions())
    return made.to_dict()


def register(
    context: Context,
    study: Study,
    options: RegisterOptions | None = None,
    arterial_labels: Path | Volume | None = None,
    venous_labels: Path | Volume | None = None,
) -> PhaseTransform:
    """The map between the phases, with its quality figures; with label maps of both also how these meet ("labels")."""
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.registration.output import compare_labels
    from napari_multiphase.registration.register import register as run

    if len(study.phases) < 2:
        raise UserError(f"only the {study.phases[0]} scan is there: open the {study.phases[0].other} one as well")
    venous, arterial = study.volumes[Phase.VENOUS], study.volumes[Phase.ARTERIAL]
    given = [v if isinstance(v, Volume) else read_labels(Path(v)) for v in (arterial_labels, venous_labels) if v]
    found = run(venous, arterial, options, on_event=context.on_event, cancel=context.cancel)
    if len(given) < 2:
        return found
    context.on_event(Event("progress", "comparing labels before and after"))
    return replace(found, quality={**found.quality, "labels": compare_labels(found, *given)})


def save_registration(context: Context, study: Study, out: Path, fixed: Phase = Phase.VENOUS) -> list[Path]:
    """Write the study's transform, its inverse, its report and the moved scan, all of them or none."""
    from napari_multiphase.registration.output import save_registration as run

    context.on_event(Event("progress", "writing"))
    return run(study, study.transform or PhaseTransform.identity(), Path(out), Phase(fixed))


def carry_file(context: Context, file: Path, through: Path, to: Phase, out: Path, onto: Path | None = None) -> str:
    """Carry a label map, an image or points (.csv) of the other phase to `to`; a sentence about what was written."""
    from napari_multiphase.registration.carry import carry_image, carry_points

    context.on_event(Event("progress", "carrying"))
    if Path(file).suffix.lower() == ".csv":
        return carry_points(Path(file), Path(through), Phase(to), Path(out))
    return carry_image(Path(file), Path(through), Phase(to), Path(out), onto)


def keep(context: Context, study: Study, folder: Path | None = None) -> Path:
    """Write the study and its transform into its workspace (the default one unless `folder`); returns its folder."""
    from napari_multiphase.studies import keep as run

    return run(study, folder).folder


def segment(
    context: Context, study: Study, model: Model | str | None = None, options: SegmentOptions | None = None
) -> Prediction:
    """Segment and fuse; intermediate arrays lie in the job's scratch folder."""
    from napari_multiphase.inference.segment import segment as run

    _check_room(context.scratch, _SCRATCH_BYTES * sum(volume.data.size for volume in study.volumes.values()))
    return run(
        study,
        _model(model),
        options or SegmentOptions(),
        on_event=context.on_event,
        cancel=context.cancel,
        scratch=context.scratch,
    )


_SCRATCH_BYTES = 8
"""Per voxel: labels, confidence, two classes and their probabilities, fused labels and confidence."""


_IMAGE_BYTES = 2
"""Per voxel of a translated image."""


def _check_room(scratch: Path, needed: int) -> None:
    """Intermediate files are mapped, and a mapped page that finds the disk full ends the process without a word."""
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < needed:
        raise UserError(
            f"{scratch.parent}: {needed / 1e9:.1f} GB are needed for intermediate files and {free / 1e9:.1f} GB are "
            "free; free some space, or set MULTIPHASE_SCRATCH to a folder on a larger disk"
        )


def plan_translation(
    context: Context,
    study: Study,
    to: Phase,
    model: Model | str | None = None,
    options: TranslateOptions | None = None,
) -> Any:
    """What translating to phase `to` would take: device, tiles, passes, memory, seconds; JSON types."""
    from napari_multiphase.inference.translation_plan import make_translation_plan

    return make_translation_plan(_translator(model), study, Phase(to), options).to_dict()


def translate(
    context: Context,
    study: Study,
    to: Phase,
    model: Model | str | None = None,
    options: TranslateOptions | None = None,
) -> Translation:
    """A synthetic image of phase `to`; it lies in the job's scratch folder."""
    from napari_multiphase.inference.translate import translate as run

    to = Phase(to)
    _check_room(context.scratch, _IMAGE_BYTES * sum(v.data.size for p, v in study.volumes.items() if p is to.other))
    return run(
        study,
        _translator(model),
        to,
        options,
        on_event=context.on_event,
        cancel=context.cancel,
        scratch=context.scratch,
    )


def save_translation(context: Context, translation: Translation, study: Study, out: Path) -> list[Path]:
    """Write the files of a translation, all of them or none."""
    from napari_multiphase.inference.save import save_translation as run

    return list(run(translation, study, Path(out)))


def fuse(context: Context, prediction: Prediction, study: Study, phase_weight: float) -> Prediction:
    """The same prediction, fused anew with another weight of the arterial phase or another transform. No network."""
    from napari_multiphase.inference.inputs import fused_words, transform_of
    from napari_multiphase.inference.report import structures
    from napari_multiphase.inference.segment import fuse_phases

    if len(prediction.phases) < 2:
        raise UserError("only one phase was segmented, so there is nothing to fuse: open the other phase as well")
    if prediction.one_map:
        raise UserError(
            f"the model '{prediction.model_name}' reads both phases at once and gives one result: there is nothing to "
            "fuse; choose a model that segments each phase to weigh one against the other"
        )
    context.on_event(Event("progress", "fusing", 0.0))
    phases, home = prediction.phases, prediction.fused_on
    _, labels, confidence = fuse_phases(study, phases, phase_weight, context.cancel, home)
    report = dict(prediction.report)
    report["options"] = {**report.get("options", {}), "phase_weight": phase_weight}
    report["transform"] = transform_of(study).to_dict()
    notes = tuple(fused_words(study) if note.startswith("the phases were ") else note for note in prediction.notes)
    report["structures"] = structures(study, phases, (home, labels, confidence))
    return replace(
        prediction,
        fused_labels=labels,
        fused_confidence=confidence,
        phase_weight=phase_weight,
        notes=notes,
        report=report,
    )


def save(
    context: Context,
    prediction: Prediction,
    study: Study,
    out: Path,
    format: Literal["nifti", "dicom-seg"] = "nifti",
) -> list[Path]:
    """Write the files of a prediction, all of them or none."""
    from napari_multiphase.inference.save import save_prediction

    return list(save_prediction(prediction, study, Path(out), format=format))


def evaluate(
    context: Context, prediction: Path | Volume, reference: Path | Volume, resample: bool = False
) -> list[dict[str, Any]]:
    """The figures of every structure, one row each; JSON types."""
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.metrics import evaluate as compare

    maps = [v if isinstance(v, Volume) else read_labels(Path(v)) for v in (prediction, reference)]
    context.cancel.check()
    return [row.to_dict() for row in compare(*maps, resample=resample)]


def warm(context: Context) -> None:
    """Load what the first Segment needs (torch, the engine), so that it starts at once."""
    import napari_multiphase.inference.segment
    import napari_multiphase.methods  # noqa: F401

    gc.collect()
    gc.freeze()  # what was loaded stays: the search for garbage after each job passes it over


def warm_parser(context: Context) -> None:
    """Load what the next Open or Correct needs: a second of CPU."""
    import napari_multiphase.studies.annotation
    import napari_multiphase.studies.open  # noqa: F401


def _model(model: Model | str | None) -> Model:
    if isinstance(model, Model):
        return model
    from napari_multiphase.io.models import find_model

    return find_model(model)


def _translator(model: Model | str | None) -> Model:
    if isinstance(model, Model):
        return model
    from napari_multiphase.io.models import find_translator

    return find_translator(model)


TASKS: dict[str, Callable[..., Any]] = {
    "sample": sample,
    "scan": scan,
    "open": open_study,
    "plan": plan,
    "register": register,
    "save_registration": save_registration,
    "carry_file": carry_file,
    "keep": keep,
    "segment": segment,
    "plan_translation": plan_translation,
    "translate": translate,
    "save_translation": save_translation,
    "fuse": fuse,
    "save": save,
    "evaluate": evaluate,
    "warm": warm,
    "warm_parser": warm_parser,
}
TASKS.update(WINDOW_TASKS)
TASKS.update(KEEPING_TASKS)
TASKS.update(CORRECTING_TASKS)
TASKS.update(TRANSLATION_TASKS)
TASKS.update(TRAINING_TASKS)
TASKS.update(SHARING_TASKS)
