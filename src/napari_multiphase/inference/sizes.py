"""A tile looked at in several sizes: what is larger or smaller than a network has learnt is seen as it has learnt it.

The mean of probabilities over resized copies of an image, as multi-scale testing does (Chen et al., "Attention to
Scale", CVPR 2016, average pooling over scales), tile by tile. Ours: the tile's own size counts as much as all others
together, for what is thin is lost where it is resized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_multiphase.inference.tiles import Shape, fit_tile

LEAST = 1e-9
"""Probabilities are kept this far from 0, where they have a logarithm."""
_ANY = (1 << 20,) * 3


def shapes_of(tile: Shape, further: Sequence[float], divisor: Shape) -> tuple[Shape, ...]:
    """`tile` (D, H, W) and what it becomes in each of the `further` sizes, to the nearest multiple of `divisor`; each
    shape once."""
    shapes = [tile]
    for size in further:
        d, h, w = (max(s, s * round(n * size / s)) for n, s in zip(tile, divisor, strict=True))
        shapes.append(fit_tile((d, h, w), _ANY, divisor))
    return tuple(dict.fromkeys(shapes))


Network = Callable[[Tensor], Tensor]


def in_sizes(network: Network, further: Sequence[float], divisor: Shape) -> Network:
    """`network` (B, C, d, h, w) -> logits (B, K, d, h, w), so that their softmax is the mean over all sizes, the tile's
    own weighing as much as the others together."""
    if not further:
        return network

    def run(x: Tensor) -> Tensor:
        d, h, w = x.shape[2:]
        _, *others = shapes_of((d, h, w), further, divisor)
        own = torch.softmax(network(x).float(), dim=1)
        if not others:
            return own.clamp_min_(LEAST).log_()
        total = torch.zeros_like(own)
        for shape in others:
            total += torch.softmax(_resized(network(_resized(x, shape)).float(), (d, h, w)), dim=1)
        return own.add_(total, alpha=1 / len(others)).div_(2).clamp_min_(LEAST).log_()

    return run


def _resized(x: Tensor, shape: Shape) -> Tensor:
    return F.interpolate(x, size=shape, mode="trilinear", align_corners=False)
