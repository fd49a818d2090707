"""The gradient of a 3-D convolution under mixed precision, also where maps are two slices deep."""

import pytest
import torch

from napari_multiphase.nets.convolution import Conv3d


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_bfloat16_gradients_of_the_weights_are_those_of_float32(depth):
    torch.manual_seed(0)
    conv = Conv3d(32, 32, 3, padding=1, bias=False)
    x = torch.randn(4, 32, depth, 8, 8)
    (exact,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    (mixed,) = torch.autograd.grad(y.float().square().sum(), conv.weight)
    assert (mixed - exact).norm() < 0.02 * exact.norm()
