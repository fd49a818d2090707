"""The discriminators: sizes, and what one judgement sees."""

import pytest
import torch

from napari_multiphase.config import PatchGanConfig
from napari_multiphase.nets.patchgan import PatchGan


def seen(axis_sides: int, halvings: int, axes: int, side: int) -> list[int]:
    """Width of the voxels that the middle judgement depends on, along each axis."""
    torch.manual_seed(0)
    net = PatchGan(PatchGanConfig(axes=axes, width=1, halvings=halvings)).double()
    for module in net.net:  # statistics of the whole image would spread the dependence, leaky slopes keep it
        if type(module).__name__ == "InstanceNorm":
            module.forward = lambda x: x
    x = torch.randn(1, 1, *[side] * axes, dtype=torch.float64, requires_grad=True)
    scores = net(x)
    scores[(0, 0, *[n // 2 for n in scores.shape[2:]])].backward()
    return [int(n.max() - n.min()) + 1 for n in x.grad[0, 0].nonzero().T]


@pytest.mark.parametrize(("halvings", "field"), [(2, 34), (3, 70)])
def test_a_judgement_of_slices_sees_34_or_70_voxels(halvings, field):
    assert seen(2, halvings, 2, 160) == [field, field]


def test_a_judgement_of_volumes_sees_34_voxels():
    assert seen(3, 2, 3, 80) == [34, 34, 34]


def test_the_70_patch_discriminator_has_cyclegans_size():
    with torch.device("meta"):
        net = PatchGan(PatchGanConfig(axes=2, in_channels=3, width=64))
        assert net(torch.empty(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert sum(p.numel() for p in net.parameters()) == 2_764_737


def test_in_3d_widths_are_32_to_256_and_the_first_layer_is_not_normalised():
    with torch.device("meta"):
        net = PatchGan(PatchGanConfig())
    assert [m.out_channels for m in net.net if hasattr(m, "out_channels")] == [32, 64, 128, 256, 1]
    kinds = [type(m).__name__ for m in net.net]
    assert kinds == ["Conv3d", "LeakyReLU", *["Conv3d", "InstanceNorm", "LeakyReLU"] * 3, "Conv3d"]
    assert {m.negative_slope for m in net.net if isinstance(m, torch.nn.LeakyReLU)} == {0.2}


def first_seen(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the first convolution gets."""
    seen = []
    next(m for m in net.modules() if isinstance(m, torch.nn.Conv3d)).register_forward_hook(
        lambda _, given, __: seen.append(given[0])
    )
    net(x)
    return seen[0]


def test_with_structures_it_sees_the_image_each_mask_and_the_image_in_each():
    net = PatchGan(PatchGanConfig(width=2, halvings=1, structures=True, stretch=(0.25, 4)), classes=3)
    x, y = torch.rand(2, 1, 8, 8, 8) * 2 - 1, torch.randint(0, 3, (2, 8, 8, 8))
    y[0, 0] = 254  # unknown: no structure's
    image, masks = 4 * (x - 0.25), [(y == c)[:, None].float() for c in (1, 2)]
    expected = torch.cat([image, *masks, *(mask * image for mask in masks)], dim=1)
    assert torch.allclose(first_seen(net, net.shown(x, y)), expected, atol=1e-6)
    assert torch.equal(first_seen(net, net.shown(x, y).bfloat16().float())[:, 1:3], expected[:, 1:3])


def test_normalisation_takes_out_how_bright_the_whole_image_is():
    x = torch.rand(1, 1, 24, 24, 24) * 0.2
    for norm, seen in (("none", True), ("instance", False)):
        torch.manual_seed(0)
        net = PatchGan(PatchGanConfig(width=4, halvings=1, norm=norm)).double()
        inner = (net(x.double())[..., 3:-3, 3:-3, 3:-3], net(x.double() * 3)[..., 3:-3, 3:-3, 3:-3])
        change = (inner[1] - inner[0]).abs().mean() / inner[0].abs().mean()
        assert (change > 1) == seen, (norm, change)
        assert any(type(m).__name__ == "InstanceNorm" for m in net.modules()) == (norm == "instance")


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_the_least_side_gives_one_judgement_and_every_parameter_learns(halvings):
    config = PatchGanConfig(width=2, halvings=halvings)
    net = PatchGan(config)
    scores = net(torch.randn(2, 1, *[config.least] * 3))
    assert scores.shape == (2, 1, 1, 1, 1)
    scores.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_weights_start_with_a_deviation_of_002_and_no_bias():
    torch.manual_seed(0)
    net = PatchGan(PatchGanConfig(axes=2, in_channels=3, width=64))
    for module in net.net:
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 1e4:
            assert abs(module.weight.std().item() - 0.02) < 5e-4
            assert not module.bias.any()
