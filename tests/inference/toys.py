"""Small segmentors of every kind that the engine knows, whose answers can be worked out without tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import Settings, Traits
from napari_multiphase.methods.base import Method
from napari_multiphase.volume import Phase

CLASSES = 4
SLOPE, OFFSET = (-9.0, 3.0, 12.0, 5.0), (-1.0, 0.5, -0.4, 0.6)


class ToyConfig(Settings):
    """Which traits the toy has."""

    reads: str = "each"
    divisor: tuple[int, int, int] = (2, 2, 2)
    context_vox: int = 0
    members: int = 1
    region: bool = False
    standardise: bool = False

    @property
    def traits(self) -> Traits:
        """As set."""
        return Traits(**self.model_dump())  # type: ignore[arg-type]


class ToyNets(nn.Module):
    """Slope and offset of each class."""

    def __init__(self, config: ToyConfig, classes: int = CLASSES) -> None:
        super().__init__()
        device = torch.empty(0).device
        self.slope = nn.Parameter(torch.tensor(SLOPE[:classes], device=device))
        self.offset = nn.Parameter(torch.tensor(OFFSET[:classes], device=device))


@dataclass
class ToySegmentor:
    """Logits are pointwise in a mean of the channels; with context, of the neighbouring slices too."""

    config: ToyConfig
    nets: Any
    seen: list[tuple[int, ...]] = field(default_factory=list)
    """Shape of every input."""

    @property
    def traits(self) -> Traits:
        """As set."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, C, d + 2 context, h, w) -> (B, K, d, h, w); the last channel, where it is a region, counts too."""
        assert self.traits.reads == "each" or phase is Phase.VENOUS
        self.seen.append(tuple(x.shape))
        shares = torch.tensor([0.7, -0.4, 0.3][: x.shape[1]]).view(1, -1, 1, 1, 1)
        mixed = (x * shares).sum(1, keepdim=True)
        if self.traits.context_vox:
            kernel = torch.tensor([0.5, 1.0, -0.8][: 2 * self.traits.context_vox + 1])
            mixed = F.conv3d(mixed, kernel.view(1, 1, -1, 1, 1))
        slope, offset = (p.view(1, -1, 1, 1, 1) for p in (self.nets.slope, self.nets.offset))
        return mixed * slope * (1 - 2 * member) + offset

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The larger probability of each class, as in a union."""
        joint = means[0]
        for mean in means[1:]:
            joint = torch.maximum(joint, mean)
        return joint / joint.sum(0) if len(means) > 1 else joint

    def region_logits(self, x: Tensor) -> Tensor:
        """Above 0 in what is read: the region."""
        middle = x[:, :, self.traits.context_vox : x.shape[2] - self.traits.context_vox]
        return torch.cat([-middle, middle], dim=1) * 4


def toy(**traits: Any) -> ToySegmentor:
    """A segmentor with these traits."""
    config = ToyConfig(**traits)
    return ToySegmentor(config, ToyNets(config).requires_grad_(False))


METHOD = Method("toy", nets=ToyNets, segmentor=ToySegmentor, objective=lambda run: None)  # type: ignore[arg-type,return-value]
