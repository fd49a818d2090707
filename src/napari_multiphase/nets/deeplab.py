"""DeepLabv3+ (Chen et al. 2018): a dilated ResNet, atrous spatial pyramid pooling, a light decoder.

Output stride 16; the pyramid is a 1x1 convolution, three 3x3 ones of rates 6, 12 and 18, and the pooled image; the
decoder joins it at stride 4 with the first level's features, cut to 48 channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import DeepLabConfig
from napari_multiphase.nets.batchnorm import BatchNorm2d
from napari_multiphase.nets.resnet import resnet


class ConvNormReLU(nn.Sequential):
    """Convolution that keeps the size, batch normalisation, ReLU: (B, i, H, W) -> (B, o, H, W)."""

    def __init__(self, i: int, o: int, side: int = 1, rate: int = 1) -> None:
        super().__init__(
            nn.Conv2d(i, o, side, padding=rate * (side // 2), dilation=rate, bias=False),
            BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (B, i, h, w) -> (B, o, h, w)."""

    def __init__(self, i: int, o: int, rates: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNormReLU(i, o), *(ConvNormReLU(i, o, 3, rate) for rate in rates)])
        self.pooled = ConvNormReLU(i, o)
        self.project = ConvNormReLU(o * (len(rates) + 2), o)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.dropout(self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1)))


class DeepLab(nn.Module):
    """(B, in_channels, H, W) -> logits (B, classes, H, W), any size."""

    def __init__(self, config: DeepLabConfig, classes: int, in_channels: int = 3) -> None:
        super().__init__()
        width = config.channels
        self.encoder = resnet(config.encoder, in_channels, config.output_stride, config.width)
        self.aspp = ASPP(self.encoder.channels[-1], width, config.rates, config.dropout)
        self.low = ConvNormReLU(self.encoder.channels[1], config.low_channels)
        self.decoder = nn.Sequential(ConvNormReLU(width + config.low_channels, width, 3), ConvNormReLU(width, width, 3))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.encoder(x)
        low = self.low(features[1])  # stride 4
        high = _resize(self.aspp(features[-1]), low.shape[2:])
        return _resize(self.head(self.decoder(torch.cat([high, low], dim=1))), x.shape[2:])


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
