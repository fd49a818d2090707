"""A tile looked at in several sizes: what is larger or smaller than a network has learnt is seen as it has learnt it.

The mean of probabilities over resized copies of an image, as multi-scale testing does (Chen et al., "Attention to
Scale", CVPR 2016, average pooling over scales), tile by tile. Ours: the tile's own size counts as much as all others
together, for what is thin is lost where it is resized.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_multiphase.inference.engine import Network
from napari_multiphase.inference.tiles import Shape, shapes_of

LEAST = 1e-9
"""Probabilities are kept this far from 0, where they have a logarithm."""


def in_sizes(network: Network, further: Sequence[float], divisor: Shape) -> Network:
    """`network` (B, C, d, h, w) -> logits (B, K, d, h, w), so that their softmax is the mean over all sizes, the tile's
    own weighing as much as the others together."""
    if not further:
        return network

    def run(x: Tensor) -> Tensor:
        d, h, w = x.shape[2:]
        _, *others = shapes_of((d, h, w), further, divisor)
        if not others:
            return network(x)
        own = torch.softmax(network(x).float(), dim=1)
        total = torch.zeros_like(own)
        for shape in others:
            total += torch.softmax(_resized(network(_resized(x, shape)).float(), (d, h, w)), dim=1)
        return own.add_(total, alpha=1 / len(others)).div_(2).clamp_min_(LEAST).log_()

    return run


def _resized(x: Tensor, shape: Shape) -> Tensor:
    return F.interpolate(x, size=shape, mode="trilinear", align_corners=False)
