"""The uncertain region inpainting module URIM (PAPER 002, Sec. 3.2): Eq. 3, Eq. 4 and the max filter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.methods.urim.precision import no_float16
from napari_multiphase.nets.batchnorm import BatchNorm2d

LARGEST_LOG_RATIO = 10.0
"""M is 1 in any precision long before; its gradient is 0 beyond."""
LEAST_CONFIDENCE = 1e-6
"""A window whose confidences sum to less says nothing: LC-Conv gives its bias."""


def confidence_map(logits: Tensor) -> Tensor:
    """Eq. 3: M = 1 - exp(1 - Smax / Smin) in [0, 1], (B, K, H, W) logits or log-probabilities -> (B, 1, H, W).

    In float32 or wider. For K > 2 the ratio is largest over second largest. Smax / Smin = exp(|difference of logits|),
    which neither overflows nor divides; the quotient of probabilities would give a NaN gradient once Smin underflows.
    """
    wide = logits.float() if logits.dtype.itemsize < 4 else logits
    best = wide.topk(2, dim=1).values
    log_ratio = (best[:, :1] - best[:, 1:]).clamp(max=LARGEST_LOG_RATIO)
    return -torch.expm1(1 - log_ratio.exp())


def grow(confidence: Tensor) -> Tensor:
    """M after a 3x3 max filter of stride 1 (zero padding cannot exceed M >= 0)."""
    return F.max_pool2d(confidence, 3, 1, 1)


class LcConv(nn.Module):
    """Eq. 4: x' = W^T (X * M) / sum(M) + b, sums over the window; X (B, i, H, W), M (B, 1, H, W) -> (B, o, H, W).

    X and M are zero beyond the border, so that a border window divides by what is valid. Where the window's sum of M is
    below ``LEAST_CONFIDENCE``, x' = b. The quotient is taken in float32 or wider; the sum above it too, where it
    would be in float16, which has no digits left for a small M.
    """

    def __init__(self, i: int, o: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, size, padding=size // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(o))

    def forward(self, x: Tensor, confidence: Tensor) -> Tensor:
        size = self.conv.kernel_size[0]
        total = F.avg_pool2d(confidence, size, 1, size // 2, count_include_pad=True) * size**2
        with no_float16(x):
            summed = self.conv(x * confidence)
        empty = total < LEAST_CONFIDENCE
        mean = summed / torch.where(empty, torch.ones_like(total), total)
        return torch.where(empty, torch.zeros_like(mean), mean) + self.bias[:, None, None]


class Urim(nn.Module):
    """Decision features X (B, C, H, W) and the initial logits (B, K, H, W) -> final logits (B, K, H, W)."""

    def __init__(self, channels: int, classes: int, convs: int, detach: bool) -> None:
        super().__init__()
        self.detach = detach
        self.convs = nn.ModuleList(LcConv(channels, channels) for _ in range(convs))
        self.norms = nn.ModuleList(BatchNorm2d(channels) for _ in range(convs))
        self.classifier = nn.Conv2d(2 * channels, classes, 1)

    def forward(self, x: Tensor, initial: Tensor) -> Tensor:
        confidence = confidence_map(initial.detach() if self.detach else initial)
        refined = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            refined = F.relu(norm(conv(refined, confidence)))
            confidence = grow(confidence)
        return self.classifier(torch.cat([refined.to(x.dtype), x], dim=1))
