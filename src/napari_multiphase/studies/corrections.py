"""From corrected studies to cases that can be learned from: a case list with copies of the labels that nothing changes.

What a person reviewed counts, and everything about a structure that is complete; what the rest teaches is the caller's
choice (`imaging.training_labels`). Scans stay where they are; DICOM series are written beside the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.imaging.training_labels import Unreviewed, near_mistakes, training_labels
from napari_multiphase.io.atomic import atomic_new_folder
from napari_multiphase.io.images import write_on_source
from napari_multiphase.io.models import find_model
from napari_multiphase.io.transforms import write_transform
from napari_multiphase.labels import BACKGROUND, STRUCTURES, name_of
from napari_multiphase.studies.annotation import Annotation
from napari_multiphase.studies.predictions import describe, read_prediction
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import PhasePrediction, PhaseTransform
from napari_multiphase.volume import Phase, Volume

LIST_FILE = "cases.yaml"
FRINGE_ML = 0.2
"""Less than that changed of a structure in a case is the fringe of what was corrected beside it."""


def write_cases(
    workspaces: Sequence[Workspace],
    folder: Path,
    unreviewed: Unreviewed = "sure",
    *,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> Path:
    """Write the case list ``cases.yaml`` (docs/datasets.md) into `folder`, which must be new, and return its path.

    A phase that nobody corrected is listed without labels. Appears whole or not at all.

    Parameters
    ----------
    unreviewed : what voxels that nobody looked at teach: "sure", the prediction where it is sure and nothing elsewhere;
        "unknown" (254), that none of the complete structures is there; "ignore" (255), nothing.

    Raises
    ------
    UserError : `folder` exists, a scan or an annotation cannot be read, or nothing was corrected in a study.
    """
    folder = Path(folder).expanduser().resolve()
    if folder.exists():
        raise UserError(f"{folder} exists already, and cases are never written over others: name a new folder")
    if not workspaces:
        raise UserError("there is no study to write cases of: name at least one")
    names = _names(workspaces)
    entries = []
    with atomic_new_folder(folder) as part:
        for number, (workspace, name) in enumerate(zip(workspaces, names, strict=True)):
            (cancel or Cancel()).check()
            on_event(Event("progress", f"writing case {name}", number / len(workspaces)))
            entries.append(_case(workspace, name, part, unreviewed))
        head = f"# Corrected studies; voxels that nobody reviewed: {unreviewed}.\n"
        text = yaml.safe_dump({"cases": entries}, sort_keys=False, width=110, allow_unicode=True)
        (part / LIST_FILE).write_text(head + text, encoding="utf-8")
    return folder / LIST_FILE


@dataclass(frozen=True)
class _Corrected:
    """One phase's labels to learn from."""

    labels: NDArray[np.uint8]
    reviewed: NDArray[np.bool_]
    told: frozenset[int]
    complete: frozenset[int]
    changed: NDArray[np.floating[Any]] | None
    """(2, 256), ml by label: changed to it or from it, predicted; None where the prediction is gone."""


def _names(workspaces: Sequence[Workspace]) -> list[str]:
    """The studies' folder names, with their ids where two are alike."""
    plain = [workspace.folder.name for workspace in workspaces]
    if len({workspace.id for workspace in workspaces}) < len(workspaces):
        raise UserError("one study is named twice: name each once")
    return [n if plain.count(n) == 1 else f"{n}-{w.id}" for n, w in zip(plain, workspaces, strict=True)]


def _case(workspace: Workspace, name: str, folder: Path, unreviewed: Unreviewed) -> dict[str, Any]:
    """The list's entry of one study, its files written into `folder`/`name`."""
    place = folder / name
    place.mkdir()
    study = workspace.study()
    corrected = {
        phase: found
        for phase, volume in study.volumes.items()
        if (found := _corrected(workspace, phase, volume, unreviewed)) is not None
    }
    if not corrected:
        raise UserError(
            f"nothing was reviewed in study {name} and no structure is complete: correct it, or leave it out"
        )
    entry: dict[str, Any] = {"id": name, "patient": workspace.id}
    for phase, volume in study.volumes.items():
        entry[phase.value] = {"image": _image(volume, place, phase)}
        if phase in corrected:
            entry[phase.value] |= _label_files(corrected[phase], volume, place, phase)
    complete = frozenset.intersection(*(found.complete for found in corrected.values()))
    told = frozenset.intersection(*(found.told for found in corrected.values()))
    entry["annotated"] = [name_of(label) for label in sorted(complete)]
    entry["told"] = [name_of(label) for label in sorted(told - complete)]
    counts = [found.changed for found in corrected.values() if found.changed is not None]
    if len(counts) == len(corrected):
        changed, before = np.sum(counts, 0)
        shares = np.where(changed < FRINGE_ML, 0, np.minimum(changed / np.maximum(before, FRINGE_ML), 1))
        entry["changed"] = {name_of(label): round(float(shares[label]), 5) for label in sorted(told)}
    if study.transform is not None:
        rigid = PhaseTransform.from_dict(study.transform.to_dict())  # training is rigid
        kept = write_transform(place / "registration", rigid)[0]
        entry["transform"] = kept.relative_to(folder).as_posix()
    return entry


def _image(volume: Volume, place: Path, phase: Phase) -> str:
    """Where the scan lies; a DICOM series is written, since a case list names files."""
    if volume.source.format != "dicom":
        return str(Path(volume.source.path).resolve())
    path = place / f"{phase.value}.nii.gz"
    write_on_source(path, volume.data, volume, kind="image")
    return path.relative_to(place.parent).as_posix()


def _label_files(found: _Corrected, volume: Volume, place: Path, phase: Phase) -> dict[str, str]:
    files = {"labels": place / f"{phase.value}_labels.nii.gz"}
    write_on_source(files["labels"], found.labels, volume, kind="labels")
    if not found.reviewed.all():
        files["reviewed"] = place / f"{phase.value}_reviewed.nii.gz"
        write_on_source(files["reviewed"], found.reviewed.astype(np.uint8), volume, kind="labels")
    return {kind: path.relative_to(place.parent).as_posix() for kind, path in files.items()}


def _corrected(workspace: Workspace, phase: Phase, volume: Volume, unreviewed: Unreviewed) -> _Corrected | None:
    """What a phase's annotation teaches; None where nobody corrected it."""
    if phase not in workspace.annotations:
        return None
    with Annotation.open(workspace.annotation_file(phase)) as annotation:
        labels, reviewed = annotation.labels(), annotation.reviewed()
        states, model, grid = dict(annotation.states), annotation.model, annotation.grid
    if not grid.matches(volume.grid):
        raise UserError(
            f"the {phase} labels of {workspace.folder} lie on another grid than the scan: bring the scan back"
        )
    left_out = frozenset(label for label, state in states.items() if state == "not annotated")
    complete = frozenset(label for label, state in states.items() if state == "complete")
    if not complete and not reviewed.any():
        return None
    told = (_structures(workspace, model) | states.keys()) - left_out & STRUCTURES.keys()
    whole = bool(complete) and complete == states.keys() - left_out
    complete = told if whole else complete & STRUCTURES.keys()
    began = _prediction(workspace, phase, model, volume)
    confidence, doubted, changed = None, None, None
    if began is not None:
        changed = volume.grid.voxel_ml * _changes(labels, began.labels)
        if not whole and unreviewed == "sure":
            confidence, doubted = began.confidence, near_mistakes(labels, reviewed, began.labels, volume.spacing_mm)
    taught = training_labels(
        labels, reviewed, complete, confidence, unreviewed, left_out=left_out, doubted=doubted, whole=whole
    )
    looked_at = reviewed | np.isin(labels, sorted(complete)) | whole
    return _Corrected(taught, looked_at, frozenset(told), frozenset(complete), changed)


def _changes(labels: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int_]:
    """What `_Corrected.changed` says, in voxels."""
    other = labels != predicted
    seen = (labels[other], predicted[other], predicted.ravel())
    to, of, before = (np.bincount(values, minlength=256) for values in seen)
    return np.stack([to + of, before])


def _structures(workspace: Workspace, model: str) -> frozenset[int]:
    """What a model's labels tell apart, as its kept predictions say, for it need not be installed any more; else its
    card; nothing where both are gone."""
    for entry in reversed(workspace.predictions):
        with suppress(UserError, KeyError, TypeError):
            if entry.model == model:
                labels = describe(workspace.resolve(entry.folder))["report"]["model"]["labels"]
                return frozenset(labels) & STRUCTURES.keys()
    try:
        return frozenset(find_model(model).card.labels) - {BACKGROUND} if model else frozenset()
    except UserError:
        return frozenset()


def _prediction(workspace: Workspace, phase: Phase, model: str, volume: Volume) -> PhasePrediction | None:
    """What the newest kept prediction by `model` says of a phase; None where there is none."""
    for entry in reversed(workspace.predictions):
        kept = workspace.resolve(entry.folder)
        if entry.model != model:
            continue
        try:
            if phase.value not in describe(kept)["phases"]:
                continue
            found = read_prediction(kept).phases[phase]
        except (UserError, KeyError):
            continue
        if found.labels.shape == volume.shape:
            return found
    return None
