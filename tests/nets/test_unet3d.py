"""Shapes, size and flow of the 3-D U-Net."""

import pytest
import torch

from napari_multiphase.config import UNet3DConfig
from napari_multiphase.nets.unet3d import UNet3D

SMALL = UNet3DConfig(widths=(4, 6, 8))


@pytest.mark.parametrize("sides", [(4, 8, 12), (8, 8, 8)])
def test_output_has_the_input_grid_and_one_channel_per_class(sides):
    assert UNet3D(SMALL, classes=5)(torch.randn(2, 1, *sides)).shape == (2, 5, *sides)


def test_divisor_is_the_least_side_that_halves_evenly():
    assert SMALL.divisor == 4
    assert UNet3DConfig().divisor == 16


def test_two_default_nets_fit_six_megabytes_in_float16():
    with torch.device("meta"):
        net = UNet3D(UNet3DConfig(), classes=24)
    assert 2 * 2 * sum(p.numel() for p in net.parameters()) < 6e6


def test_every_parameter_gets_a_gradient():
    net = UNet3D(SMALL, classes=3)
    net(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
