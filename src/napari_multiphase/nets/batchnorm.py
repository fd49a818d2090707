"""Batch normalisation whose statistics span all processes, on any device.

``torch.nn.SyncBatchNorm`` refuses CPU tensors. In one process, and in evaluation mode, these are exactly torch's own
layers, under torch's own parameter names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist

from napari_multiphase.losses.reduce import global_sum


class _Shared:
    training: bool

    def forward(self, x: Tensor) -> Tensor:
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not (self.training and several):
            return super().forward(x)  # type: ignore[misc]
        return _normalise(self, x)  # type: ignore[arg-type]


def _normalise(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    wide = x.float() if x.dtype.itemsize < 4 else x
    axes = [a for a in range(x.ndim) if a != 1]
    count = global_sum(wide.new_tensor(float(wide.numel() // wide.shape[1])))
    mean = global_sum(wide.sum(axes)) / count
    shape = [1, -1, *[1] * (x.ndim - 2)]
    centred = wide - mean.reshape(shape)
    variance = global_sum((centred * centred).sum(axes)) / count
    assert layer.running_mean is not None and layer.running_var is not None and layer.momentum is not None
    with torch.no_grad():
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked += 1
    y = centred * (variance + layer.eps).rsqrt().reshape(shape)
    return (y * layer.weight.reshape(shape) + layer.bias.reshape(shape)).to(x.dtype)


class BatchNorm2d(_Shared, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` with statistics over all processes."""


class BatchNorm3d(_Shared, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` with statistics over all processes."""
