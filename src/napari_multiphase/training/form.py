"""From what the window's form says to a run: the same plan as `multiphase plan`, with a length, a seed and a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from napari_multiphase.bounds import ModelName
from napari_multiphase.config import RunConfig, Settings, traits_of
from napari_multiphase.events import Cancel, OnEvent, ignore
from napari_multiphase.inference.device import choose_device, device_words
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.training.cache import case_sources
from napari_multiphase.training.draft import PHANTOMS, outline
from napari_multiphase.training.estimate import Cost, measured_speed
from napari_multiphase.training.plan import TrainingPlan, plan_training
from napari_multiphase.training.run_folder import PLAN_FILE
from napari_multiphase.training.splits import split_cases
from napari_multiphase.training.steps import stage_steps, with_steps

TRY_IT = "smoke"
TRY_IT_MINUTES = 2.0
"""How long a model is fine-tuned by the preset that is for trying."""


class TrainingForm(Settings):
    """What a person chose."""

    dataset: str = PHANTOMS
    """Folder with dataset.json, a case list, or "phantoms"."""
    method: str = "pcn"
    preset: str = TRY_IT
    start_from: str = ""
    """Folder or name of a model; empty: from scratch."""
    length: Literal["preset", "minutes", "steps"] = "preset"
    amount: float = Field(default=0.0, ge=0)
    """Minutes or steps."""
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    name: ModelName = "my-model"


@dataclass(frozen=True)
class PlannedRun:
    """A plan, and what a person wants to know of it before it starts."""

    plan: TrainingPlan
    facts: Mapping[str, Any]
    """JSON types: "steps", "seconds", "memory_mb", "device", "train", "validation", "notes", "labels", "parameters"."""


def plan_form(form: TrainingForm, *, on_event: OnEvent = ignore, cancel: Cancel | None = None) -> PlannedRun:
    """The run that `form` asks for; a UserError says what does not go together."""
    start = form.start_from or None
    made = plan_training(
        form.dataset, form.method, form.preset, start_from=start, on_event=on_event, cancel=cancel or Cancel()
    )
    device = choose_device("auto")
    speed = measured_speed([device.type])[device.type]
    length, amount = form.length, form.amount
    if length == "preset" and start and form.preset == TRY_IT:
        length, amount = "minutes", TRY_IT_MINUTES
    run = made.run
    if length != "preset":
        each_s = made.cost.seconds(speed) / sum(stage.steps for stage in made.cost.stages)
        run = with_steps(run, max(1, round(amount if length == "steps" else 60 * amount / each_s)))
    run = RunConfig.model_validate({**run.model_dump(), "seed": form.seed, "name": form.name})
    cost = made.cost if length == "preset" else _of_length(made.cost, run)
    steps = sum(stage.steps for stage in cost.stages)
    reasons = dict(made.reasons)
    if length != "preset":
        asked = f"{amount:g} minutes, as estimated" if length == "minutes" else "as asked"
        reasons["method_config"] = [*reasons.get("method_config", []), f"{steps} steps in all: {asked}"]
    split = split_cases(
        [outline(run, source) for source in case_sources(run)],
        run.validation,
        traits_of(run.method, run.method_config).reads,
    )
    facts = {
        "steps": steps,
        "seconds": cost.seconds(speed),
        "memory_mb": cost.memory_mb,
        "parameters": cost.parameters,
        "device": device_words(device),
        "train": list(split.train),
        "validation": list(split.validation),
        "notes": list(split.notes),
        "labels": list(run.labels),
    }
    values = {**made.values, **{k: v for k, v in run.model_dump(mode="json").items() if k in (*made.values, "seed")}}
    return PlannedRun(replace(made, run=run, cost=cost, reasons=reasons, values=values), facts)


def _of_length(cost: Cost, run: RunConfig) -> Cost:
    """`cost` of the same networks and stages for the steps of `run`; nothing is counted again."""
    now = stage_steps(run)
    stages = tuple(replace(stage, steps=steps) for stage, steps in zip(cost.stages, now, strict=True))
    before, after = (sum(s.operations * s.steps for s in which) for which in (cost.stages, stages))
    return replace(cost, stages=stages, operations=cost.operations * after / before)


def write_plan(planned: PlannedRun, folder: Path) -> Path:
    """Write ``plan.yaml``, from which the trainer starts, into `folder`."""
    with atomic_path(folder / PLAN_FILE) as part:
        part.write_text(planned.plan.to_yaml(), encoding="utf-8")
    return folder / PLAN_FILE
