"""How a level's venous and arterial features become one: SAM (PAPER 002, Sec. 3.1) and what it is compared with.

Each module maps F_PV, F_ART (B, C, h, w) to F_aggr (B, C, h, w).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import UrimConfig
from napari_multiphase.methods.urim.encoders import conv_bn_relu
from napari_multiphase.methods.urim.precision import no_float16


class PhaseMapping(nn.Module):
    """One of SAM's two mappings M1, M2: z (B, 4, h, w) -> w0 (B, C, h, w), by a pyramid of four branches."""

    def __init__(self, channels: int, branch: int) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, branch, 1), nn.ReLU(inplace=True))
        self.convs = nn.ModuleList(conv_bn_relu(4, branch, size) for size in (7, 5, 3))
        self.last = nn.Conv2d(4 * branch, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        pooled = self.pooled(z).expand(-1, -1, *z.shape[2:])
        return self.last(torch.cat([pooled, *(conv(z) for conv in self.convs)], dim=1))


class Sam(nn.Module):
    """Selective aggregation: weights of the phases for every channel and place, their sum 1."""

    def __init__(self, channels: int, branch: int) -> None:
        super().__init__()
        self.m1 = PhaseMapping(channels, branch)
        self.m2 = PhaseMapping(channels, branch)

    def weights(self, venous: Tensor, arterial: Tensor) -> Tensor:
        """w_PV and w_ART, stacked: (2, B, C, h, w); softmax over the phases, in float32 or wider."""
        z = torch.cat([descriptor(venous), descriptor(arterial)], dim=1)
        raw = torch.stack([self.m1(z), self.m2(z)])
        return torch.softmax(raw.float() if raw.dtype.itemsize < 4 else raw, dim=0)

    def forward(self, venous: Tensor, arterial: Tensor) -> Tensor:
        w_venous, w_arterial = self.weights(venous, arterial).to(venous.dtype)
        return w_venous * venous + w_arterial * arterial


def descriptor(features: Tensor) -> Tensor:
    """F' of a phase: mean and largest over the channels, (B, C, h, w) -> (B, 2, h, w)."""
    return torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)


class SumFusion(nn.Module):
    """MP: F_PV + F_ART."""

    def forward(self, venous: Tensor, arterial: Tensor) -> Tensor:
        return venous + arterial


class ScalarFusion(nn.Module):
    """MW: a F_PV + b F_ART with free scalars a, b."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.full((2,), float(initial)))

    def forward(self, venous: Tensor, arterial: Tensor) -> Tensor:
        a, b = self.scalars.to(venous.dtype)
        return a * venous + b * arterial


class AttentionFusion(nn.Module):
    """PA: F_PV + (1 + s g) F_ART, gate g (B, C, 1, 1) from the C x C affinity between the phases, s trainable.

    g_i = sigmoid(sum_j softmax_i(max - A)_ij), A_ij the mean product of arterial channel i and venous channel j. The
    softmax runs over i and the sum over j; summed over its own axis, as in the public code, it is 1 for any input.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def gate(self, venous: Tensor, arterial: Tensor) -> Tensor:
        """g in (0, 1), (B, C, 1, 1)."""
        wide = [x.float() if x.dtype == torch.float16 else x for x in (venous, arterial)]  # A_ij may exceed 65504
        v, a = (x.flatten(2) * (x.shape[2] * x.shape[3]) ** -0.5 for x in wide)
        with no_float16(venous):
            affinity = a @ v.transpose(1, 2)
        affinity = affinity.float() if affinity.dtype.itemsize < 4 else affinity
        attention = torch.softmax(affinity.amax(1, keepdim=True) - affinity, dim=1)
        return torch.sigmoid(attention.sum(2))[:, :, None, None]

    def forward(self, venous: Tensor, arterial: Tensor) -> Tensor:
        return venous + (1 + self.scale * self.gate(venous, arterial)).to(arterial.dtype) * arterial


def level_fusion(config: UrimConfig, channels: int) -> nn.Module:
    """The module of one level for the fusions that work level by level: mp, mw, pa, sam."""
    match config.fusion:
        case "mp":
            return SumFusion()
        case "mw":
            return ScalarFusion(config.mw_initial)
        case "pa":
            return AttentionFusion(config.pa_scale)
        case _:
            return Sam(channels, config.sam_branch)


def to_size(x: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """`x` (B, C, h, w) bilinearly at `size` (H, W); `x` itself where it has it."""
    same = tuple(x.shape[2:]) == tuple(size)
    return x if same else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
