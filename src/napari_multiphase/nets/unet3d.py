"""A residual 3-D U-Net that is cheap on a CPU: most of its work is done below full resolution.

Encoder: one convolution at full resolution, then one residual block of two convolutions per halving (stride 2).
Decoder: a 1x1x1 convolution to the finer width *before* nearest-neighbour upsampling, concatenation with the skip, one
convolution. Every 3x3x3 convolution is followed by instance normalisation and leaky ReLU. After Cicek et al. 2016
(3D U-Net) with the residual encoder of Isensee et al. 2024; widths and the cheap decoder are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import UNet3DConfig
from napari_multiphase.nets.convolution import Conv3d


class ConvNormAct(nn.Sequential):
    """3x3x3 convolution, instance normalisation, leaky ReLU: (B, i, D, H, W) -> (B, o, D/s, H/s, W/s)."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__(
            Conv3d(i, o, 3, stride, padding=1, bias=False),
            nn.InstanceNorm3d(o, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )


class ResidualDown(nn.Module):
    """Two convolutions, the first of stride 2, around a shortcut: (B, i, D, H, W) -> (B, o, D/2, H/2, W/2)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.first = ConvNormAct(i, o, stride=2)
        self.conv = Conv3d(o, o, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(o, affine=True)
        self.shortcut = nn.Conv3d(i, o, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self.first(x)))
        return F.leaky_relu(y + self.shortcut(x), 0.01)


class Up(nn.Module):
    """Coarse (B, i, d, h, w) and skip (B, o, 2d, 2h, 2w) -> (B, o, 2d, 2h, 2w)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(i, o, 1, bias=False)
        self.merge = ConvNormAct(2 * o, o)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.reduce(coarse), scale_factor=2.0, mode="nearest")
        return self.merge(torch.cat([up, skip], dim=1))


class UNet3D(nn.Module):
    """(B, in_channels, D, H, W) -> logits (B, classes, D, H, W); each side a multiple of ``config.divisor``."""

    def __init__(self, config: UNet3DConfig, classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.stem = ConvNormAct(config.in_channels, widths[0])
        self.down = nn.ModuleList(ResidualDown(i, o) for i, o in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(Up(i, o) for o, i in zip(widths, widths[1:], strict=False))
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for up in reversed(self.up):
            y = up(y, skips.pop())
        return self.head(y)
