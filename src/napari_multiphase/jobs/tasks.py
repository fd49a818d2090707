"""The job functions: what the worker, the parser child and the command line run, each with the same arguments.

A heavy room is imported inside the function that needs it, so that the parser never loads torch. Arguments and results
are the objects themselves; `codec` takes them across where the caller is another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.jobs.server import Context
from napari_multiphase.model import Model
from napari_multiphase.study import PhaseTransform, Prediction, Study
from napari_multiphase.volume import Phase, Volume

if TYPE_CHECKING:
    from napari_multiphase.phantom import PhantomStudy


def scan(context: Context, inputs: Sequence[Path]) -> list[Any]:
    """The scans in files, folders or zips, each with its guessed phase (`studies.Scan`)."""
    from napari_multiphase.studies import find_scans

    return list(find_scans(inputs, on_event=context.on_event, cancel=context.cancel))


def open_study(
    context: Context, inputs: Sequence[Path], *, arterial: Path | None = None, venous: Path | None = None
) -> Study:
    """Read what `inputs` hold as a study: roles by recognition, or as said by `arterial` and `venous`."""
    from napari_multiphase.studies import open_study as run

    return run(inputs, arterial=arterial, venous=venous, on_event=context.on_event, cancel=context.cancel)


def sample(context: Context, out: Path, spec: Mapping[str, Any], format: str = "nifti") -> list[Path]:
    """Make a phantom by `spec` (fields of `PhantomSpec`) and write it; returns the files."""
    from napari_multiphase.phantom import PhantomSpec, make_phantom, write_sample

    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    checked = PhantomSpec(**values)
    context.on_event(Event("progress", "making the phantom", 0.0))
    study = make_phantom(checked)
    context.cancel.check()
    context.on_event(Event("progress", "writing", 0.8))
    return _write_dicom(study, Path(out)) if format == "dicom" else list(write_sample(study, Path(out)))


def _write_dicom(study: PhantomStudy, out: Path) -> list[Path]:
    """Two CT series of one patient in one frame of reference, a subfolder each; `out` must be new or empty."""
    from napari_multiphase.io.atomic import atomic_folder
    from napari_multiphase.io.dicom import series_uids, write_series

    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: holds files already; choose a new or empty folder for DICOM")
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


def register(context: Context, study: Study) -> PhaseTransform:
    """The rigid transform between the phases, with its quality figures."""
    from napari_multiphase.registration.rigid import register_rigid

    venous, arterial = study.volumes[Phase.VENOUS], study.volumes[Phase.ARTERIAL]
    return register_rigid(venous, arterial, on_event=context.on_event, cancel=context.cancel)


def segment(
    context: Context, study: Study, model: Model | str | None = None, options: SegmentOptions | None = None
) -> Prediction:
    """Segment and fuse; intermediate arrays lie in the job's scratch folder."""
    from napari_multiphase.inference.segment import segment as run

    return run(
        study,
        _model(model),
        options or SegmentOptions(),
        on_event=context.on_event,
        cancel=context.cancel,
        scratch=context.scratch,
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


def warm_parser(context: Context) -> None:
    """Load what the first Open needs."""
    import napari_multiphase.studies  # noqa: F401


def _model(model: Model | str | None) -> Model:
    if isinstance(model, Model):
        return model
    from napari_multiphase.io.models import find_model

    return find_model(model)


TASKS: Mapping[str, Callable[..., Any]] = {
    "sample": sample,
    "scan": scan,
    "open": open_study,
    "plan": plan,
    "register": register,
    "segment": segment,
    "save": save,
    "evaluate": evaluate,
    "warm": warm,
    "warm_parser": warm_parser,
}
