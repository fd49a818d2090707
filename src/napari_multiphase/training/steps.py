"""How many steps a run has, and the same run with another number of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from napari_multiphase.config import RunConfig, method_config
from napari_multiphase.methods import method

LOOKS = 5
"""A run of a chosen length looks at the held-out cases about so often in its longest stage."""


def with_steps(run: RunConfig, wanted: int) -> RunConfig:
    """`run` with `wanted` steps in all, shared among its stages as before; each that has steps keeps one at least."""
    now = count_steps(run)
    scaled = _scaled(_full_config(run), wanted / max(1, now))
    run = _with_config(run, scaled)
    rest = wanted - count_steps(run)
    for path in sorted(_step_paths(scaled), key=lambda p: -_get(scaled, p)):
        if not rest:
            break
        tried = _with_config(run, _set(scaled, path, max(1, _get(scaled, path) + rest)))
        if abs(wanted - count_steps(tried)) < abs(rest):
            run, rest = tried, wanted - count_steps(tried)
            scaled = _full_config(run)
    longest = max(stage_steps(run))
    validation = run.validation.model_dump()
    validation["every"] = min(validation["every"], max(1, math.ceil(longest / LOOKS)))
    return RunConfig.model_validate({**run.model_dump(), "validation": validation})


def count_steps(run: RunConfig) -> int:
    """Of all stages."""
    return sum(stage_steps(run))


def stage_steps(run: RunConfig) -> list[int]:
    """Of each stage that has steps, in their order."""
    with torch.device("meta"):
        return [stage.steps for stage in method(run.method).objective(run).stages() if stage.steps]


def _full_config(run: RunConfig) -> dict[str, Any]:
    values: dict[str, Any] = method_config(run.method, run.method_config).model_dump(mode="json")
    return values


def _with_config(run: RunConfig, config: Mapping[str, Any]) -> RunConfig:
    return RunConfig.model_validate({**run.model_dump(), "method_config": dict(config)})


def _step_paths(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where a method's settings say how many steps a stage has."""
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _step_paths(value, (*above, name))
        elif name.endswith("steps") and isinstance(value, int) and value > 0:
            found.append((*above, name))
    return found


def _scaled(values: dict[str, Any], factor: float) -> dict[str, Any]:
    for path in _step_paths(values):
        values = _set(values, path, max(1, round(_get(values, path) * factor)))
    return values


def _get(values: Mapping[str, Any], path: tuple[str, ...]) -> int:
    for name in path[:-1]:
        values = values[name]
    return int(values[path[-1]])


def _set(values: Mapping[str, Any], path: tuple[str, ...], value: int) -> dict[str, Any]:
    if len(path) == 1:
        return {**values, path[0]: value}
    return {**values, path[0]: _set(values[path[0]], path[1:], value)}
