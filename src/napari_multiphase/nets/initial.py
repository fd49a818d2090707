"""How the networks of the generative methods start."""

from __future__ import annotations

from torch import nn

STD = 0.02
"""Radford et al. 2016, as in CycleGAN."""


def normal_weights(net: nn.Module) -> None:
    """Weights of every convolution from a normal distribution of standard deviation 0.02, biases 0."""
    for module in net.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.normal_(module.weight, std=STD)
            _no_bias(module)


def he_weights(net: nn.Module) -> None:
    """Weights that keep the variance through convolutions and ReLU (He et al. 2015), biases 0: for networks without
    normalisation, through which weights of 0.02 let nothing pass."""
    for module in net.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            _no_bias(module)


def _no_bias(module: nn.modules.conv._ConvNd) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
