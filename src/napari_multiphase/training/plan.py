"""A run proposed for a data set, with the reason for each choice: the file explains itself.

The method's preset is the start; the data decide labels, spacing and patch, and the window where the preset has none;
memory decides into how many micro-batches a step is cut, and then the patch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from napari_multiphase.config import PRESETS, RunConfig, preset
from napari_multiphase.events import Cancel, OnEvent, ignore
from napari_multiphase.inference.device import choose_device, device_words
from napari_multiphase.io.models import find_model
from napari_multiphase.training.cache import case_sources
from napari_multiphase.training.draft import FIELDS, Draft
from napari_multiphase.training.estimate import Cost, measured_speed
from napari_multiphase.training.survey import look


@dataclass(frozen=True)
class TrainingPlan:
    """A run, why each of its fields is what it is, and what it would take.

    Attributes
    ----------
    reasons : sentences by field of the run.
    head : sentences on the whole.
    """

    run: RunConfig
    reasons: dict[str, list[str]]
    head: list[str]
    cost: Cost
    values: dict[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """The run as a YAML file, the reasons as comments."""
        lines = [*_comment(self.head), ""]
        for name in FIELDS:
            if name in self.values:
                lines += _comment(self.reasons.get(name, []))
                value, flow = self.values[name], None if isinstance(self.values[name], dict | list) else False
                text = yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=flow, width=110)
                lines.append(text.rstrip())
        return "\n".join(lines) + "\n"


def plan_training(
    dataset: str | Path,
    method: str,
    preset_name: str = "workstation",
    *,
    structures: dict[str, int | None] | None = None,
    start_from: str | None = None,
    memory_gb: float | None = None,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> TrainingPlan:
    """Look at `dataset` (a path, or "phantoms") and propose a run of `method`.

    Parameters
    ----------
    structures : the data set's label names -> ids of the label table, where they are not the table's own.
    start_from : name or folder of a model to fine-tune: labels, window, spacing, patch and network are its own, the
        steps a tenth of its own, the learning rates too.
    memory_gb : what a step may take; without it the GPU's memory, or what is free on a machine without one.

    Raises
    ------
    UserError : an unknown method or preset, data that cannot be read, or nothing that fits into the memory.
    """
    draft = Draft(preset(method, preset_name), PRESETS[method][preset_name], preset_name)
    draft.take_data(dataset, structures or {})
    if start_from is not None:
        draft.take_model(find_model(start_from), start_from)
    sources = case_sources(draft.run)
    seen = look(draft.run, sources, on_event, cancel or Cancel())
    draft.fit(seen, sources)
    device = choose_device("auto")
    cost = draft.fit_memory(device, memory_gb)
    head = [*draft.head(seen), *_cost_words(draft.run, cost, device)]
    return TrainingPlan(draft.run, draft.reasons, head, cost, draft.values())


def _cost_words(
    run: RunConfig, cost: Cost, device: torch.device, speed: Callable[[list[str]], dict[str, float]] = measured_speed
) -> list[str]:
    steps = sum(stage.steps for stage in cost.stages)
    stages = ", ".join(f"{stage.name} {stage.steps}" for stage in cost.stages)
    seconds = cost.seconds(speed([device.type])[device.type])
    each = f"{cost.operations / steps / 1e9:.3g} billion operations a step"
    patches = "one patch" if run.batch == 1 else f"{run.batch} patches"
    return [
        f"Network: {cost.parameters / 1e6:.1f} million parameters; {steps} steps ({stages}) of {patches}.",
        f"Memory: about {cost.memory_mb / 1024:.1f} GB on {device_words(device)} (counted on torch's meta device; "
        "to a third).",
        f"Time: about {_duration(seconds)} on {device_words(device)}, validation apart ({each}, counted; their speed "
        "measured here with one convolution; to a factor of two).",
    ]


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, round(seconds))} seconds"


def _comment(sentences: list[str]) -> list[str]:
    return [line for s in sentences for line in textwrap.wrap(s, 108, initial_indent="# ", subsequent_indent="#   ")]
