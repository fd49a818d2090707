"""What a run leaves in ``report.json``: inputs, model, plan, times, memory, figures per structure, warnings."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_multiphase.config import SegmentOptions, TranslateOptions, traits_of
from napari_multiphase.imaging.tables import StructureRow, structure_table
from napari_multiphase.inference.inputs import describe_inputs
from napari_multiphase.inference.plan import Plan
from napari_multiphase.inference.translation_plan import TranslationPlan
from napari_multiphase.io.images import is_synthetic
from napari_multiphase.model import Model
from napari_multiphase.study import PhasePrediction, PhaseTransform, Study
from napari_multiphase.volume import Phase, Volume

REPORT_VERSION = 1


def make_report(
    study: Study,
    model: Model,
    options: SegmentOptions,
    plan: Plan,
    phases: Mapping[Phase, PhasePrediction],
    fused: tuple[Phase, NDArray[np.uint8], NDArray[np.uint8]],
    seconds: Mapping[str, float],
    peak_mb: float,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The body of report.json: JSON types only, no arrays."""
    return {
        **common_report(study, study.phases, model, options, plan, seconds, peak_mb, notes),
        "network_inputs": describe_inputs(
            study, traits_of(model.card.method, model.card.config), {phase: p.grid for phase, p in plan.phases.items()}
        ),
        "transform": (study.transform or PhaseTransform.identity()).to_dict(),
        "structures": structures(study, phases, fused),
    }


def common_report(
    study: Study,
    read: Sequence[Phase],
    model: Model,
    options: SegmentOptions | TranslateOptions,
    plan: Plan | TranslationPlan,
    seconds: Mapping[str, float],
    peak_mb: float,
    notes: Sequence[str],
) -> dict[str, Any]:
    """What the reports of all runs hold: inputs (the phases `read`), model, options, plan, device, times, memory."""
    vram = torch.cuda.max_memory_allocated() / 2**20 if plan.device == "cuda" else 0.0
    return {
        "report_version": REPORT_VERSION,
        "study": study.id,
        "inputs": {phase.value: _input(study.volumes[phase]) for phase in read},
        "model": {
            "name": model.card.name,
            "method": model.card.method,
            "labels": list(model.card.labels),
            "weights_sha256": model.card.weights_sha256,
        },
        "options": options.model_dump(mode="json"),
        "plan": plan.to_dict(),
        "device": {
            "type": plan.device,
            "name": plan.device_name,
            "torch": str(torch.__version__),
            "system": platform.system(),
        },
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "peak_memory_mb": round(peak_mb, 1),
        "peak_vram_mb": round(vram, 1),
        "warnings": list(notes),
    }


def structures(
    study: Study, phases: Mapping[Phase, PhasePrediction], fused: tuple[Phase, NDArray[np.uint8], NDArray[np.uint8]]
) -> list[dict[str, Any]]:
    """Volume (ml), mean HU and mean confidence of every structure found, in each phase and fused.

    `fused` : the phase on whose grid it lies, labels, confidence.
    """
    tables: dict[str, list[StructureRow]] = {}
    for phase, result in phases.items():
        volume = study.volumes[phase]
        hu = {phase: volume.data}
        tables[phase.value] = structure_table(result.labels, volume.grid.voxel_ml, hu, result.confidence)
    home, labels, confidence = fused
    volume = study.volumes[home]
    tables["fused"] = structure_table(labels, volume.grid.voxel_ml, {home: volume.data}, confidence)
    rows: dict[int, dict[str, Any]] = {}
    for where, table in tables.items():
        for row in table:
            entry = rows.setdefault(
                row.id, {"id": row.id, "name": row.name, "ml": {}, "group_ml": {}, "mean_hu": {}, "mean_confidence": {}}
            )
            entry["ml"][where] = round(row.ml, 3)
            entry["group_ml"][where] = round(row.group_ml, 3)
            entry["mean_confidence"][where] = None if row.mean_confidence is None else round(row.mean_confidence, 4)
            if where != "fused":
                value = row.mean_hu[Phase(where)]
                entry["mean_hu"][where] = None if value is None else round(value, 1)
    return [rows[label] for label in sorted(rows)]


def _input(volume: Volume) -> dict[str, Any]:
    source = volume.source
    return {
        "path": str(source.path),
        "format": source.format,
        "sha256": source.sha256 or _hash(volume.data),
        "shape": list(source.shape),
        "grid": volume.grid.to_dict(),
        "resampled": source.resampled,
        "synthetic": is_synthetic(source),
    }


def _hash(data: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for plane in data:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()
