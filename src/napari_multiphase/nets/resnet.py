"""Encoders ResNet-50, ResNet-101 and ResNeXt-50 (32x4d), under torchvision's parameter names.

He et al. 2016 (bottleneck residual networks; stride in the 3x3 convolution, as torchvision has it), Xie et al. 2017
(grouped 3x3 convolutions), Chen et al. 2018 (strides of the last levels traded for dilation). No classifier: ``fc.*``
of a weight file is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_multiphase.errors import UserError
from napari_multiphase.nets.batchnorm import BatchNorm2d

EXPANSION = 4


@dataclass(frozen=True)
class ResNetKind:
    """Blocks per level, groups of the 3x3 convolutions, and their width over the level's nominal width."""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    inner: int = 1


KINDS = {
    "resnet50": ResNetKind((3, 4, 6, 3)),
    "resnet101": ResNetKind((3, 4, 23, 3)),
    "resnext50_32x4d": ResNetKind((3, 4, 6, 3), groups=32, inner=2),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 (stride, dilation, groups), 1x1 around a shortcut: (B, i, H, W) -> (B, 4 planes, H/stride, W/stride)."""

    def __init__(self, i: int, planes: int, kind: ResNetKind, groups: int, stride: int, dilation: int) -> None:
        super().__init__()
        inner, o = planes * kind.inner, planes * EXPANSION
        self.conv1 = nn.Conv2d(i, inner, 1, bias=False)
        self.bn1 = BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, groups, bias=False)
        self.bn2 = BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, o, 1, bias=False)
        self.bn3 = BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(B, in_channels, H, W) -> features of five levels, finest first; see `channels` and `strides`.

    Attributes
    ----------
    channels : per level; (64, 256, 512, 1024, 2048) at full width.
    strides : per level; (2, 4, 8, 16, 32) at output stride 32, (2, 4, 8, 16, 16) at 16, (2, 4, 8, 8, 8) at 8.
    """

    def __init__(self, kind: ResNetKind, in_channels: int = 3, output_stride: int = 32, width: int = 64) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride}")
        planes = [width * 2**level for level in range(4)]
        self.channels = (width, *(p * EXPANSION for p in planes))
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        groups = max(1, kind.groups * width // 64)
        strides, dilation, levels = [2, 4], 1, []
        for level, (blocks, p) in enumerate(zip(kind.blocks, planes, strict=True)):
            stride, before = 1 if level == 0 else 2, dilation
            if strides[-1] * stride > output_stride:
                stride, dilation = 1, dilation * 2
            first = Bottleneck(self.channels[level], p, kind, groups, stride, before)
            rest = (Bottleneck(p * EXPANSION, p, kind, groups, 1, dilation) for _ in range(blocks - 1))
            levels.append(nn.Sequential(first, *rest))
            if level:
                strides.append(strides[-1] * stride)
        self.layer1, self.layer2, self.layer3, self.layer4 = levels
        self.strides = tuple(strides)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.relu(self.bn1(self.conv1(x)))]
        y = self.maxpool(features[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            y = layer(y)
            features.append(y)
        return features


def resnet(name: str, in_channels: int = 3, output_stride: int = 32, width: int = 64) -> ResNet:
    """The encoder of that name, freshly initialised (He et al. 2015).

    `output_stride` 16 or 8 trades the strides of the last levels for dilation; `width` is the stem's channels (64 in
    the papers, less for tests; every level and the groups shrink with it). A UserError names the encoders there are.
    """
    if name not in KINDS:
        raise UserError(f"there is no encoder '{name}': choose one of {', '.join(KINDS)}")
    return ResNet(KINDS[name], in_channels, output_stride, width)


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load a safetensors file of torchvision's names (ImageNet weights) into `encoder`; what it does not have (a
    classifier) is left out. A layer that is fully connected in the file may be a convolution of its whole input here.

    A UserError says which tensor is missing or of another shape.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as encoder weights (safetensors): {error}") from error
    state = {}
    for name, own in encoder.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(own)
            continue
        if name not in stored:
            raise UserError(
                f"{path} has no tensor '{name}': give the weights of this encoder, named as torchvision does"
            )
        given = stored[name]
        if given.ndim == 2 and own.ndim == 4 and given.shape == own.flatten(1).shape:
            given = given.view_as(own)
        if given.shape != own.shape:
            shapes = f"{tuple(given.shape)}, not {tuple(own.shape)}"
            raise UserError(f"{path}: '{name}' is {shapes}: give the weights of this encoder")
        state[name] = given
    encoder.load_state_dict(state)
