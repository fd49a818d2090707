"""DeepLabv3+: shapes, the pyramid, any input size."""

import pytest
import torch

from napari_multiphase.config import DeepLabConfig
from napari_multiphase.nets.deeplab import DeepLab

SMALL = DeepLabConfig(width=4, channels=8, low_channels=4)


@pytest.mark.parametrize(("encoder", "count"), [("resnet50", 40_350_382), ("resnet101", 59_342_510)])
def test_the_papers_size_on_the_meta_device(encoder, count):
    with torch.device("meta"):
        net = DeepLab(DeepLabConfig(encoder=encoder), classes=14)
        assert net(torch.empty(2, 3, 512, 512)).shape == (2, 14, 512, 512)
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_pyramid_has_the_papers_rates_at_stride_16():
    net = DeepLab(SMALL, classes=3)
    assert [branch[0].dilation[0] for branch in net.aspp.branches] == [1, 6, 12, 18]
    assert [f.shape[-1] for f in net.encoder(torch.randn(2, 3, 64, 64))] == [32, 16, 8, 4, 4]


@pytest.mark.parametrize("size", [(64, 96), (65, 33)])
def test_any_size_comes_back_and_every_parameter_learns(size):
    torch.manual_seed(0)
    net = DeepLab(SMALL, classes=3)
    out = net(torch.randn(2, 3, *size))
    assert out.shape == (2, 3, *size)
    out.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
