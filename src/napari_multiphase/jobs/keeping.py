"""Jobs that keep the user's work in the study's workspace, and bring it back. They run beside the worker's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.jobs.server import Context
from napari_multiphase.study import Prediction, Study
from napari_multiphase.volume import Phase


def begin_annotation(
    context: Context,
    study: Study,
    phase: Phase,
    folder: Path | None = None,
    labels: NDArray[np.uint8] | None = None,
    model: str = "",
) -> dict[str, Any]:
    """The file of a phase's corrected labels in the study's workspace, made where there is none.

    It starts from `labels`, or those of the newest kept prediction, or from nothing. Returns ``{"file": path, "fresh":
    whether it was made now, "confidence": that of the kept prediction it started from, or None}``.
    """
    from napari_multiphase.studies.annotation import Annotation, origin
    from napari_multiphase.studies.snapshots import snapshots

    workspace = _workspace(study, folder)
    phase, grid = Phase(phase), study.volumes[Phase(phase)].grid
    path = workspace.annotation_file(phase)
    fresh = not path.exists() and not snapshots(path)
    kept = None
    if fresh and labels is None:
        kept = _newest(workspace)
        if kept is not None and phase in kept.phases and kept.phases[phase].labels.shape == grid.shape:
            labels, model = kept.phases[phase].labels, kept.model_name
    if fresh:
        Annotation.create(path, np.zeros(grid.shape, np.uint8) if labels is None else labels, grid, model=model).close()
    if phase not in workspace.annotations:
        workspace.set_annotation(phase, path)
    confidence = None
    if not fresh:
        try:
            _, model = origin(path)
        except UserError:  # who opens it tells what is wrong, and offers the last snapshot
            return {"file": path, "fresh": False, "confidence": None}
        kept = _newest(workspace, model)
    if kept is not None and phase in kept.phases and kept.model_name == model:
        confidence = kept.phases[phase].confidence
    return {"file": path, "fresh": fresh, "confidence": confidence}


def keep_prediction(context: Context, study: Study, prediction: Prediction, folder: Path | None = None) -> Path:
    """Keep a prediction in the study's workspace; the folder it lies in."""
    from napari_multiphase.studies.predictions import keep_prediction as run

    workspace = _workspace(study, folder)
    return workspace.resolve(run(workspace, study, prediction).folder)


def recall(context: Context, study: Study, inputs: Sequence[Path] = ()) -> dict[str, Any]:
    """What was done with these scans before: ``{"folder", "annotations": phases by last change, "prediction"}``.

    `inputs` are what was opened: a workspace is its own home, everything else is kept in the user's data folder.
    """
    from napari_multiphase.studies.annotation import peek
    from napari_multiphase.studies.study_file import STUDY_FILE
    from napari_multiphase.studies.workspace import Workspace, default_folder, workspace_in

    opened = workspace_in(inputs)
    folder = opened.folder if opened is not None and opened.id == study.id else default_folder(study)
    if not (folder / STUDY_FILE).exists():
        return {"folder": folder, "annotations": [], "prediction": None}
    workspace = Workspace.open(folder)
    edited = {}
    for phase in workspace.annotations:
        try:
            edited[str(phase)] = peek(workspace.annotation_file(phase))[1]
        except UserError:
            edited[str(phase)] = "9"  # damaged: shown first, so that it is told
    newest_first = sorted(edited, key=lambda phase: edited[phase], reverse=True)
    return {"folder": folder, "annotations": newest_first, "prediction": _newest(workspace, study=study)}


def cases(context: Context, also: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """`studies.list_cases` as JSON types: folder, title, state, uncertainty, edited, problem, structures by state."""
    from napari_multiphase.studies.cases import list_cases

    rows = []
    for row in list_cases(also=also):
        told = {name: getattr(row, name) for name in ("id", "title", "model", "uncertainty", "edited", "problem")}
        states = {str(phase): {str(k): v for k, v in found.items()} for phase, found in row.states.items()}
        phases = [str(phase) for phase in row.phases]
        rows.append({**told, "folder": row.folder, "state": row.state, "phases": phases, "states": states})
    return rows


def _workspace(study: Study, folder: Path | None) -> Any:
    from napari_multiphase.studies.workspace import keep

    return keep(study, folder)


def _newest(workspace: Any, model: str = "", study: Study | None = None) -> Prediction | None:
    """The newest kept prediction (by `model`, if given) that can be read and lies on the scans' grids."""
    from napari_multiphase.studies.predictions import read_prediction

    for entry in reversed(workspace.predictions):
        if model and entry.model != model:
            continue
        try:
            found = read_prediction(workspace.resolve(entry.folder))
        except UserError:
            continue
        grids = {} if study is None else {p: v.grid.shape for p, v in study.volumes.items()}
        if all(found.phases[p].labels.shape == shape for p, shape in grids.items() if p in found.phases):
            return found
    return None


KEEPING_TASKS: Mapping[str, Callable[..., Any]] = {
    "begin_annotation": begin_annotation,
    "keep_prediction": keep_prediction,
    "recall": recall,
    "cases": cases,
}
