"""FCN-8s on VGG-16: segmentation of a slice at strides 8, 16 and 32 (Long et al. 2015; Simonyan and Zisserman 2015).

The first convolution pads by 100, so that any size of image goes through the 7x7 layer; crops by 5, 9 and 31 bring the
levels back together. Upsampling is bilinear and fixed (transposed convolutions whose weights never learn, and which
therefore are no parameters). Score weights start at 0: every logit is 0 at first. ``vgg`` has torchvision's parameter
names, its fully connected layers being convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import Fcn8sConfig

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and 3x3 convolutions before each 2x2 pooling."""
FULL = 4096
"""Channels of the layers that were fully connected."""
PADDING = 100
CROP_POOL4, CROP_POOL3, CROP = 5, 9, 31


class Vgg16(nn.Module):
    """(B, 3, H, W) -> maps after the third and fourth pooling and after the last hidden layer."""

    def __init__(self, config: Fcn8sConfig) -> None:
        super().__init__()
        self.channels = [max(1, round(width * config.width_mult)) for width, _ in BLOCKS]
        self.width = max(1, round(FULL * config.width_mult))
        layers: list[nn.Module] = []
        i = 3
        for o, (_, convs) in zip(self.channels, BLOCKS, strict=True):
            for _ in range(convs):
                layers += [nn.Conv2d(i, o, 3, padding=1 if layers else PADDING), nn.ReLU(inplace=True)]
                i = o
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        full = [nn.Conv2d(i, self.width, 7), nn.Conv2d(self.width, self.width, 1)]
        self.classifier = nn.Sequential(
            *(layer for conv in full for layer in (conv, nn.ReLU(inplace=True), nn.Dropout(config.dropout)))
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)
        return pooled[2], pooled[3], self.classifier(x)


class Fcn8s(nn.Module):
    """(B, 3, H, W) -> logits (B, outputs, H, W), of any size."""

    def __init__(self, config: Fcn8sConfig, outputs: int = 3) -> None:
        super().__init__()
        self.vgg = Vgg16(config)
        self.score = nn.Conv2d(self.vgg.width, outputs, 1)
        self.score_pool4 = nn.Conv2d(self.vgg.channels[3], outputs, 1)
        self.score_pool3 = nn.Conv2d(self.vgg.channels[2], outputs, 1)
        for head in (self.score, self.score_pool4, self.score_pool3):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        pool3, pool4, hidden = self.vgg(x)
        y = upsampled(self.score(hidden), 2)
        y = upsampled(y + cropped(self.score_pool4(pool4), CROP_POOL4, y.shape), 2)
        y = upsampled(y + cropped(self.score_pool3(pool3), CROP_POOL3, y.shape), 8)
        return cropped(y, CROP, x.shape)


def cropped(x: Tensor, offset: int, size: torch.Size) -> Tensor:
    """(B, C, H, W) from `offset` on in both axes, as large as the last two of `size`."""
    return x[:, :, offset : offset + size[2], offset : offset + size[3]]


def upsampled(x: Tensor, factor: int) -> Tensor:
    """(B, C, h, w) -> (B, C, factor (h + 1), factor (w + 1)), bilinear: a transposed convolution of size 2 factor."""
    channels = x.shape[1]
    kernel = bilinear(2 * factor).to(x).expand(channels, 1, -1, -1)
    return F.conv_transpose2d(x, kernel, stride=factor, groups=channels)


def bilinear(size: int) -> Tensor:
    """(size, size) weights of bilinear interpolation by size / 2, for an even `size`."""
    tent = 1 - (torch.arange(size) - (size - 1) / 2).abs() / (size / 2)
    return tent[:, None] * tent[None, :]
