"""What a run's model folder is written from: the card, and the networks' tensors by name."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_multiphase.config import PhantomConfig, RunConfig, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import find_model
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Objective, stored_state
from napari_multiphase.model import Model
from napari_multiphase.volume import Phase

_MOST_WORDS = 600
"""Characters of what the model learnt from that a run began with."""
_WEIGHT_FILES = {"imagenet_weights", "encoder_weights", "translators_from"}


def model_tensors(objective: Objective) -> dict[str, np.ndarray]:
    """The networks as they are stored, by name: float16, vectors (biases, running statistics) in float32."""
    return {
        name: t.detach().cpu().to(torch.float16 if t.ndim > 1 else torch.float32).numpy()
        for name, t in stored_state(objective.nets).items()
    }


def card_of(run: RunConfig) -> dict[str, Any]:
    """The card of the model that `run` trains, without the hash of its weights."""
    config = method_config(run.method, run.method_config)
    start = _start(run)
    no_patient = not run.start_from or (start is not None and start.card.phantoms_only)
    settings = config.model_dump(mode="json")
    settings |= dict.fromkeys(settings.keys() & _WEIGHT_FILES)  # they went into the weights; nobody else has the files
    return {
        "name": run.name,
        "method": run.method,
        "config": settings,
        "labels": list(run.labels),
        "phases": [phase.value for phase in Phase],
        "window_hu": list(run.window_hu),
        "spacing_mm": list(run.spacing_mm),
        "tile_vox": list(run.patch_vox),
        "overlap": run.overlap,
        "further_sizes": list(run.further_sizes),
        "in_one_piece": list(run.in_one_piece),
        "summary": run.summary or method(run.method).summary(config),
        "training_data": _training_data(run, start),
        "phantoms_only": isinstance(run.data, PhantomConfig) and no_patient,
        "licence": run.licence,
        "metrics": {},
    }


def _anatomy(data: PhantomConfig) -> str:
    """What shapes the phantoms have."""
    if not data.atlases:
        return "parametric"
    named = ((Path(atlas.labels).parent.name or atlas.labels, atlas.licence) for atlas in data.atlases)
    maps = ", ".join(f"{name} ({licence})" if licence else name for name, licence in named)
    return f"{1 - data.parametric_share:.0%} of them deformed from the label maps {maps} and the rest parametric"


def _start(run: RunConfig) -> Model | None:
    """The model that the run began with, where it is still there."""
    try:
        return find_model(run.start_from) if run.start_from else None
    except UserError:
        return None


def _training_data(run: RunConfig, start: Model | None) -> str:
    what = ""  # that a start may have learnt from, too, with other seeds
    if isinstance(run.data, PhantomConfig):
        partly = sum(part.cases for part in run.data.partly)
        words = {"none": "no lesion", "liver": "liver lesions", "pancreas": "a pancreatic mass"}
        kinds = ", ".join(words[kind] for kind in dict.fromkeys(run.data.pathologies))
        made = _anatomy(run.data)
        what = f"two-phase phantoms, {made} ({kinds}), a fold of them held out; no patient's scan"
        what += f"; {partly} of them labelled in part" if partly else ""
        cases = f"{run.data.cases} {what}"
    else:
        cases = f"the cases of {run.data.path.name}"
    began = f", starting from {Path(run.start_from).name}" if run.start_from else ""
    if start is not None:
        began = f", starting from '{start.card.name}'"
    if start is not None and Path(run.start_from or "").is_dir():  # not one of a name that anybody can look up
        told = start.card.training_data.rstrip(".")
        told = told.replace(what, "of the same kind") if what else told
        told = told if len(told) <= _MOST_WORDS else f"{told[:_MOST_WORDS].rpartition(' ')[0]} ..."
        began += f" (weights {start.card.weights_sha256[:12]}: {told})"
    versions = f"torch {torch.__version__.split('+')[0]}, {platform.machine()}"
    return f"{cases}{began}. Seed {run.seed}, {versions}."
