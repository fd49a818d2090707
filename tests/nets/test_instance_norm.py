"""Instance normalisation: torch's own values, and the whole volume's where only parts are seen."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_multiphase.nets.instance_norm import InstanceNorm, Moments


@pytest.mark.parametrize(
    ("torchs", "shape"), [(nn.InstanceNorm2d(3), (2, 3, 5, 6)), (nn.InstanceNorm3d(3), (2, 3, 4, 5, 6))]
)
def test_it_is_torchs_layer_without_affine(torchs, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 7
    axes = tuple(range(2, x.ndim))
    expected = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
    layer = InstanceNorm()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), torchs.double()(x), rtol=0, atol=1e-12)
    assert layer.state_dict() == {}


def test_gradients_are_exact():
    x = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(InstanceNorm(), (x,))


def test_one_value_has_no_variance():
    with pytest.raises(ValueError, match="spatial element"):
        InstanceNorm()(torch.zeros(1, 4, 1, 1, 1))


def test_moments_of_uneven_parts_are_those_of_the_whole():
    torch.manual_seed(1)
    x = torch.randn(1, 4, 9, 8, 6, dtype=torch.float64) * torch.tensor([1, 5, 1e-3, 1.0]).view(1, 4, 1, 1, 1) + 300
    moments = Moments()
    for part in (x[:, :, :2], x[:, :, 2:7, :3], x[:, :, 2:7, 3:], x[:, :, 7:]):
        moments.add(part)
    assert moments.count == 9 * 8 * 6
    torch.testing.assert_close(moments.mean, x.mean((0, 2, 3, 4)), rtol=0, atol=1e-10)
    torch.testing.assert_close(moments.variance, x.var((0, 2, 3, 4), correction=0), rtol=1e-10, atol=0)


def test_a_tiled_forward_pass_by_gathered_statistics_is_the_untiled_one():
    """A strided layer between two normalisations; each tile owns half and sees context around it."""
    torch.manual_seed(2)
    norms = InstanceNorm(), InstanceNorm()
    a, b = torch.randn(3, 1, 3, 3, 3, dtype=torch.float64), torch.randn(2, 3, 3, 3, 3, dtype=torch.float64)

    def net(x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(norms[0](F.conv3d(x, a, padding=1)), 0.1)
        return norms[1](F.conv3d(x, b, padding=1, stride=2)) + 0.5

    x = torch.randn(1, 1, 24, 8, 8, dtype=torch.float64) + torch.linspace(-3, 3, 24).view(-1, 1, 1)
    whole = net(x)
    tiles = [(slice(0, 16), (0, 12, 16)), (slice(8, 24), (4, 16, 16))]
    for norm in norms:
        moments = Moments()
        for seen, along_z in tiles:
            with norm.gathering(moments, (along_z, (0, 8, 8), (0, 8, 8))):
                net(x[:, :, seen])
                pytest.fail("the pass goes on after what was asked for")
        norm.use(moments)
    parts = [net(x[:, :, seen])[:, :, start // 2 : stop // 2] for seen, (start, stop, _) in tiles]
    torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=0, atol=1e-10)
    for norm in norms:
        norm.use(None)
    torch.testing.assert_close(net(x), whole, rtol=0, atol=0)


def test_half_precision_is_normalised_by_float32_statistics():
    x = (torch.randn(1, 3, 6, 6, 6) * 2 + 5).bfloat16()
    norm, moments = InstanceNorm(), Moments()
    moments.add(x)
    own = norm(x)
    norm.use(moments)
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), own, rtol=0, atol=0.02)
