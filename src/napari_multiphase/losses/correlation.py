"""HPN's pairing loss: the negative correlation of the two paths' maps (PAPER 001).

Implements: Eq. 1 L_corr = -sum_j c1_j c2_j / sqrt(sum_j c1_j^2 sum_j c2_j^2), c = f - mean_j f -> ``CorrelationLoss``,
with j over the N voxels of a patch. The equation is printed for one value per voxel; ``mode`` says what becomes of
channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.losses.reduce import global_sum

EPS = 1e-8
"""Under the root. Maps whose squared deviations multiply to less than this are constant: r = 0, without gradient."""


class CorrelationLoss(nn.Module):
    """L_corr of Eq. 1, in [-1, 1], the mean over the whole batch's samples (never pooled over them).

    Parameters
    ----------
    mode : "channel": r per channel, then the mean over channels. "flat": r over all entries of all channels.
        "project": r after a learnt 1x1x1 convolution to one channel, the same for both maps.
    channels : of the maps; needed by "project" only.
    """

    def __init__(self, mode: Literal["channel", "flat", "project"] = "channel", channels: int = 1) -> None:
        super().__init__()
        self.mode = mode
        if mode == "project":
            self.weight = nn.Parameter(torch.randn(1, channels, 1, 1, 1) / channels**0.5)

    def forward(self, f1: Tensor, f2: Tensor) -> Tensor:
        """Maps (B, C, D, H, W) of both paths -> a scalar; float32, or the maps' type where that is wider."""
        with torch.autocast(f1.device.type, enabled=False):
            r = correlation(self._rows(f1), self._rows(f2))
            count = global_sum(r.new_tensor(float(r.numel())))
            return -global_sum(r.sum()) / count

    def _rows(self, f: Tensor) -> Tensor:
        f = f.float() if f.dtype.itemsize < 4 else f
        if self.mode == "project":
            f = F.conv3d(f, self.weight.to(f.dtype))
        return f.flatten(2) if self.mode == "channel" else f.flatten(1)[:, None]


def correlation(f1: Tensor, f2: Tensor) -> Tensor:
    """Pearson's r over the last axis: (..., N), (..., N) -> (...); 0 where either is constant.

    Centred before multiplying: sums of squares minus squared sums cancel badly.
    """
    c1, c2 = f1 - f1.mean(-1, keepdim=True), f2 - f2.mean(-1, keepdim=True)
    squares = (c1 * c1).sum(-1) * (c2 * c2).sum(-1)
    constant = squares <= EPS
    r = (c1 * c2).sum(-1) / (torch.where(constant, 1.0, squares) + EPS).sqrt()
    return torch.where(constant, 0.0, r)
