"""What of a study is handed to others: the labels as they are now, where each came from, what a model said first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io.images import read_image, read_labels
from napari_multiphase.labels import BACKGROUND
from napari_multiphase.studies.annotation import Annotation, StructureState
from napari_multiphase.studies.open import build_study
from napari_multiphase.studies.predictions import read_prediction
from napari_multiphase.studies.scans import Loader, find_scans
from napari_multiphase.studies.study_file import STUDY_FILE
from napari_multiphase.studies.workspace import Workspace, recalled
from napari_multiphase.study import PhaseTransform, Prediction, Study
from napari_multiphase.volume import Phase, Volume

RESULTS_FILE = "report.json"
"""What `segment` leaves beside its label maps."""
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class SharedPhase:
    """The labels of one scan, each array (D, H, W) on its grid.

    Attributes
    ----------
    labels : uint8 as they are now; `corrected` says whether a person worked on them.
    states : by label id.
    reviewed : voxels that a person changed or looked at; None where nobody corrected.
    predicted, confidence : uint8, what the model said; None where none is kept.
    """

    labels: NDArray[np.uint8]
    corrected: bool = False
    states: Mapping[int, StructureState] = field(default_factory=dict)
    reviewed: NDArray[np.bool_] | None = None
    predicted: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Shared:
    """A study and its labels, ready to be written.

    Attributes
    ----------
    phases : at least one.
    fused : (phase, labels) of the model's fused result, on the grid of that phase's scan.
    model : JSON types: name, method, weights_sha256; empty where no model is known.
    notes : sentences of the run and about this export.
    folders : where it was gathered from, which may name the patient.
    """

    study: Study
    phases: Mapping[Phase, SharedPhase]
    fused: tuple[Phase, NDArray[np.uint8]] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def gather(folder: Path, *, on_event: OnEvent = ignore, cancel: Cancel | None = None) -> Shared:
    """What a workspace keeps (newest prediction, corrected labels), or what `segment` wrote into a folder.

    Raises
    ------
    UserError : it is neither, holds no labels, a file of it or a scan is gone, damaged or does not fit.
    """
    folder = Path(folder)
    if (folder / STUDY_FILE).is_file():
        workspace = Workspace.open(folder)
        study = workspace.study(on_event=on_event, cancel=cancel)
        kept = workspace.predictions
        found = of_prediction(study, read_prediction(workspace.resolve(kept[-1].folder))) if kept else Shared(study, {})
        found = with_corrections(found, workspace)
    elif (folder / RESULTS_FILE).is_file():
        found = _read_results(folder, _study_of(folder, on_event, cancel))
    else:
        raise UserError(
            f"{folder}: is neither a study's workspace ({STUDY_FILE}) nor a folder that `segment` wrote "
            f"({RESULTS_FILE}); name one of these"
        )
    if not found.phases:
        raise UserError(f"{folder}: holds no labels yet; segment the study first")
    return replace(found, folders=(folder.resolve(),))


def of_prediction(study: Study, prediction: Prediction) -> Shared:
    """What a model said of the scans as they are. Raises UserError where it lies on other grids."""
    for phase, result in prediction.phases.items():
        if phase not in study.volumes or study.volumes[phase].shape != result.labels.shape:
            raise UserError(f"the kept {phase} labels do not lie on the grid of the {phase} scan: segment it again")
    phases = {
        phase: SharedPhase(result.labels, predicted=result.labels, confidence=result.confidence)
        for phase, result in prediction.phases.items()
    }
    model = prediction.report.get("model") or {"name": prediction.model_name}
    return Shared(study, phases, (prediction.fused_on, prediction.fused_labels), model, prediction.notes)


def with_corrections(shared: Shared, workspace: Workspace) -> Shared:
    """The same with the labels that a person corrected in place of the predicted ones."""
    phases = dict(shared.phases)
    for phase in workspace.annotations:
        with Annotation.open(workspace.annotation_file(phase)) as annotation:
            volume = shared.study.volumes.get(phase)
            if volume is None or not annotation.grid.matches(volume.grid):
                raise UserError(
                    f"{workspace.folder}: the corrected {phase} labels do not lie on the grid of the scan; bring the "
                    "scan back that they were made on"
                )
            labels, reviewed = annotation.labels(), annotation.reviewed()
            states = dict(annotation.states)
        before = phases.get(phase)
        said = (before.predicted, before.confidence) if before else (None, None)
        phases[phase] = SharedPhase(labels, True, states, reviewed, *said)
    ordered = {phase: phases[phase] for phase in Phase if phase in phases}
    return replace(shared, phases=ordered, folders=(*shared.folders, workspace.folder))


def state_of(phase: SharedPhase, label: int) -> StructureState:
    """A structure's state; nobody said anything of one that a model found."""
    return phase.states.get(label, "predicted")


def ids_of(shared: Shared) -> list[int]:
    """Labels that occur in a scan, or have a state."""
    found: set[int] = set()
    for phase in shared.phases.values():
        found |= {int(i) for i in np.flatnonzero(np.bincount(phase.labels.ravel(), minlength=256))}
        found |= set(phase.states)
    return sorted(found - {BACKGROUND})


# --- what segment wrote ----------------------------------------------------------------------------------------------


def _read_results(folder: Path, study: Study) -> Shared:
    """Label and confidence maps of `folder`, which lie on the scans of `study`."""
    report = _report(folder) if (folder / RESULTS_FILE).is_file() else {}
    phases = {}
    for phase, volume in study.volumes.items():
        labels = _on(volume, folder / f"{phase}_labels.nii.gz", confidence=False)
        if labels is not None:
            confidence = _on(volume, folder / f"{phase}_confidence.nii.gz", confidence=True)
            phases[phase] = SharedPhase(labels, predicted=labels, confidence=confidence)
    home = Phase(str(report.get("options", {}).get("fused_on") or study.fused_phase))
    home = home if home in study.volumes else study.fused_phase
    fused = _on(study.volumes[home], folder / "fused_labels.nii.gz", confidence=False)
    notes = tuple(str(note) for note in report.get("notes", ()))
    return Shared(study, phases, None if fused is None else (home, fused), report.get("model", {}), notes, (folder,))


def _on(volume: Volume, path: Path, *, confidence: bool) -> NDArray[np.uint8] | None:
    """A map of `volume`'s scan as uint8 on its grid; None where there is no file."""
    if not path.is_file():
        return None
    read = read_image(path) if confidence else read_labels(path)
    if not read.grid.matches(volume.grid):
        raise UserError(f"{path}: does not lie on the grid of its scan {volume.source.path.name}; segment it again")
    return np.rint(read.data * 255).astype(np.uint8) if confidence else read.data.astype(np.uint8)


def _report(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS_FILE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict) or not isinstance(report.get("inputs"), dict):
            raise ValueError("no report")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged or of another program; segment the study again") from error
    return report


def _study_of(folder: Path, on_event: OnEvent, cancel: Cancel | None) -> Study:
    """The scans that a report names, known by their hash, and how they lay to each other."""
    report = _report(folder)
    try:
        inputs = {Phase(name): (Path(entry["path"]), str(entry["sha256"])) for name, entry in report["inputs"].items()}
        transform = PhaseTransform.from_dict(report["transform"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / RESULTS_FILE}: is damaged; segment the study again") from error
    loader, volumes = Loader(), {}
    for number, (phase, (path, sha256)) in enumerate(inputs.items()):
        on_event(Event("progress", f"reading the {phase} scan", 0.3 * number / len(inputs)))
        volumes[phase] = _scan(phase, path, sha256, loader, cancel)
    study = build_study(volumes)
    if len(study.phases) < 2:
        return study
    kept = recalled(study).transform
    return study.with_transform(kept if kept is not None and kept.method == transform.method else transform)


def _scan(phase: Phase, path: Path, sha256: str, loader: Loader, cancel: Cancel | None) -> Volume:
    if not path.exists():
        raise UserError(f"the {phase} scan {path} is gone: put it back, or segment again where it lies now")
    for scan in find_scans([path], loader=loader, cancel=cancel):
        if scan.usable and (volume := loader.load(scan)).source.sha256 == sha256:
            return volume
    raise UserError(f"{path} no longer holds the {phase} scan that was segmented: bring it back, or segment again")
