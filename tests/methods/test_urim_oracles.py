"""Closed forms of PAPER 002: Eq. 3, Eq. 4, the max filter, SAM; gradients against finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from napari_multiphase.config import UrimConfig
from napari_multiphase.methods.urim.fusion import AttentionFusion, Sam, ScalarFusion, SumFusion, descriptor
from napari_multiphase.methods.urim.inpainting import LcConv, Urim, confidence_map, grow
from napari_multiphase.methods.urim.network import TumourNet, feedback

CLOSE = {"rtol": 0, "atol": 1e-6}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def of_probabilities(*p: float) -> torch.Tensor:
    return confidence_map(torch.tensor(p, dtype=torch.float64).log().reshape(1, -1, 1, 1))


# --- Eq. 3 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ((0.5, 0.5), 0.0),
        ((0.6, 0.4), 1 - math.exp(-0.5)),
        ((0.6, 0.4), 0.393469),
        ((0.75, 0.25), 0.864665),
        ((0.9, 0.1), 0.999665),
        ((0.1, 0.9), 0.999665),
        ((0.6, 0.4 - 1e-12, 1e-12), 0.393469),  # largest over second largest
    ],
)
def test_eq_3_of_probabilities(p, expected):
    assert of_probabilities(*p).item() == pytest.approx(expected, abs=1e-6)


def test_eq_3_is_symmetric_in_the_classes():
    logits = random(2, 2, 5, 4)
    torch.testing.assert_close(confidence_map(logits), confidence_map(logits.flip(1)), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_eq_3_at_extreme_logits_is_1_with_a_finite_gradient(dtype):
    logits = torch.tensor([60.0, -60.0], dtype=dtype).reshape(1, 2, 1, 1).requires_grad_()
    m = confidence_map(logits)
    m.sum().backward()
    assert m.item() == 1
    assert m.dtype.itemsize >= 4
    assert torch.isfinite(logits.grad).all()


def test_eq_3_gradient():
    logits = (random(1, 2, 4, 4) * 0.7).requires_grad_()
    assert torch.autograd.gradcheck(confidence_map, logits)
    three = (random(1, 3, 3, 3, seed=5) * 0.7).requires_grad_()
    assert torch.autograd.gradcheck(confidence_map, three)


# --- Eq. 4 ---------------------------------------------------------------------------------------------------------


def lc_conv(i: int = 3, o: int = 2, seed: int = 1) -> LcConv:
    torch.manual_seed(seed)
    layer = LcConv(i, o).double()
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("c", [1e-3, 0.4, 1.0])
def test_eq_4_of_a_constant_m_is_the_average_normalised_convolution(c):
    layer, x = lc_conv(), random(2, 3, 6, 7)
    valid = F.conv2d(torch.ones(1, 1, 6, 7).double(), torch.ones(1, 1, 3, 3).double(), padding=1)
    assert valid[0, 0, 0, 0] == 4 and valid[0, 0, 0, 3] == 6 and valid[0, 0, 3, 3] == 9
    expected = layer.conv(x) / valid + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, torch.full((2, 1, 6, 7), c).double()), expected, **CLOSE)


def test_eq_4_does_not_change_with_the_scale_of_m():
    layer, x, m = lc_conv(), random(1, 3, 5, 5), random(1, 1, 5, 5, seed=3).sigmoid()
    torch.testing.assert_close(layer(x, m), layer(x, 0.01 * m), **CLOSE)


def test_eq_4_of_a_constant_x_under_all_ones_is_that_constant_for_any_m():
    layer, m = lc_conv(1, 1), random(1, 1, 6, 6, seed=3).sigmoid()
    torch.nn.init.ones_(layer.conv.weight)
    out = layer(torch.full((1, 1, 6, 6), 2.5).double(), m)
    torch.testing.assert_close(out, torch.full_like(out, 2.5) + layer.bias, **CLOSE)


def test_eq_4_of_a_one_hot_m_is_the_weight_at_that_tap_times_x_there():
    layer, x = lc_conv(), random(1, 3, 5, 5)
    m = torch.zeros(1, 1, 5, 5).double()
    m[0, 0, 2, 3] = 0.7
    out = layer(x, m)
    for dy, dx in [(0, 0), (-1, 1), (1, 0), (-1, -1)]:
        tap = layer.conv.weight[:, :, 1 - dy, 1 - dx] @ x[0, :, 2, 3] + layer.bias
        torch.testing.assert_close(out[0, :, 2 + dy, 3 + dx], tap, **CLOSE)
    torch.testing.assert_close(out[0, :, 0, 0], layer.bias.detach(), **CLOSE)


def test_eq_4_of_m_0_is_the_bias_with_finite_gradients():
    layer, x = lc_conv(), random(1, 3, 5, 5).requires_grad_()
    m = torch.zeros(1, 1, 5, 5).double().requires_grad_()
    out = layer(x, m)
    torch.testing.assert_close(out, layer.bias[None, :, None, None].expand_as(out), **CLOSE)
    out.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (x, m, layer.conv.weight, layer.bias))


def test_eq_4_gradient():
    layer = lc_conv()
    x, m = random(1, 3, 4, 4).requires_grad_(), random(1, 1, 4, 4, seed=3).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, m, w: _with_weight(layer, w, x, m), (x, m, layer.conv.weight))


def _with_weight(layer, weight, x, m):
    return torch.func.functional_call(layer, {"conv.weight": weight}, (x, m))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_one_confident_voxel_reaches_2k_plus_1_squared_after_k_max_filters(steps):
    m = torch.zeros(1, 1, 15, 15).double()
    m[0, 0, 7, 7] = 0.8
    for _ in range(steps):
        m = grow(m)
    expected = torch.zeros(1, 1, 15, 15).double()
    expected[0, 0, 7 - steps : 8 + steps, 7 - steps : 8 + steps] = 0.8
    assert torch.equal(m, expected)


def test_urim_grows_m_after_each_lc_conv(monkeypatch):
    seen = []
    module = Urim(2, 2, convs=4, detach=False).double().eval()
    for conv in module.convs:
        conv.register_forward_hook(lambda _, args, out: seen.append(int((args[1] > 0.5).sum())))
    initial = torch.zeros(1, 2, 15, 15).double()
    initial[0, 0, 7, 7] = 9
    module(random(1, 2, 15, 15), initial)
    assert seen == [1, 9, 25, 49]


def test_eq_4_keeps_small_confidences_under_float16():
    torch.manual_seed(0)
    layer, x = LcConv(8, 4), torch.randn(2, 8, 12, 12)
    m = 10 ** (
        -7 + 3 * torch.rand(2, 1, 12, 12)
    )  # sums reach from LEAST_CONFIDENCE up; float16 has digits from 6e-5 on
    expected = layer(x, m)
    with torch.autocast("cpu", torch.float16):
        got = layer(x.half(), m)
    scale = expected.abs().max()
    assert ((got - expected).abs().max() / scale).item() < 2e-3  # the rounding of x
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(layer(x, m), expected, rtol=1e-6, atol=1e-6)


def test_only_float16_is_avoided():
    seen = []
    layer = LcConv(2, 2)
    layer.conv.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            layer(torch.rand(1, 2, 4, 4), torch.rand(1, 1, 4, 4))
    assert seen == [torch.bfloat16, torch.float32]


# --- SAM -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sam() -> Sam:
    torch.manual_seed(3)
    return Sam(channels=6, branch=4).double()


def test_sam_weights_sum_to_1_over_the_phases_and_nowhere_else(sam):
    venous, arterial = random(2, 6, 9, 8), random(2, 6, 9, 8, seed=1)
    w = sam.weights(venous, arterial)
    assert w.shape == (2, 2, 6, 9, 8)
    torch.testing.assert_close(w.sum(0), torch.ones(2, 6, 9, 8).double(), **CLOSE)
    assert (w.sum(2) - 1).abs().min() > 1e-3
    torch.testing.assert_close(sam(venous, arterial), w[0] * venous + w[1] * arterial, **CLOSE)


def test_sam_of_equal_features_returns_them_for_any_weights(sam):
    features = random(2, 6, 9, 8)
    aggregated = sam(features, features)
    torch.testing.assert_close(aggregated, features, **CLOSE)
    torch.testing.assert_close(feedback(features, aggregated), features, **CLOSE)


def test_sam_with_its_last_convolutions_zero_is_the_plain_mean(sam):
    for mapping in (sam.m1, sam.m2):
        torch.nn.init.zeros_(mapping.last.weight)
        torch.nn.init.zeros_(mapping.last.bias)
    venous, arterial = random(2, 6, 9, 8), random(2, 6, 9, 8, seed=1)
    torch.testing.assert_close(sam(venous, arterial), (venous + arterial) / 2, **CLOSE)


def test_the_fed_back_phases_differ_by_half_of_what_they_did(sam):
    venous, arterial = random(2, 6, 9, 8), random(2, 6, 9, 8, seed=1)
    aggregated = sam(venous, arterial)
    got = feedback(venous, aggregated) - feedback(arterial, aggregated)
    torch.testing.assert_close(got, (venous - arterial) / 2, **CLOSE)


def test_sam_trains_with_one_stack_and_describes_by_mean_and_largest(sam):
    sam.train()
    assert sam(random(1, 6, 4, 4), random(1, 6, 4, 4, seed=1)).isfinite().all()
    z = descriptor(random(1, 6, 4, 4))
    torch.testing.assert_close(z[0, 0], random(1, 6, 4, 4)[0].mean(0), **CLOSE)
    torch.testing.assert_close(z[0, 1], random(1, 6, 4, 4)[0].amax(0), **CLOSE)


# --- other fusions -------------------------------------------------------------------------------------------------


def test_mp_adds_and_mw_weighs_by_its_two_scalars():
    venous, arterial = random(1, 3, 4, 4), random(1, 3, 4, 4, seed=1)
    torch.testing.assert_close(SumFusion()(venous, arterial), venous + arterial, **CLOSE)
    weighted = ScalarFusion(0.5).double()
    torch.testing.assert_close(weighted(venous, arterial), (venous + arterial) / 2, **CLOSE)
    with torch.no_grad():
        weighted.scalars.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(weighted(venous, arterial), 2 * venous - arterial, **CLOSE)


def test_pa_gate_depends_on_the_input_where_its_predecessor_s_is_sigmoid_of_1():
    fusion = AttentionFusion(0.0).double()
    venous, arterial = random(1, 5, 4, 4), random(1, 5, 4, 4, seed=1)
    gate = fusion.gate(venous, arterial)
    assert gate.shape == (1, 5, 1, 1)
    assert gate.std() > 1e-3
    assert (gate - fusion.gate(venous, 2 * arterial)).abs().max() > 1e-3
    torch.testing.assert_close(fusion(venous, arterial), venous + arterial, **CLOSE)  # scale 0: the plain sum
    torch.nn.init.ones_(fusion.scale)
    torch.testing.assert_close(fusion(venous, arterial), venous + (1 + gate) * arterial, **CLOSE)


def test_pa_affinity_does_not_overflow_in_float16():
    fusion = AttentionFusion(1.0)
    venous, arterial = (400 * random(1, 5, 16, 16, seed=seed).float().abs() for seed in (0, 1))
    venous, arterial = venous.half() + 300, arterial.half() + 300  # mean products beyond 65504
    expected = fusion.gate(venous.double(), arterial.double()).float()
    torch.testing.assert_close(fusion.gate(venous, arterial), expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.float16):
        for wide in (False, True):
            v, a = (x.float() if wide else x for x in (venous, arterial))
            torch.testing.assert_close(fusion.gate(v, a), expected, rtol=1e-3, atol=1e-4)
            assert fusion(v, a).isfinite().all()


SMALL = {"kind": "unet", "widths": (4, 6, 6, 8, 8)}


@pytest.mark.parametrize(("detach", "flows"), [(False, True), (True, False)])
def test_the_final_loss_reaches_the_first_classifier_through_m_unless_detached(detach, flows):
    torch.manual_seed(0)
    net = TumourNet(UrimConfig(encoder=SMALL, decoder=6, sam_branch=2, detach_conf=detach))
    x = torch.rand(2, 3, 32, 32)
    net(x, x.flip(-1)).final.square().mean().backward()
    grad = net.classifier.weight.grad
    assert (grad is not None and bool(grad.abs().sum() > 0)) is flows
