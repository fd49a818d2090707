"""The residual 3-D U-Net of DLTK (Pawlowski et al. 2017), which PaNN takes for its 3-D form.

A 3x3x3 convolution at full resolution, then one pre-activated residual unit per scale: batch normalisation, leaky
ReLU, convolution, twice, around a shortcut. A unit of stride 2 convolves with 4x4x4 and max-pools its shortcut; wider
outputs pad the shortcut with zero channels, narrower ones convolve it. The decoder upsamples linearly, appends the skip
and applies one unit. `norm` "instance" is ours, for batches too small for batch statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import ResidualUNet3DConfig
from napari_multiphase.nets.batchnorm import BatchNorm3d
from napari_multiphase.nets.convolution import Conv3d


class ResidualUnit(nn.Module):
    """(B, i, D, H, W) -> (B, o, D/stride, H/stride, W/stride)."""

    def __init__(self, i: int, o: int, stride: int, norm: str) -> None:
        super().__init__()
        self.extra = o - i
        self.norm1, self.norm2 = _norm(norm, i), _norm(norm, o)
        side, padding = (3, 1) if stride == 1 else (2 * stride, stride // 2)
        self.conv1 = Conv3d(i, o, side, stride, padding, bias=False)
        self.conv2 = Conv3d(o, o, 3, padding=1, bias=False)
        self.pool = nn.MaxPool3d(stride) if stride > 1 else nn.Identity()
        self.shortcut = Conv3d(i, o, 3, padding=1, bias=False) if i > o else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(self.norm1(x), 0.01))
        y = self.conv2(F.leaky_relu(self.norm2(y), 0.01))
        x = self.pool(x)
        if self.shortcut is not None:
            return y + self.shortcut(x)
        before = self.extra // 2
        return y + F.pad(x, (0, 0, 0, 0, 0, 0, before, self.extra - before))


class ResidualUNet3D(nn.Module):
    """(B, in_channels, D, H, W) -> logits (B, classes, D, H, W); each side a multiple of ``config.divisor``."""

    def __init__(self, config: ResidualUNet3DConfig, classes: int, in_channels: int = 1) -> None:
        super().__init__()
        widths = config.widths
        pairs = list(zip(widths, widths[1:], strict=False))
        self.stem = Conv3d(in_channels, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(ResidualUnit(i, o, 2, config.norm) for i, o in pairs)
        self.up = nn.ModuleList(ResidualUnit(i + o, o, 1, config.norm) for o, i in pairs)
        self.norm = _norm(config.norm, widths[0]) if config.final_norm else None
        self.head = Conv3d(widths[0], classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for up in reversed(self.up):
            y = F.interpolate(y, scale_factor=2.0, mode="trilinear", align_corners=False)
            y = up(torch.cat([skips.pop(), y], dim=1))
        return self.head(y if self.norm is None else F.leaky_relu(self.norm(y), 0.01))


def _norm(kind: str, channels: int) -> nn.Module:
    return BatchNorm3d(channels) if kind == "batch" else nn.InstanceNorm3d(channels, affine=True)
