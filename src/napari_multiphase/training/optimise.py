"""Optimisers and learning rates: both functions of the settings and the step, so that resuming needs no scheduler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from napari_multiphase.config import OptimiserConfig
from napari_multiphase.methods.base import Objective, Turn

WARM_SHARE = 0.1
WARM_START, COLD_END = 1 / 25, 1e-5


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate of `step` (0 and up) of a stage of `steps`."""
    t = step / steps
    match config.schedule:
        case "constant":
            factor = 1.0
        case "poly":
            factor = (1 - t) ** config.power
        case "steps":
            factor = config.drop_factor ** (step // config.drop_every)
        case "flat-linear":
            factor = min(1.0, 2 * (1 - t))
        case "one-cycle":
            factor = _one_cycle(step, max(1, round(WARM_SHARE * steps)), steps)
    return config.lr * factor


def _one_cycle(step: int, warm: int, steps: int) -> float:
    if step < warm:
        return WARM_START + (1 - WARM_START) * (1 - math.cos(math.pi * step / warm)) / 2
    share = (step - warm) / max(1, steps - 1 - warm)
    return COLD_END + (1 - COLD_END) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def turn_parameters(objective: Objective, turn: Turn) -> dict[str, nn.Parameter]:
    """The parameters that `turn` moves, by name."""
    prefixes = tuple(f"{module}." for module in turn.modules)
    chosen = {name: p for name, p in objective.named_parameters() if name.startswith(prefixes) or name in turn.modules}
    if not chosen:
        raise ValueError(f"turn '{turn.name}' moves nothing: no parameter starts with one of {turn.modules}")
    return chosen


def parameter_groups(turn: Turn, parameters: dict[str, nn.Parameter]) -> list[Any]:
    """The turn's parameters as its optimiser takes them: as they are, or each as a group with its own rate."""
    groups = [_group(turn, name, p) for name, p in parameters.items()]
    return groups if any(group["factor"] != 1.0 for group in groups) else list(parameters.values())


def _group(turn: Turn, name: str, parameter: nn.Parameter) -> dict[str, Any]:
    factor = next((f for prefix, f in turn.factors.items() if name.startswith(f"{prefix}.")), 1.0)
    if turn.optimiser.bias_factor != 1.0 and name.endswith("bias"):
        return {"params": [parameter], "factor": factor * turn.optimiser.bias_factor, "weight_decay": 0.0}
    return {"params": [parameter], "factor": factor}


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, times each group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def make_optimiser(config: OptimiserConfig, parameters: list[Any]) -> torch.optim.Optimizer:
    """The optimiser of a turn over parameters or `parameter_groups`; its rates are set before each step."""
    decay = config.weight_decay
    if config.kind == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    return kind(parameters, lr=config.lr, betas=config.betas, weight_decay=decay)


@contextmanager
def only(objective: Objective, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Everything but `parameters` is frozen inside; gradient still flows through what is frozen."""
    before = {name: p.requires_grad for name, p in objective.named_parameters()}
    try:
        for name, p in objective.named_parameters():
            p.requires_grad_(name in parameters)
        yield
    finally:
        for name, p in objective.named_parameters():
            p.requires_grad_(before[name])


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """Its state as named tensors (momenta, second moments, step counts)."""
    state = optimiser.state_dict()["state"]
    return {
        f"{prefix}.{names[index]}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimiser(
    optimiser: torch.optim.Optimizer, names: list[str], prefix: str, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index, name in enumerate(names):
        lead = f"{prefix}.{name}."
        own = {key.removeprefix(lead): value for key, value in tensors.items() if key.startswith(lead)}
        if own:
            state[index] = own
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
