"""Sums over the whole batch, however many processes share it.

A loss that is a ratio of sums (a mean over annotated voxels, a soft Dice, a mean probability) equals the loss of one
process only if numerator and denominator are summed over all of them first. The loop averages gradients over the
processes; the sums' backward pass is scaled to match.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def global_sum(local: Tensor) -> Tensor:
    """`local` summed over all processes, differentiable; `local` itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return local
    return _AllReduce.apply(local)


def global_mean(values: Tensor) -> Tensor:
    """Mean of `values` over all processes, which may hold different numbers of them."""
    return global_sum(values.sum()) / global_sum(values.new_tensor(float(values.numel())))


def gathered(local: Tensor) -> tuple[Tensor, int]:
    """`local` (B, ...) of all processes, one after the other, and where the own part of it begins; detached."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return local.detach(), 0
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local.detach().contiguous())
    return torch.cat(parts), dist.get_rank() * len(local)


class _AllReduce(torch.autograd.Function):
    """Every process computes the same loss L of the sum, so dL/d(local) summed over processes is size x dL/d(sum);
    averaging the parameters' gradients over the processes takes the factor out again."""

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        total = local.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
