"""PatchGAN: a convolutional discriminator with one judgement per patch (Isola et al. 2017), on slices or volumes.

4-wide convolutions, `halvings` of them with stride 2 and two with stride 1, leaky ReLU of slope 0.2, instance
normalisation but for the first and the last. With three halvings a judgement sees 70 voxels a side, from the output
backwards 1, 4, 7, 16, 34, 70; with two it sees 34. PCN (PAPER 000) judges slices, PAPER 003 volumes.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_multiphase.config import PatchGanConfig
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.nets.initial import normal_weights
from napari_multiphase.nets.instance_norm import InstanceNorm


class PatchGan(nn.Module):
    """(B, C, *sides) in [-1, 1] -> scores (B, 1, *fewer) of a patch each, 1 for real; sides from ``config.least``."""

    def __init__(self, config: PatchGanConfig) -> None:
        super().__init__()
        conv = nn.Conv2d if config.axes == 2 else Conv3d
        strides = [2] * config.halvings + [1]
        widths = [config.width * 2 ** min(level, 3) for level in range(len(strides))]
        layers: list[nn.Module] = []
        for i, o, stride in zip([config.in_channels, *widths], widths, strides, strict=False):
            layers += [conv(i, o, 4, stride, padding=1), *([InstanceNorm()] if layers else []), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, conv(widths[-1], 1, 4, 1, padding=1))
        normal_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
