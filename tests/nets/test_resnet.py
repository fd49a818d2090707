"""ResNet and ResNeXt encoders: torchvision's names, shapes and parameter counts."""

import pytest
import torch
from safetensors.torch import save_file

from napari_multiphase.errors import UserError
from napari_multiphase.nets.resnet import load_encoder, resnet

COUNTS = {"resnet50": 25_557_032 - 2_049_000, "resnet101": 42_500_160, "resnext50_32x4d": 22_979_904}


def meta(name: str, **changes):
    with torch.device("meta"):
        return resnet(name, **changes)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_torchvisions_without_the_classifier(name):
    assert sum(p.numel() for p in meta(name).parameters()) == COUNTS[name]


def test_names_and_shapes_are_torchvisions():
    state = meta("resnext50_32x4d").state_dict()
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["bn1.running_mean"].shape == (64,)
    assert state["layer1.0.conv1.weight"].shape == (128, 64, 1, 1)
    assert state["layer1.0.conv2.weight"].shape == (128, 4, 3, 3)  # 32 groups of 4
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer1.0.downsample.1.num_batches_tracked"].shape == ()
    assert state["layer4.2.bn3.weight"].shape == (2048,)
    assert len([n for n in meta("resnet50").state_dict() if not n.endswith("tracked")]) == 53 * 5
    assert "layer3.22.conv3.weight" in meta("resnet101").state_dict()


@pytest.mark.parametrize(
    ("output_stride", "sides"), [(32, [128, 64, 32, 16, 8]), (16, [128, 64, 32, 16, 16]), (8, [128, 64, 32, 32, 32])]
)
def test_levels_have_the_strides_they_say(output_stride, sides):
    encoder = meta("resnet50", in_channels=1, output_stride=output_stride)
    features = encoder(torch.empty(2, 1, 256, 256, device="meta"))
    assert [tuple(f.shape) for f in features] == [(2, c, s, s) for c, s in zip(encoder.channels, sides, strict=True)]
    assert [256 // s for s in sides] == list(encoder.strides)
    assert encoder.channels == (64, 256, 512, 1024, 2048)


def test_dilation_takes_over_from_the_second_block_on():
    encoder = meta("resnet50", output_stride=8)
    dilations = [[b.conv2.dilation[0] for b in layer] for layer in (encoder.layer2, encoder.layer3, encoder.layer4)]
    assert dilations == [[1] * 4, [1, *[2] * 5], [2, 4, 4]]


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_a_narrow_encoder_runs_and_every_parameter_learns(name):
    torch.manual_seed(0)
    encoder = resnet(name, in_channels=1, output_stride=16, width=8)
    encoder(torch.randn(2, 1, 64, 64))[-1].square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_weights_load_from_a_file_and_a_wrong_file_is_refused_in_words(tmp_path):
    source, target = resnet("resnet50", width=4), resnet("resnet50", width=4)
    save_file(source.state_dict() | {"fc.weight": torch.zeros(3, 3)}, tmp_path / "weights.safetensors")
    load_encoder(target, tmp_path / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    with pytest.raises(UserError, match=r"conv1.weight' is \(4, 3, 7, 7\), not \(8, 3, 7, 7\)"):
        load_encoder(resnet("resnet50", width=8), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"has no tensor 'layer3.6.conv1.weight'"):
        load_encoder(resnet("resnet101", width=4), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_encoder(target, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="choose one of resnet50"):
        resnet("vgg")
