"""A prediction kept in the study's folder, on the canonical grids, complete: it can be fused anew after reopening.

A folder of ``prediction.json`` and one compressed map per file. Files for others are written by `inference.save`.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import uuid
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_new_folder
from napari_multiphase.studies.annotation_file import MOST_VOXELS
from napari_multiphase.studies.chunks import pack, unpack
from napari_multiphase.studies.study_file import PredictionEntry
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import PhasePrediction, Prediction, Study, TwoBest
from napari_multiphase.volume import Grid, Phase

PREDICTION_FILE = "prediction.json"
FORMAT = "napari-multiphase prediction"
VERSION = 1
_MOST_JSON_BYTES = 8_000_000
_BEST = tuple(field.name for field in fields(TwoBest))


def keep_prediction(workspace: Workspace, study: Study, prediction: Prediction) -> PredictionEntry:
    """Write `prediction` into its study's folder, whole or not at all, and remember it there.

    Of older ones what is needed for fusing is dropped; their labels and confidence stay.

    Raises UserError where it belongs to another study, or the folder cannot be written.
    """
    if not prediction.study_id == study.id == workspace.id:
        raise UserError(f"these results belong to study {prediction.study_id}, not {workspace.id}: nothing was kept")
    older = workspace.predictions
    made = workspace.folder / "predictions" / f".{uuid.uuid4().hex[:12]}"
    with atomic_new_folder(made) as part:
        grids = {phase: study.volumes[phase].grid for phase in prediction.phases}
        for name, values in _maps(prediction).items():
            (part / f"{name}.z").write_bytes(pack(values))
        (part / PREDICTION_FILE).write_text(json.dumps(_described(prediction, grids), indent=1), encoding="utf-8")
    try:
        entry = workspace.add_prediction(made, prediction.model_name, notes=prediction.notes)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for old in older:
        for name in (f"{phase}_{best}.z" for phase in Phase for best in _BEST):
            with contextlib.suppress(OSError, UserError):
                workspace.resolve(f"{old.folder}/{name}").unlink(missing_ok=True)
    return entry


def read_prediction(folder: Path) -> Prediction:
    """The prediction that `keep_prediction` wrote. Raises UserError where it is gone or damaged."""
    folder = Path(folder)
    told = describe(folder)
    try:
        phases: dict[Phase, PhasePrediction] = {}
        for name, place in told["phases"].items():
            phase, shape = Phase(name), _grid(place["grid"]).shape
            labels, confidence = (_read(folder / f"{phase}_{kind}.z", shape) for kind in ("labels", "confidence"))
            files = [folder / f"{phase}_{best}.z" for best in _BEST]
            two_best = None
            if place["fusible"] and all(file.is_file() for file in files):
                two_best = TwoBest(*(_read(file, shape) for file in files))
            phases[phase] = PhasePrediction(labels, confidence, two_best)
        grid = _grid(told["fused_grid"])
        return Prediction(
            study_id=str(told["study_id"]),
            model_name=str(told["model_name"]),
            phases=phases,
            fused_labels=_read(folder / "fused_labels.z", grid.shape),
            fused_confidence=_read(folder / "fused_confidence.z", grid.shape),
            fused_grid=grid,
            fused_on=Phase(told["fused_on"]),
            phase_weight=float(told["phase_weight"]),
            notes=tuple(str(note) for note in told["notes"]),
            report=dict(told["report"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UserError(f"the prediction in {folder} is damaged ({error}): segment again") from error


def describe(folder: Path) -> dict[str, Any]:
    """What `prediction.json` says (model, phases, notes, report), without any map. Raises UserError as above."""
    path = Path(folder) / PREDICTION_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_JSON_BYTES + 1)
        told = json.loads(text) if len(text) <= _MOST_JSON_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is gone or damaged: segment again") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT or told.get("version") != VERSION:
        raise UserError(f"{path} is damaged, or a newer version of this program wrote it: segment again")
    return told


def _maps(prediction: Prediction) -> dict[str, NDArray[np.uint8]]:
    maps = {"fused_labels": prediction.fused_labels, "fused_confidence": prediction.fused_confidence}
    for phase, result in prediction.phases.items():
        maps |= {f"{phase}_labels": result.labels, f"{phase}_confidence": result.confidence}
        if result.two_best is not None:
            maps |= {f"{phase}_{name}": getattr(result.two_best, name) for name in _BEST}
    return maps


def _described(prediction: Prediction, grids: dict[Phase, Grid]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "study_id": prediction.study_id,
        "model_name": prediction.model_name,
        "phases": {
            str(phase): {"grid": grids[phase].to_dict(), "fusible": result.two_best is not None}
            for phase, result in prediction.phases.items()
        },
        "fused_on": str(prediction.fused_on),
        "fused_grid": prediction.fused_grid.to_dict(),
        "phase_weight": prediction.phase_weight,
        "notes": list(prediction.notes),
        "report": dict(prediction.report),
    }


def _grid(data: dict[str, Any]) -> Grid:
    grid = Grid.from_dict(data)
    if min(grid.shape) < 1 or math.prod(grid.shape) > MOST_VOXELS:
        raise ValueError("no grid that a scan can have")
    return grid


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    size = math.prod(shape)
    if path.stat().st_size > size + size // 8 + 4096:
        raise ValueError(f"{path.name} is too large")
    return unpack(path.read_bytes(), size).reshape(shape)
