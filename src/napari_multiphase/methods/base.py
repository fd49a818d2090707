"""What every method offers: a network to run, and an objective to train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from napari_multiphase.config import RunConfig
from napari_multiphase.model import Model
from napari_multiphase.volume import Phase


class Segmentor(Protocol):
    """A trained method, run tile by tile by the inference engine."""

    @property
    def model(self) -> Model:
        """The model it was loaded from."""

    @property
    def divisor(self) -> int:
        """Every side of a tile is a multiple of this."""

    def logits(self, phase: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) float in [-1, 1] -> (B, K, d, h, w)."""


@dataclass(frozen=True)
class Stage:
    """One stretch of training: who trains on what for how long.

    `learning_rate` is a factor on the run's peak rate; `module` names the part of the method that trains.
    """

    name: str
    steps: int
    phases: tuple[Phase, ...]
    module: str
    learning_rate: float = 1.0


class Objective(Protocol):
    """What the training loop optimises; the loop knows no loss."""

    @property
    def nets(self) -> nn.Module:
        """The networks whose weights make the model."""

    def terms(self, stage: Stage, phase: Phase, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Named loss terms whose sum is minimised."""

    def trainable(self, stage: Stage) -> Iterable[nn.Parameter]:
        """The parameters of this stage."""

    def begin(self, stage: Stage) -> None:
        """Called once before the first step of `stage`."""


@dataclass(frozen=True)
class Method:
    """One row of ``methods.METHODS``."""

    name: str
    load: Callable[[Model, torch.device], Segmentor]
    build: Callable[[RunConfig], Objective]
    stages: Callable[[RunConfig], Iterable[Stage]]
