"""Small models that translate, whose answers can be worked out without tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from inference_cases import CARD
from torch import Tensor, nn

from napari_multiphase.config import ResnetGeneratorConfig, Settings, Traits, TranslatorTraits, UNetGenerator3DConfig
from napari_multiphase.io.models import write_model
from napari_multiphase.methods.base import Method
from napari_multiphase.model import Model
from napari_multiphase.nets.instance_norm import InstanceNorm
from napari_multiphase.nets.translators import ResnetGenerator, UNetGenerator3D
from napari_multiphase.volume import Phase

TOY_CARD = CARD | {
    "name": "toy translator",
    "method": "toy-translator",
    "labels": (0, 1),
    "window_hu": (-1024.0, 976.0),
    "summary": "a toy",
}


class ToyTranslatorConfig(Settings):
    """Which generator the toy has, or none."""

    kind: Literal["identity", "constant", "unet", "slices", "none"] = "identity"
    widths: tuple[int, ...] = (4, 6)
    norm: Literal["instance", "none"] = "instance"

    @property
    def traits(self) -> Traits:
        """Of its segmentor, which nobody runs."""
        return Traits()

    @property
    def translator_traits(self) -> TranslatorTraits | None:
        """As set."""
        if self.kind == "none":
            return None
        if self.kind == "unet":
            return TranslatorTraits("volume", self.unet.divisor, self.unet.context_vox)
        if self.kind == "slices":
            return TranslatorTraits("slices", self.resnet.divisor, self.resnet.context_vox)
        return TranslatorTraits("volume", (2, 2, 2))

    @property
    def unet(self) -> UNetGenerator3DConfig:
        """Of "unet"."""
        return UNetGenerator3DConfig(widths=self.widths, norm=self.norm)

    @property
    def resnet(self) -> ResnetGeneratorConfig:
        """Of "slices"."""
        return ResnetGeneratorConfig(width=self.widths[0], blocks=1, norm=self.norm)


class Shifted(nn.Module):
    """x + a parameter, which is 0."""

    def __init__(self, to: float = 0.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.full((1,), to))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


def nets(config: ToyTranslatorConfig, classes: int = 2) -> nn.ModuleDict:
    """A generator for each phase."""
    make = {
        "unet": lambda: UNetGenerator3D(config.unet),
        "slices": lambda: ResnetGenerator(config.resnet),
        "constant": lambda: Shifted(0.25),
    }.get(config.kind, Shifted)
    return nn.ModuleDict({f"to_{phase}": make() for phase in Phase})


@dataclass
class ToyTranslator:
    """Its generators; slices are read as overlapping stacks of three, whose results are averaged."""

    config: ToyTranslatorConfig
    nets: Any

    @property
    def traits(self) -> TranslatorTraits:
        """As set."""
        traits = self.config.translator_traits
        assert traits is not None
        return traits

    def translate(self, to: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) -> the same."""
        net = self.nets[f"to_{to}"]
        if self.config.kind != "slices":
            return net(x)
        depth, out, seen = x.shape[2], torch.zeros_like(x), torch.zeros(x.shape[2], device=x.device)
        for z in range(depth - 2):
            out[:, 0, z : z + 3] += net(x[:, 0, z : z + 3])
            seen[z : z + 3] += 1
        return out / seen.view(1, 1, -1, 1, 1)

    def norms(self, to: Phase) -> Sequence[InstanceNorm]:
        """Of "unet"."""
        if self.config.kind == "slices":
            return []
        return [m for m in self.nets[f"to_{to}"].modules() if isinstance(m, InstanceNorm)]


METHOD = Method(
    "toy-translator",
    nets=nets,
    segmentor=lambda config, nets: None,  # type: ignore[arg-type,return-value]
    objective=lambda run: None,  # type: ignore[arg-type,return-value]
    translator=ToyTranslator,
)


def write_toy(
    folder: Path, config: ToyTranslatorConfig, card: Mapping[str, Any] | None = None, gain: float = 1.0
) -> Model:
    """A model folder of random weights; last layers `gain` times as large, so that tanh is used in full."""
    torch.manual_seed(3)
    made = nets(config)
    tensors = {}
    for name, tensor in made.state_dict().items():
        last = ".last." in name or (config.kind == "slices" and name.endswith((".net.18.weight", ".net.18.bias")))
        tensors[name] = (tensor * (gain if last else 1.0)).numpy()
    return write_model(folder, {**TOY_CARD, **(card or {}), "config": config.model_dump(mode="json")}, tensors)
