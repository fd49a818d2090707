"""FCN-8s: torchvision's names and shapes, sizes of any kind, crops that bring the levels back into place."""

import pytest
import torch
from safetensors.torch import save_file

from napari_multiphase.config import Fcn8sConfig
from napari_multiphase.errors import UserError
from napari_multiphase.nets.fcn8s import Fcn8s, bilinear, upsampled
from napari_multiphase.nets.resnet import load_encoder

SMALL = Fcn8sConfig(width_mult=1 / 32, dropout=0.0)


def test_names_and_shapes_are_torchvisions_vgg16():
    with torch.device("meta"):
        net = Fcn8s(Fcn8sConfig())
    shapes = {name: tuple(p.shape) for name, p in net.vgg.named_parameters()}
    convs = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(shapes)[::2] == [f"features.{n}.weight" for n in convs] + ["classifier.0.weight", "classifier.3.weight"]
    assert shapes["features.0.weight"] == (64, 3, 3, 3) and shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 512, 7, 7) and shapes["classifier.3.weight"] == (4096, 4096, 1, 1)
    assert sum(p.numel() for p in net.vgg.parameters()) == 138_357_544 - 4_097_000  # without the 1000 classes
    assert net.vgg.features[0].padding == (100, 100)
    assert [n for n, _ in net.named_parameters() if not n.startswith("vgg")] == [
        f"{head}.{kind}" for head in ("score", "score_pool4", "score_pool3") for kind in ("weight", "bias")
    ]  # upsampling has none: it never learns


def test_weights_of_full_layers_become_convolutions_and_wrong_ones_are_refused(tmp_path):
    torch.manual_seed(0)
    source, target = Fcn8s(SMALL).vgg, Fcn8s(SMALL).vgg
    stored = {
        name: (p.flatten(1) if name.startswith("classifier") and p.ndim == 4 else p).contiguous()
        for name, p in source.state_dict().items()
    }
    save_file(stored | {"classifier.6.weight": torch.zeros(2, 2)}, tmp_path / "vgg.safetensors")
    load_encoder(target, tmp_path / "vgg.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    wider = Fcn8s(Fcn8sConfig(width_mult=1 / 16)).vgg
    save_file(wider.state_dict() | {"classifier.0.weight": stored["classifier.0.weight"]}, tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match=r"classifier.0.weight' is \(128, 784\), not"):
        load_encoder(wider, tmp_path / "vgg.safetensors")


@pytest.mark.parametrize("size", [(1, 1), (5, 31), (32, 33), (64, 47)])
def test_every_size_comes_out_as_it_went_in_and_undecided_at_first(size):
    out = Fcn8s(SMALL)(torch.rand(2, 3, *size))
    assert out.shape == (2, 3, *size) and not out.any()


def test_upsampling_is_bilinear():
    assert torch.allclose(bilinear(4)[0] * 16, torch.tensor([1.0, 3.0, 3.0, 1.0]))
    for factor in (2, 8):
        ramp = torch.arange(6, dtype=torch.float64).expand(1, 2, 6, 6)
        up = upsampled(ramp, factor)
        assert up.shape == (1, 2, 7 * factor, 7 * factor)
        inner = up[0, 1, 3 * factor, factor : 6 * factor]
        assert torch.allclose(inner.diff(), torch.full_like(inner[1:], 1 / factor))


@pytest.mark.parametrize(("head", "reach"), [("score_pool3", 8), ("score_pool4", 16), ("score", 32)])
def test_each_level_answers_where_it_looks(head, reach):
    """A bright spot moves each level's answer to its own place: the crops 5, 9 and 31 are right."""
    torch.manual_seed(0)
    net = Fcn8s(SMALL)
    for layer in (*net.vgg.features, *net.vgg.classifier):
        if isinstance(layer, torch.nn.Conv2d):  # a mean over its channels, at its centre
            torch.nn.init.zeros_(layer.weight)
            layer.weight.data[:, :, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 1 / layer.weight.shape[1]
    torch.nn.init.ones_(getattr(net, head).weight)
    for y, x in ((40, 60), (76, 52)):
        image = torch.zeros(1, 3, 128, 112)
        image[:, :, y - 4 : y + 5, x - 4 : x + 5] = 1
        answer = net(image)[0, 0].double()
        answer = answer * (answer > answer.max() / 2)
        rows, columns = answer.sum(1), answer.sum(0)
        centre = [(w * torch.arange(len(w))).sum() / w.sum() for w in (rows, columns)]
        assert abs(centre[0] - y) <= reach / 2 and abs(centre[1] - x) <= reach / 2, centre
