"""3-D convolution that also learns where a map is two slices deep.

oneDNN's bfloat16 kernel of torch 2.13 gives the weights of a 3x3x3 convolution a wrong gradient (often infinite) on a
CPU where the input is exactly two slices deep, as the coarsest maps of a U-Net may be. There, float32 is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with right gradients on every device."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.shape[2] == 2 and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)
