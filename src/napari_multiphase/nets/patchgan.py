"""PatchGAN: a convolutional discriminator with one judgement per patch (Isola et al. 2017), on slices or volumes.

4-wide convolutions, `halvings` of them with stride 2 and two with stride 1, leaky ReLU of slope 0.2, instance
normalisation but for the first and the last. With three halvings a judgement sees 70 voxels a side, from the output
backwards 1, 4, 7, 16, 34, 70; with two it sees 34. PCN (PAPER 000) judges slices, PAPER 003 volumes.

Not theirs, and off unless settings say so, for trainings of a thousand steps: no normalisation, stretched intensities,
and labels beside the image (``config.nets.PatchGanConfig``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_multiphase.config import PatchGanConfig
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.nets.initial import he_weights, normal_weights
from napari_multiphase.nets.instance_norm import InstanceNorm
from napari_multiphase.nets.translators import stretched


class PatchGan(nn.Module):
    """What `shown` gives of images in [-1, 1] -> scores (B, 1, *fewer) of a patch each, 1 for real; sides from
    ``config.least``. `classes` counts the labels' channels, the background with them."""

    def __init__(self, config: PatchGanConfig, classes: int = 1) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        conv = nn.Conv2d if config.axes == 2 else Conv3d
        strides = [2] * config.halvings + [1]
        widths = [config.width * 2 ** min(level, 3) for level in range(len(strides))]
        seen = config.in_channels * (classes if config.structures else 1) + (classes - 1) * config.structures
        layers: list[nn.Module] = []
        for i, o, stride in zip([seen, *widths], widths, strides, strict=False):
            norm = [InstanceNorm()] if layers and config.norm == "instance" else []
            layers += [conv(i, o, 4, stride, padding=1), *norm, nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, conv(widths[-1], 1, 4, 1, padding=1))
        (normal_weights if config.norm == "instance" else he_weights)(self)

    def shown(self, x: Tensor, y: Tensor) -> Tensor:
        """Images (B, C, *sides) and the labels' channels of what they show (B, *sides) -> what a history can hold
        (B, ``config.shown``, *sides): the images alone, or with the labels behind them."""
        return torch.cat([x, y[:, None].to(x)], dim=1) if self.config.structures else x

    def forward(self, x: Tensor) -> Tensor:
        if not self.config.structures:
            return self.net(stretched(x, self.config.stretch))
        image, channel = stretched(x[:, :-1], self.config.stretch), x[:, -1:]
        masks = [(channel == c).to(x) for c in range(1, self.classes)]
        return self.net(torch.cat([image, *masks, *(mask * image for mask in masks)], dim=1))
