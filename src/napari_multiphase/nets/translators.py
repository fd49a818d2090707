"""Networks that turn the image of one phase into that of the other, both in [-1, 1].

``ResnetGenerator`` is the ResNet-9 of CycleGAN (Zhu et al. 2017, after Johnson et al. 2016), which PCN takes (PAPER
000), on stacks of slices. ``UNetGenerator3D`` is the 3-D U-Net of PAPER 003: stride-2 convolutions down,
nearest upsampling and a convolution up (transposed convolutions leave checkerboards), long skips, on volumes.

The papers leave open, and we took: the 3-D output convolution is 1x1x1. Not theirs: ``norm: none`` takes no statistics,
so that a voxel depends on its surroundings alone; ``residual`` writes clamp(x + 2 tanh(h)), in which h is 0 at the
start, so that training starts from the identity and any intensity can still be reached from any other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import ResnetGeneratorConfig, UNetGenerator3DConfig
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.nets.initial import he_weights, normal_weights
from napari_multiphase.nets.instance_norm import InstanceNorm


def _norm_act(norm: str) -> list[nn.Module]:
    return [InstanceNorm()] * (norm == "instance") + [nn.ReLU()]


def stretched(x: Tensor, stretch: tuple[float, float]) -> Tensor:
    """(x - centre) * factor."""
    centre, factor = stretch
    return x if factor == 1 and not centre else (x - centre) * factor


def _start(net: nn.Module, last: nn.Module, config: ResnetGeneratorConfig | UNetGenerator3DConfig) -> None:
    (normal_weights if config.norm == "instance" else he_weights)(net)
    if config.residual:
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]


def _out(x: Tensor, h: Tensor, residual: bool) -> Tensor:
    return (x + 2 * h.tanh()).clamp(-1, 1) if residual else h.tanh()


# --- slices --------------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions of it, reflected at the border: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        first, last = (nn.Conv2d(channels, channels, 3) for _ in range(2))
        norms = [InstanceNorm()] * (norm == "instance")
        pads = [nn.ReflectionPad2d(1) for _ in range(2)]
        self.branch = nn.Sequential(pads[0], first, *_norm_act(norm), pads[1], last, *norms)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ResnetGenerator(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1]; H and W multiples of 4, 8 at least."""

    def __init__(self, config: ResnetGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        w, norm = config.width, config.norm
        last = nn.Conv2d(w, config.out_channels, 7)
        self.net = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(config.in_channels, w, 7),
            *_norm_act(norm),
            nn.Conv2d(w, 2 * w, 3, stride=2, padding=1),
            *_norm_act(norm),
            nn.Conv2d(2 * w, 4 * w, 3, stride=2, padding=1),
            *_norm_act(norm),
            *(ResidualBlock(4 * w, norm) for _ in range(config.blocks)),
            nn.ConvTranspose2d(4 * w, 2 * w, 3, stride=2, padding=1, output_padding=1),
            *_norm_act(norm),
            nn.ConvTranspose2d(2 * w, w, 3, stride=2, padding=1, output_padding=1),
            *_norm_act(norm),
            nn.ReflectionPad2d(3),
            last,
        )
        _start(self, last, config)

    def forward(self, x: Tensor) -> Tensor:
        first = (self.config.in_channels - self.config.out_channels) // 2
        return _out(x[:, first : first + self.config.out_channels], self.net(x), self.config.residual)


# --- volumes -------------------------------------------------------------------------------------------------------


def _conv(i: int, o: int, norm: str, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv3d(i, o, 3, stride, padding=1), *_norm_act(norm))


class _Up(nn.Module):
    """Coarse (B, i, d, h, w) and skip (B, o, 2d, 2h, 2w) -> (B, o, 2d, 2h, 2w)."""

    def __init__(self, i: int, o: int, norm: str) -> None:
        super().__init__()
        self.conv = _conv(i, o, norm)
        self.merge = nn.Sequential(_conv(2 * o, o, norm), _conv(o, o, norm))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        up = self.conv(F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return self.merge(torch.cat([up, skip], dim=1))


class UNetGenerator3D(nn.Module):
    """(B, 1, D, H, W) in [-1, 1] -> the same of the other phase; each side a multiple of ``config.divisor``."""

    def __init__(self, config: UNetGenerator3DConfig) -> None:
        super().__init__()
        self.config = config
        widths, norm = config.widths, config.norm
        steps = list(zip(widths, widths[1:], strict=False))
        self.first = nn.Sequential(_conv(1, widths[0], norm), _conv(widths[0], widths[0], norm))
        self.down = nn.ModuleList(
            nn.Sequential(_conv(i, o, norm, stride=2), _conv(o, o, norm), _conv(o, o, norm)) for i, o in steps
        )
        self.up = nn.ModuleList(_Up(i, o, norm) for o, i in reversed(steps))
        self.last = nn.Conv3d(widths[0], 1, 1)
        _start(self, self.last, config)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.first(stretched(x, self.config.stretch))]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for up in self.up:
            y = up(y, skips.pop())
        return _out(x, self.last(y), self.config.residual)
