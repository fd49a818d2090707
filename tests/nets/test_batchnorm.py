"""Batch normalisation over several processes is torch's own, computed from sums."""

import pytest
import torch
from torch import nn

from napari_multiphase.nets.batchnorm import BatchNorm2d, BatchNorm3d, _normalise


@pytest.mark.parametrize(
    ("own", "torchs", "shape"),
    [(BatchNorm2d, nn.BatchNorm2d, (4, 3, 5, 6)), (BatchNorm3d, nn.BatchNorm3d, (2, 3, 4, 5, 6))],
)
def test_sums_give_what_torch_gives(own, torchs, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 100
    layers = own(3).double(), torchs(3).double()
    for layer in layers:
        nn.init.uniform_(layer.weight)
        layer.load_state_dict(layers[0].state_dict())
    inputs = [x.clone().requires_grad_(True) for _ in layers]
    results = _normalise(layers[0], inputs[0]), layers[1](inputs[1])
    torch.testing.assert_close(*results)
    for result in results:
        (result**3).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for a, b in zip(layers[0].state_dict().values(), layers[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_in_one_process_and_in_evaluation_it_is_torchs_layer():
    x, layer = torch.randn(2, 3, 4, 4), BatchNorm2d(3)
    assert isinstance(layer, nn.BatchNorm2d)
    plain = nn.BatchNorm2d(3)
    for mode in (True, False):
        assert torch.equal(layer.train(mode)(x), plain.train(mode)(x))
