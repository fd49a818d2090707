"""The liver region and the input made with it (PAPER 002, Sec. 3.3): ResUNet, stacks of slices, masking, alignment."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.methods.urim.encoders import conv_bn_relu
from napari_multiphase.nets.batchnorm import BatchNorm2d

# --- network -------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Two 3x3 convolutions, the first of `stride`, around a shortcut: (B, i, H, W) -> (B, o, H/s, W/s)."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.first_norm = BatchNorm2d(o)
        self.second = nn.Conv2d(o, o, 3, padding=1, bias=False)
        self.second_norm = BatchNorm2d(o)
        self.shortcut = nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(y + self.shortcut(x))


class LiverNet(nn.Module):
    """Venous stacks (B, slices, H, W) in [-1, 1] -> logits (B, 2, H, W) of the centre slice: other, liver."""

    def __init__(self, widths: tuple[int, ...], slices: int) -> None:
        super().__init__()
        steps = list(zip(widths, widths[1:], strict=False))
        self.stem = conv_bn_relu(slices, widths[0])
        self.down = nn.ModuleList(Residual(i, o, stride=2) for i, o in steps)
        self.narrow = nn.ModuleList(nn.Conv2d(i, o, 1) for o, i in steps)
        self.up = nn.ModuleList(Residual(2 * o, o) for o, _ in steps)
        self.head = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for narrow, up in zip(reversed(self.narrow), reversed(self.up), strict=True):
            y = F.interpolate(narrow(y), scale_factor=2.0, mode="nearest")
            y = up(torch.cat([y, skips.pop()], dim=1))
        return self.head(y)


# --- input -----------------------------------------------------------------------------------------------------------


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], *then* times the mask: outside the liver is 0, not the grey of 0 HU."""
    return (x + 1) / 2 * mask


# --- alignment -----------------------------------------------------------------------------------------------------


def aligned(x: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """`x` (B, D, H, W) moved in plane by whole voxels until the centre of the mask `own` (B, D, H, W) lies where that
    of `other` does, as far as the patch shows them; -1 (air) comes in. An item stays where either mask is empty."""
    moved = [_shift(item, _step(a, b)) for item, a, b in zip(x, own, other, strict=True)]
    return torch.stack(moved)


def _step(own: Tensor, other: Tensor) -> tuple[int, int]:
    if not (own.any() and other.any()):
        return 0, 0
    way = other.nonzero()[:, 1:].double().mean(0) - own.nonzero()[:, 1:].double().mean(0)
    dy, dx = (round(float(step)) for step in way)
    return dy, dx


def _shift(x: Tensor, step: tuple[int, int]) -> Tensor:
    height, width = x.shape[-2:]
    dy, dx = step
    return F.pad(x, (dx, -dx, dy, -dy), value=-1.0)[..., :height, :width]
