"""A training run from its configuration to a model folder.

A run folder holds ``run.yaml`` (the configuration), ``cases/`` (the phantoms), ``events.jsonl`` (everything the run
said), ``weights.safetensors`` after every stage, and at the end ``model/``.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from safetensors.numpy import save_file

from napari_multiphase.config import RunConfig, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.models import write_model
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Objective
from napari_multiphase.model import Model
from napari_multiphase.training.cases import load_cases, make_cases
from napari_multiphase.training.loop import run_stage
from napari_multiphase.volume import Phase


def read_run(path: Path) -> RunConfig:
    """The configuration in a YAML file; a UserError says which field is wrong."""
    try:
        return RunConfig.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a run configuration: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: {field}: {first['msg']}") from error


def train(
    run: RunConfig, folder: Path, *, processes: int = 2, on_event: OnEvent = ignore, cancel: Cancel | None = None
) -> Model:
    """Train `run` in `folder` and return the model written to ``folder/model``."""
    cancel = cancel or Cancel()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "run.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))
    with (folder / "events.jsonl").open("a") as log:

        def tell(event: Event) -> None:
            log.write(event.to_json() + "\n")
            log.flush()
            on_event(event)

        objective = _fit(run, folder, processes, tell, cancel)
        model = write_model(folder / "model", card_of(run), float16_tensors(objective))
        tell(Event("done", f"model written to {model.folder}", 1.0))
    return model


def _fit(run: RunConfig, folder: Path, processes: int, tell: OnEvent, cancel: Cancel) -> Objective:
    if run.threads:
        torch.set_num_threads(run.threads)
    make_cases(run, folder / "cases", processes, tell, cancel)
    cases = list(load_cases(run, folder / "cases"))
    torch.manual_seed(run.seed)
    chosen = method(run.method)
    objective = chosen.build(run)
    for index, stage in enumerate(chosen.stages(run)):
        tell(Event("started", f"stage {stage.name}: {stage.steps} steps", data={"threads": torch.get_num_threads()}))
        run_stage(run, objective, stage, index, cases, tell, cancel)
        with atomic_path(folder / "weights.safetensors") as temporary:
            save_file(float16_tensors(objective), temporary)
    return objective


def float16_tensors(objective: Objective) -> dict[str, np.ndarray]:
    """The weights as they are stored: float16, by parameter name."""
    return {name: p.detach().to(torch.float16).numpy() for name, p in objective.nets.state_dict().items()}


def card_of(run: RunConfig, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The card of the model that `run` trains, without the hash of its weights."""
    return {
        "name": run.name,
        "method": run.method,
        "config": method_config(run.method, run.method_config).model_dump(mode="json"),
        "labels": list(run.labels),
        "phases": [phase.value for phase in Phase],
        "window_hu": list(run.window_hu),
        "spacing_mm": list(run.spacing_mm),
        "tile_vox": list(run.patch_vox),
        "overlap": run.overlap,
        "summary": "PCN's segmentors, one 3-D U-Net per phase, fused by the phase weight. No translation branch.",
        "training_data": (
            f"{run.cases} parametric two-phase phantoms (a third each with liver lesions, a pancreatic mass, neither); "
            f"no patient. {run.shared_steps} steps in common, {run.phase_steps} per phase, seed {run.seed}, "
            f"torch {torch.__version__.split('+')[0]}, {platform.machine()} CPU, bfloat16 autocast."
        ),
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
        "metrics": dict(metrics or {}),
    }
