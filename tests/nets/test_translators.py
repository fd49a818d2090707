"""The translators: shapes, sizes, starts."""

import pytest
import torch
from torch.nn import functional as F

from napari_multiphase.config import ResnetGeneratorConfig, UNetGenerator3DConfig
from napari_multiphase.nets.instance_norm import InstanceNorm
from napari_multiphase.nets.translators import ResnetGenerator, UNetGenerator3D

FLAT = ResnetGeneratorConfig(width=4, blocks=2)
DEEP = UNetGenerator3DConfig(widths=(4, 6, 8, 10))


def test_resnet_9_has_cyclegans_size_on_the_meta_device():
    with torch.device("meta"):
        net = ResnetGenerator(ResnetGeneratorConfig())
        assert net(torch.empty(1, 3, 512, 512)).shape == (1, 3, 512, 512)
    assert sum(p.numel() for p in net.parameters()) == 11_378_179


def test_the_3d_generator_halves_three_times_by_stride_and_transposes_nothing():
    with torch.device("meta"):
        net = UNetGenerator3D(UNetGenerator3DConfig())
        assert net(torch.empty(1, 1, 88, 112, 112)).shape == (1, 1, 88, 112, 112)
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv3d)]
    assert not [m for m in net.modules() if isinstance(m, torch.nn.ConvTranspose3d)]
    assert [m.stride[0] for m in convs].count(2) == 3
    assert {m.kernel_size[0] for m in convs[:-1]} == {3}
    assert UNetGenerator3DConfig().divisor == (8, 8, 8)


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("residual", [False, True])
def test_outputs_have_the_inputs_grid_lie_in_the_range_and_every_parameter_learns(norm, residual):
    torch.manual_seed(0)
    change = {"norm": norm, "residual": residual}
    for net, x in (
        (ResnetGenerator(FLAT.model_copy(update=change)), torch.rand(2, 3, 12, 16) * 2 - 1),
        (UNetGenerator3D(DEEP.model_copy(update=change)), torch.rand(2, 1, 16, 8, 16) * 2 - 1),
    ):
        y = net(x)
        assert y.shape == x.shape and y.abs().max() <= 1
        (y - 0.5).square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_residual_generator_starts_as_the_identity_and_can_move_every_voxel():
    x = torch.cat([torch.full((1, 1, 16, 8, 8), -1.0), torch.full((1, 1, 16, 8, 8), 1.0)], dim=-1)
    net = UNetGenerator3D(DEEP.model_copy(update={"residual": True}))
    assert torch.equal(net(x), x)
    torch.nn.init.constant_(net.last.bias, 10.0)
    assert torch.equal(net(x), torch.ones_like(x))
    torch.nn.init.constant_(net.last.bias, -10.0)
    assert torch.equal(net(x), -torch.ones_like(x))


def test_stretched_intensities_are_seen_and_not_written():
    torch.manual_seed(0)
    x, seen = torch.rand(1, 1, 16, 8, 8), []
    net = UNetGenerator3D(DEEP.model_copy(update={"residual": True, "stretch": (0.25, 4.0)}))
    net.first[0][0].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    assert torch.equal(net(x), x)
    assert torch.allclose(seen[0], 4 * (x - 0.25))


def test_fewer_slices_may_be_written_than_read_and_are_the_middle_ones():
    net = ResnetGenerator(FLAT.model_copy(update={"in_channels": 5, "out_channels": 3, "residual": True}))
    x = torch.rand(1, 5, 16, 16)
    assert torch.equal(net(x), x[:, 1:4])


def test_nearest_upsampling_of_a_constant_is_constant():
    """And so is what the way up makes of it, away from the border's zeros: no checkerboard (PAPER 003)."""
    torch.manual_seed(0)
    assert torch.equal(
        F.interpolate(torch.full((1, 1, 3, 3, 3), 0.7), scale_factor=2.0), torch.full((1, 1, 6, 6, 6), 0.7)
    )
    up = UNetGenerator3D(DEEP.model_copy(update={"norm": "none"})).up[-1]
    with torch.no_grad():
        y = up(torch.full((1, 6, 6, 6, 6), 0.7), torch.full((1, 4, 12, 12, 12), -0.2))[..., 3:-3, 3:-3, 3:-3]
    assert torch.allclose(y, y[..., :1, :1, :1].expand_as(y), atol=1e-6) and y.any()


def norm_order(net, x) -> tuple[list, list]:
    """Instance normalisations as listed, and as they run."""
    listed, ran = [m for m in net.modules() if isinstance(m, InstanceNorm)], []
    for module in listed:
        module.register_forward_hook(lambda m, *_: ran.append(m))
    net(x)
    return listed, ran


def test_normalisations_are_listed_in_the_order_in_which_they_run():
    for net, x in (
        (ResnetGenerator(FLAT), torch.rand(1, 3, 16, 16)),
        (UNetGenerator3D(DEEP), torch.rand(1, 1, 16, 16, 16)),
    ):
        listed, ran = norm_order(net, x)
        assert len(listed) > 8 and all(a is b for a, b in zip(listed, ran, strict=True))


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_the_context_of_a_unet_is_how_far_it_sees(halvings):
    config = UNetGenerator3DConfig(widths=(2, 2, 2, 2)[: halvings + 1], norm="none")
    net, own, least = UNetGenerator3D(config).double(), 64, 2 * config.divisor[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.01)  # nothing cancels, no ReLU is dead
    x = torch.ones(1, 1, 2 * own, least, least, dtype=torch.float64, requires_grad=True)
    net(x)[0, 0, own:].sum().backward()
    first = int(x.grad[0, 0].abs().amax((1, 2)).nonzero()[0])
    assert config.context_vox == (own - first,) * 3


def test_without_norm_a_voxel_depends_on_its_surroundings_alone_with_norm_on_the_whole():
    torch.manual_seed(0)
    for norm, alone in (("none", True), ("instance", False)):
        net = UNetGenerator3D(UNetGenerator3DConfig(widths=(4, 6), norm=norm)).double()
        x = torch.randn(1, 1, 40, 8, 8, dtype=torch.float64)
        other = x.clone()
        other[:, :, 36:] = 1
        with torch.no_grad():
            near = (net(x) - net(other))[:, :, :4].abs().max().item()
        assert (near == 0) == alone
