"""Streams of five blocks B1 to B5 (PAPER 002, Sec. 3.1), run block by block so that fusion can feed back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from napari_multiphase.config.urim import EncoderConfig
from napari_multiphase.nets.batchnorm import BatchNorm2d
from napari_multiphase.nets.resnet import resnet

RESNETS = {"resnext50": "resnext50_32x4d", "resnet50": "resnet50"}


class ResidualStream(nn.Module):
    """A ResNet or ResNeXt whose five levels are called one by one; ``net`` has torchvision's parameter names."""

    def __init__(self, config: EncoderConfig, in_channels: int) -> None:
        super().__init__()
        self.net = resnet(RESNETS[config.kind], in_channels, width=config.stem)

    def blocks(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """B1 to B5; the pooling before B2 belongs to B2."""
        net = self.net
        return [
            nn.Sequential(net.conv1, net.bn1, net.relu),
            nn.Sequential(net.maxpool, net.layer1),
            net.layer2,
            net.layer3,
            net.layer4,
        ]


class UNetStream(nn.Module):
    """The encoder of a U-Net: two 3x3 convolutions per level, with batch norm and ReLU; 2x2 max pooling between."""

    def __init__(self, config: EncoderConfig, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *config.widths)
        self.levels = nn.ModuleList(
            nn.Sequential(
                *([nn.MaxPool2d(2)] if level else []),
                *conv_bn_relu(widths[level], widths[level + 1]),
                *conv_bn_relu(widths[level + 1], widths[level + 1]),
            )
            for level in range(5)
        )

    def blocks(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """B1 (full size) to B5 (stride 16)."""
        return list(self.levels)


Stream = ResidualStream | UNetStream


def stream(config: EncoderConfig, in_channels: int) -> Stream:
    """An encoder for (B, in_channels, H, W), freshly initialised."""
    return (UNetStream if config.kind == "unet" else ResidualStream)(config, in_channels)


def conv_bn_relu(i: int, o: int, size: int = 3) -> nn.Sequential:
    """(B, i, H, W) -> (B, o, H, W)."""
    conv = nn.Conv2d(i, o, size, padding=size // 2, bias=False)
    return nn.Sequential(conv, BatchNorm2d(o), nn.ReLU(inplace=True))
