"""HPN's pairing loss against closed forms (PAPER 001, Eq. 1), in float64."""

import math

import pytest
import torch

from napari_multiphase.losses.correlation import CorrelationLoss, correlation

MODES = ("channel", "flat", "project")


def maps(seed: int = 0, channels: int = 3, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, 3, 4, 5, generator=generator, dtype=torch.float64)


def loss_of(mode: str, channels: int = 3) -> CorrelationLoss:
    torch.manual_seed(3)
    return CorrelationLoss(mode, channels).double()


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_eq_1_of_a_map_with_itself_is_minus_one(mode):
    assert loss_of(mode)(maps(), maps()).item() == near(-1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("a", "b"), [(2.5, -7.0), (-0.3, 4.0)])
def test_eq_1_of_an_affine_map_is_minus_the_sign_of_its_slope(mode, a, b):
    assert loss_of(mode)(maps(), a * maps() + b).item() == near(-math.copysign(1, a))


@pytest.mark.parametrize("mode", ["channel", "flat"])
def test_eq_1_of_orthogonal_centred_maps_is_zero(mode):
    one = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64).reshape(1, 1, 1, 1, 4)
    two = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64).reshape(1, 1, 1, 1, 4)
    assert loss_of(mode)(one + 3, 2 * two - 5).item() == near(0)


@pytest.mark.parametrize("mode", MODES)
def test_eq_1_of_a_constant_map_is_zero_with_a_finite_gradient(mode):
    constant = torch.full_like(maps(), 0.7).requires_grad_()
    other = maps().requires_grad_()
    loss = loss_of(mode)(constant, other)
    loss.backward()
    assert loss.item() == near(0)
    assert constant.grad.isfinite().all()
    assert other.grad.isfinite().all()


def test_one_dead_channel_counts_as_zero_in_the_mean_over_channels():
    f1, f2 = maps(), maps()
    f1[:, 0] = 0
    assert loss_of("channel")(f1, f2).item() == near(-2 / 3)


def test_the_batch_is_never_pooled_and_its_mean_is_taken():
    f1, f2 = maps(0), torch.cat([maps(0)[:1] + 50, -maps(0)[1:]])
    assert loss_of("channel")(f1, f2).item() == near(0)


def test_channels_are_apart_only_in_channel_mode():
    f1 = maps(batch=1)
    scaled = f1 * torch.tensor([1.0, -1, 1], dtype=torch.float64).reshape(1, 3, 1, 1, 1)
    assert loss_of("channel")(f1, scaled).item() == near(-1 / 3)
    r = torch.corrcoef(torch.stack([f1.flatten(), scaled.flatten()]))[0, 1].item()
    assert loss_of("flat")(f1, scaled).item() == near(-r)


def test_the_gradient_of_eq_1_is_the_closed_form():
    f1, f2 = maps(0, 1, 1).requires_grad_(), maps(1, 1, 1)
    loss = loss_of("channel")(f1, f2)
    loss.backward()
    c1, c2 = f1.detach() - f1.detach().mean(), f2 - f2.mean()
    s1, s2 = c1.norm(), c2.norm()
    r = -loss.item()
    assert torch.allclose(f1.grad, -(c2 - r * (s2 / s1) * c1) / (s1 * s2), atol=1e-6, rtol=0)
    assert f1.grad.sum().item() == near(0)
    assert (f1.grad * c1).sum().item() == near(0)


@pytest.mark.parametrize("slope", [2.0, -2.0])
def test_the_gradient_vanishes_at_full_correlation(slope):
    f1 = maps().requires_grad_()
    loss_of("channel")(f1, slope * f1.detach() + 1).backward()
    assert f1.grad.abs().max().item() == near(0)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode):
    small = [maps(seed, 2)[..., :2, :2, :3].clone().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(loss_of(mode, 2), small)


def test_a_large_offset_does_not_cancel_in_float32():
    f1, f2 = maps(0, 1, 1), maps(1, 1, 1)
    exact = correlation(f1.flatten(), f2.flatten()).item()
    shifted = correlation(f1.flatten().float() + 1000, f2.flatten().float() + 1000).item()
    assert shifted == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_under_autocast_the_loss_is_computed_in_float32(mode):
    f1, f2 = maps(0).bfloat16(), maps(1).bfloat16()
    expected = loss_of(mode)(f1.double(), f2.double()).item()
    loss = loss_of(mode).float()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(f1, f2)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, abs=1e-5)
