"""Learning rates as closed forms, and who moves in a turn."""

import math

import pytest
import torch
from torch import nn

from napari_multiphase.config import OptimiserConfig
from napari_multiphase.methods.base import Objective, Turn
from napari_multiphase.training.optimise import (
    learning_rate,
    load_optimiser,
    make_optimiser,
    only,
    optimiser_tensors,
    parameter_groups,
    set_rate,
    turn_parameters,
)


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        ("constant", 99, 1.0),
        ("poly", 0, 1.0),
        ("poly", 50, 0.5**0.9),
        ("steps", 9, 1.0),
        ("steps", 10, 0.8),
        ("steps", 35, 0.8**3),
        ("flat-linear", 50, 1.0),
        ("flat-linear", 75, 0.5),
        ("one-cycle", 0, 1 / 25),
        ("one-cycle", 10, 1.0),
        ("one-cycle", 99, 1e-5),
    ],
)
def test_rate(schedule, step, factor):
    config = OptimiserConfig(lr=0.2, schedule=schedule, power=0.9, drop_every=10, drop_factor=0.8)
    assert math.isclose(learning_rate(config, step, 100), 0.2 * factor, rel_tol=1e-9)


class Two(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleDict({"g": nn.Linear(3, 3), "gg": nn.Linear(3, 1)})

    def forward(self, x):
        return self.nets["gg"](self.nets["g"](x)).sum()


def test_a_turn_moves_what_it_names_and_gradient_flows_through_the_rest():
    two, x = Two(), torch.ones(2, 3, requires_grad=True)
    chosen = turn_parameters(two, Turn("g", ("nets.g",), OptimiserConfig()))
    assert set(chosen) == {"nets.g.weight", "nets.g.bias"}
    with only(two, chosen):
        two(x).backward()
    assert two.nets["g"].weight.grad is not None and two.nets["gg"].weight.grad is None
    assert x.grad is not None
    assert all(p.requires_grad for p in two.parameters())
    with pytest.raises(ValueError, match="moves nothing"):
        turn_parameters(two, Turn("x", ("nets.x",), OptimiserConfig()))


def test_parameters_learn_at_their_factor_of_the_rate_and_biases_at_theirs():
    two = Two()
    config = OptimiserConfig(kind="sgd", lr=0.1, momentum=0.0, weight_decay=0.5, bias_factor=2.0)
    turn = Turn("t", ("nets",), config, {"nets.gg": 10.0})
    named = turn_parameters(two, turn)
    optimiser = make_optimiser(config, parameter_groups(turn, named))
    set_rate(optimiser, 0.01)
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in named.values():
        p.grad = torch.ones_like(p)
    optimiser.step()
    for name, p in named.items():
        rate = 0.01 * (10 if ".gg." in name else 1) * (2 if name.endswith("bias") else 1)
        decay = 0.0 if name.endswith("bias") else 0.5
        assert torch.allclose(p, before[name] - rate * (1 + decay * before[name]), atol=1e-7), name
    alike = Turn("t", ("nets",), OptimiserConfig())
    assert parameter_groups(alike, named) == list(named.values())


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_an_optimiser_comes_back_as_it_was(kind, grouped):
    torch.manual_seed(0)
    x, results = torch.randn(4, 3), []
    for interrupted in (False, True):
        torch.manual_seed(1)
        two = Two()
        names = [n for n, _ in two.named_parameters()]
        config = OptimiserConfig(kind=kind, lr=0.1, weight_decay=0.01)
        turn = Turn("t", ("nets",), config, {"nets.g": 3.0} if grouped else {})
        optimiser = make_optimiser(config, parameter_groups(turn, turn_parameters(two, turn)))
        for step in range(4):
            if interrupted and step == 2:
                kept = {k: v.clone() for k, v in optimiser_tensors(optimiser, names, "o").items()}
                optimiser = make_optimiser(config, parameter_groups(turn, turn_parameters(two, turn)))
                load_optimiser(optimiser, names, "o", kept)
            optimiser.zero_grad()
            two(x).square().backward()
            set_rate(optimiser, 0.1 / (step + 1))
            optimiser.step()
        results.append(torch.cat([p.detach().flatten() for p in two.parameters()]))
    assert torch.equal(*results)
