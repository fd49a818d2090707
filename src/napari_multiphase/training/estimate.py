"""What a training step would cost, counted without computing it.

The networks are laid out on torch's meta device, which has shapes but no numbers: what the backward pass would keep and
how many operations a step needs are counted there. How fast operations go is measured on the device itself with one
convolution, so times are good to a factor of about two (networks of few channels are slower than that), memory to about
a third.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_multiphase.config import RunConfig, method_config
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Objective, Stage
from napari_multiphase.volume import Phase

_MB = 1 << 20
_HALF_SHARE = 0.6
"""Mixed precision keeps most, not all, of what the backward pass needs in two bytes instead of four."""
_LOSS_COPIES = 6
"""Logits, their log-softmax, probabilities, and the gradient of each."""
_BASE_MB = {"cpu": 600.0, "cuda": 900.0, "mps": 900.0}
"""A process with torch loaded, and what its libraries keep for themselves."""
_BACKWARD = 3.0
"""Operations of forward and backward, for one of forward."""


@dataclass(frozen=True)
class StageCost:
    """One stage: its steps, items seen per step, and operations per item, forward alone."""

    name: str
    steps: int
    patch_vox: tuple[int, int, int]
    operations: float


@dataclass(frozen=True)
class Cost:
    """What a run would take.

    Attributes
    ----------
    parameters : of the networks.
    memory_mb : at the peak of a step, on the device that trains.
    operations : multiplications and additions of all steps, validation apart.
    """

    parameters: int
    memory_mb: float
    operations: float
    stages: tuple[StageCost, ...]

    def seconds(self, operations_per_s: float) -> float:
        """Of all steps on a device of that speed."""
        return self.operations / operations_per_s


def cost_of(run: RunConfig, device: torch.device) -> Cost:
    """Memory and operations of `run`; the stage that needs most memory counts. Nothing is computed."""
    with torch.device("meta"):
        objective = method(run.method).objective(run)
    objective.train()
    own, worst, costs = sum(p.numel() for p in objective.nets.parameters()), 0.0, []
    stages = [stage for stage in objective.stages() if stage.steps]
    items = run.batch // run.accumulate
    for stage in stages:
        kept, operations = _forward(run, objective, stage, items)
        worst = max(worst, kept + _states(objective, stage))
        costs.append(StageCost(stage.name, stage.steps, stage.draw.patch_vox or run.patch_vox, operations / items))
    passes = _BACKWARD + objective.silent_passes
    total = sum(c.operations * c.steps * run.batch * passes for c in costs)
    halves = _HALF_SHARE if device.type == "cuda" and run.precision != "float32" else 1.0
    everything = 4 * sum(t.numel() for t in objective.state_dict().values())
    memory = _BASE_MB.get(device.type, 600.0) + (worst * halves + everything) / _MB
    return Cost(own, memory, total, tuple(costs))


def _states(objective: Objective, stage: Stage) -> float:
    """Bytes of gradients and optimiser states of the stage's turns."""
    total = 0.0
    for turn in stage.turns:
        moved = sum(p.numel() for name, p in objective.named_parameters() if name.startswith(turn.modules))
        total += 4 * moved * (2 if turn.optimiser.kind == "sgd" else 3)
    return total


def _forward(run: RunConfig, objective: Objective, stage: Stage, items: int) -> tuple[float, float]:
    """(bytes that a micro-batch keeps for the backward pass of the largest turn, operations of all forward passes)."""
    config = method_config(run.method, run.method_config)
    traits, patch = config.traits, stage.draw.patch_vox or run.patch_vox
    depth = max(patch[0], 1 + 2 * traits.context_vox)
    two = max(items, 2)  # batch statistics refuse one item
    x = torch.empty(two, traits.channels, depth, *patch[1:], device="meta")
    segmentor = method(run.method).segmentor(config, objective.nets)
    fixed = {t.untyped_storage()._cdata for t in objective.state_dict().values()}
    most, operations = 0.0, 0.0
    for turn in stage.turns:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in fixed:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            logits = objective.rehearse(stage, turn, x) or [segmentor.logits(Phase.VENOUS, x)]
        most = max(most, sum(kept.values()) + _LOSS_COPIES * 4 * sum(t.numel() for t in logits))
        operations += counter.get_total_flops() / turn.every
    return most * items / len(x), operations * items / len(x)


def measured_speed(devices: Sequence[str] = ()) -> dict[str, float]:
    """Operations per second of a training step, by device type, measured here with a 3-D convolution (0.5 s each)."""
    names = devices or (["cpu"] + (["cuda"] if torch.cuda.is_available() else []))
    return {name: _measure(torch.device(name)) for name in names}


def _measure(device: torch.device) -> float:
    side = 32 if device.type == "cpu" else 96
    net = nn.Sequential(nn.Conv3d(24, 24, 3, padding=1), nn.InstanceNorm3d(24), nn.LeakyReLU()).to(device)
    x = torch.randn(1, 24, side, side, side, device=device, requires_grad=True)
    operations = _BACKWARD * 2 * 24 * 24 * 27 * side**3

    def step() -> None:
        net(x).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < 0.5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return operations / min(times)  # the quickest: whatever else runs now will not run all the time
