"""The residual 3-D U-Net of PaNN's 3-D form."""

import pytest
import torch

from napari_multiphase.config import ResidualUNet3DConfig
from napari_multiphase.nets.residual_unet3d import ResidualUNet3D, ResidualUnit


def test_the_papers_size_on_the_meta_device():
    with torch.device("meta"):
        net = ResidualUNet3D(ResidualUNet3DConfig(), classes=14)
        assert net(torch.empty(1, 1, 64, 64, 64)).shape == (1, 14, 64, 64, 64)
    assert sum(p.numel() for p in net.parameters()) == 2_287_024


def test_a_unit_whose_branch_is_silent_passes_its_pooled_input_on_among_zero_channels():
    unit = ResidualUnit(3, 8, stride=2, norm="batch").eval()
    torch.nn.init.zeros_(unit.conv2.weight)
    x = torch.randn(1, 3, 4, 4, 4)
    out = unit(x)
    assert torch.equal(out[:, 2:5], torch.nn.functional.max_pool3d(x, 2))
    assert not out[:, :2].any() and not out[:, 5:].any()


@pytest.mark.parametrize(("norm", "final"), [("batch", False), ("instance", True)])
def test_shapes_and_every_parameter_learns(norm, final):
    torch.manual_seed(0)
    config = ResidualUNet3DConfig(widths=(4, 6, 8), norm=norm, final_norm=final)
    assert config.divisor == 4
    net = ResidualUNet3D(config, classes=3)
    out = net(torch.randn(2, 1, 8, 12, 16))
    assert out.shape == (2, 3, 8, 12, 16)
    out.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
