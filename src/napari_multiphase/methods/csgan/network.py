"""The networks of the cycle- and shape-consistent GAN, and how they segment and translate (PAPER 003)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import CsganConfig, Traits, TranslatorTraits
from napari_multiphase.config.csgan import PlainUNet3DConfig
from napari_multiphase.errors import UserError
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.nets.initial import he_weights
from napari_multiphase.nets.instance_norm import InstanceNorm, norms_of
from napari_multiphase.nets.translators import UNetGenerator3D
from napari_multiphase.volume import Phase

# --- blocks --------------------------------------------------------------------------------------------------------


class TwoConvs(nn.Sequential):
    """Two 3x3x3 convolutions with ReLU: (B, i, D, H, W) -> (B, o, D, H, W)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__(Conv3d(i, o, 3, padding=1), nn.ReLU(), Conv3d(o, o, 3, padding=1), nn.ReLU())


class PlainUNet3D(nn.Module):
    """(B, 1, D, H, W) in [-1, 1] -> logits (B, classes, D, H, W); each side a multiple of ``config.divisor``.

    Max pooling down, nearest upsampling and the level's own maps up, and no normalisation anywhere: its judgement of a
    voxel must not depend on how bright the rest of a synthetic image came out.
    """

    def __init__(self, config: PlainUNet3DConfig, classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.down = nn.ModuleList(TwoConvs(i, o) for i, o in zip((1, *widths), widths, strict=False))
        steps = list(zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(TwoConvs(coarse + fine, fine) for fine, coarse in reversed(steps))
        self.head = nn.Conv3d(widths[0], classes, 1)
        he_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.down[0](x)]
        for down in self.down[1:]:
            maps.append(down(F.max_pool3d(maps[-1], 2)))
        y = maps.pop()
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), maps.pop()], dim=1))
        return self.head(y)


def padded(net: Callable[[Tensor], Tensor], x: Tensor, divisor: int) -> Tensor:
    """`net` of x (B, C, D, H, W), whose last voxels are repeated until each side is a multiple of `divisor`; the result
    is cut back to x's grid."""
    short = [-side % divisor for side in x.shape[2:]]
    if not any(short):
        return net(x)
    before = [n // 2 for n in short]
    ends = [width for n, first in zip(reversed(short), reversed(before), strict=True) for width in (first, n - first)]
    y = net(F.pad(x, ends, mode="replicate"))
    for axis, (first, side) in enumerate(zip(before, x.shape[2:], strict=True), start=2):
        y = y.narrow(axis, first, side)
    return y


# --- network -------------------------------------------------------------------------------------------------------


class CsganNets(nn.ModuleDict):
    """S_A and S_V as "arterial" and "venous", G_A and G_V (regime "real" has none) as "to_arterial" and "to_venous"."""

    def __init__(self, config: CsganConfig, classes: int) -> None:
        nets: dict[str, nn.Module] = {phase.value: PlainUNet3D(config.segmentor, classes) for phase in Phase}
        if config.regime != "real":
            nets |= {f"to_{phase.value}": UNetGenerator3D(config.generator) for phase in Phase}
        super().__init__(nets)


@dataclass(frozen=True)
class CsganSegmentor:
    """S_A and S_V, ready to be run over tiles."""

    config: CsganConfig
    nets: nn.Module

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w)."""
        return padded(self.nets[phase.value], x, self.config.segmentor.divisor)  # type: ignore[index]

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The only member's means."""
        return means[0]


@dataclass(frozen=True)
class CsganTranslator:
    """G_A and G_V, ready to be run over tiles."""

    config: CsganConfig
    nets: nn.Module

    @property
    def traits(self) -> TranslatorTraits:
        """As of the settings; UserError for regime "real", which has no generators."""
        traits = self.config.translator_traits
        if traits is None:
            raise UserError("this csgan model was trained without generators (regime 'real'): it does not translate")
        return traits

    def translate(self, to: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) of the other phase in [-1, 1] -> the same of phase `to`."""
        return padded(self.nets[f"to_{to.value}"], x, self.config.generator.divisor[0])  # type: ignore[index]

    def norms(self, to: Phase) -> Sequence[InstanceNorm]:
        """Of the generator, in running order."""
        return norms_of(self.nets[f"to_{to.value}"])  # type: ignore[index]
