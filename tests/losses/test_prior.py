"""The prior on class sizes: closed forms of the primal-dual term, and how the duals climb (PAPER 004)."""

import math

import pytest
import torch

from napari_multiphase.losses.prior import PriorLoss, fraction, primal_dual_prior, prior_cross_entropy

DOUBLE = torch.float64
CLOSE = {"rtol": 0, "atol": 1e-6}


def vector(*values: float, grad: bool = False) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE, requires_grad=grad)


def prior(q: torch.Tensor, dual: str = "sga", rate: float = 2e-5, momentum: float = 0.9) -> PriorLoss:
    loss = PriorLoss(len(q), dual, rate, momentum)
    loss.start(q)
    return loss


def slope(loss: PriorLoss, values: torch.Tensor) -> torch.Tensor:
    p = values.clone().requires_grad_()
    return torch.autograd.grad(loss(p), p)[0]


def test_eq9_at_its_optimum_is_eq6():
    p, q = vector(0.2, grad=True), vector(0.3)
    value = primal_dual_prior(q, p, -1 / p.detach(), -1 / (1 - p.detach()))
    assert value.item() == pytest.approx(0.639032, abs=1e-6)
    assert value.item() == pytest.approx(-(0.3 * math.log(0.2) + 0.7 * math.log(0.8)), abs=1e-12)
    assert value.item() == pytest.approx(prior_cross_entropy(q, p).item(), abs=1e-12)
    (grad,) = torch.autograd.grad(value, p)
    assert grad.item() == pytest.approx(-0.625, abs=1e-12)  # (p - q) / (p (1 - p))
    (direct,) = torch.autograd.grad(prior_cross_entropy(q, p), p)  # envelope theorem
    torch.testing.assert_close(grad, direct, **CLOSE)


def test_eq9_at_the_start_is_the_entropy_of_q_a_lower_bound_and_exerts_no_force():
    p, q = vector(0.2, grad=True), vector(0.3)
    value = primal_dual_prior(q, p, -1 / q, -1 / (1 - q))
    assert value.item() == pytest.approx(0.610864, abs=1e-6)
    assert value.item() <= prior_cross_entropy(q, p).item()
    assert torch.autograd.grad(value, p)[0].item() == pytest.approx(0, abs=1e-12)
    assert slope(prior(vector(0.3)), vector(0.2)).item() == pytest.approx(0, abs=1e-12)


def test_a_positive_start_of_mu_would_be_wrong():
    """Algorithm 1 prints mu = +1/(1-q): no logarithm, and a force of -2 where there should be none."""
    p, q = vector(0.2, grad=True), vector(0.3)
    value = primal_dual_prior(q, p, -1 / q, 1 / (1 - q))
    assert value.isnan().all()
    assert torch.autograd.grad(value, p)[0].item() == pytest.approx(-2)
    assert (prior(vector(0.3)).mu < 0).all()


def test_eq9_has_the_slopes_of_the_specification_and_passes_gradcheck():
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.rand(5, generator=generator, dtype=DOUBLE) * 0.8 + 0.1 for _ in range(2))
    nu, mu = (-1 - 5 * torch.rand(5, generator=generator, dtype=DOUBLE) for _ in range(2))
    for t in (p, nu, mu):
        t.requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: primal_dual_prior(q, *t), (p, nu, mu))
    assert torch.autograd.gradcheck(lambda t: prior_cross_entropy(q, t), (p,))
    d_p, d_nu, d_mu = torch.autograd.grad(primal_dual_prior(q, p, nu, mu), (p, nu, mu))
    torch.testing.assert_close(d_p, q * nu - (1 - q) * mu, **CLOSE)
    torch.testing.assert_close(d_nu, q * (p + 1 / nu), **CLOSE)
    torch.testing.assert_close(d_mu, (1 - q) * (1 - p + 1 / mu), **CLOSE)


def test_eq6_is_least_where_p_is_q_and_counts_two_classes_twice():
    q = vector(0.6, 0.3, 0.1)
    least = prior_cross_entropy(q, q)
    for shift in (vector(0.05, -0.05, 0), vector(-0.2, 0.1, 0.1), vector(0, 0.02, -0.02)):
        assert prior_cross_entropy(q, q + shift) > least
    one, two = prior_cross_entropy(vector(0.3), vector(0.2)), prior_cross_entropy(vector(0.3, 0.7), vector(0.2, 0.8))
    torch.testing.assert_close(two, 2 * one, **CLOSE)


@pytest.mark.parametrize("dual", ["sga", "log", "closed"])
def test_duals_stay_where_they_start_if_p_is_q(dual):
    q = torch.full((4,), 0.25, dtype=DOUBLE)
    loss = prior(q, dual, rate=0.1)
    for _ in range(20):
        loss.ascend(q)
    torch.testing.assert_close(loss.nu, -1 / q, **CLOSE)
    torch.testing.assert_close(loss.mu, -1 / (1 - q), **CLOSE)
    assert loss(q).item() == pytest.approx(0, abs=1e-9)
    assert loss.residual(q) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("dual", "rate"), [("sga", 3.0), ("log", 0.2), ("closed", 1.0)])
def test_duals_reach_their_optimum_and_then_pull_as_eq6_does(dual, rate):
    p, q = vector(0.5, 0.4, 0.1), vector(0.6, 0.2, 0.2)
    loss = prior(q, dual, rate)
    before = loss(p).item()
    for _ in range(3000):
        loss.ascend(p)
    assert loss.residual(p) < 1e-4
    torch.testing.assert_close(slope(loss, p), (p - q) / (p * (1 - p)), rtol=0, atol=1e-4)
    assert before < loss(p).item() == pytest.approx(loss.divergence(p), abs=1e-6)


@pytest.mark.parametrize("dual", ["sga", "log"])
@pytest.mark.parametrize("rate", [2e-5, 0.1, 50.0])
def test_ascent_never_leaves_the_negative_duals(dual, rate):
    generator = torch.Generator().manual_seed(3)
    loss = prior(vector(1e-6, 0.05, 0.94), dual, rate)
    for _ in range(200):
        loss.ascend(torch.rand(3, generator=generator, dtype=DOUBLE))
        assert (loss.nu <= -1).all() and (loss.mu <= -1).all()


def test_the_papers_step_is_all_but_inert_for_a_small_organ():
    """30 000 steps of 2e-5 leave nu of an organ with q = 1e-4 alone and move mu: half way to its optimum in 3.5e4."""
    q = vector(1e-4)
    loss, p = prior(q), vector(3e-4)
    for _ in range(30_000):
        loss.ascend(p)
    assert loss.nu.item() == pytest.approx(-1e4, rel=1e-9)
    start, end = -1 / (1 - 1e-4), -1 / (1 - 3e-4)
    assert (loss.mu.item() - start) / (end - start) == pytest.approx(1 - math.exp(-30_000 / 5e4), abs=0.01)
    exact, pull = (3e-4 - 1e-4) / (3e-4 * (1 - 3e-4)), slope(loss, p).item()
    assert 0 < pull < p.item() * exact  # the right sign, at most p times the exact force


def test_closed_duals_follow_a_moving_average():
    q = vector(0.5, 0.5)
    loss = prior(q, "closed", momentum=0.9)
    loss.ascend(vector(0.7, 0.3))
    torch.testing.assert_close(loss.mean, vector(0.52, 0.48), **CLOSE)
    torch.testing.assert_close(loss.nu, -1 / vector(0.52, 0.48), **CLOSE)
    torch.testing.assert_close(slope(loss, vector(0.9, 0.1)), vector(0.02, -0.02) / (0.52 * 0.48), **CLOSE)


def test_a_mini_batch_is_unbiased_under_eq9_and_biased_under_eq6():
    q, parts = vector(0.3, 0.7), (vector(0.1, 0.9), vector(0.5, 0.5))
    whole = (parts[0] + parts[1]) / 2
    loss = prior(q)
    torch.testing.assert_close((loss(parts[0]) + loss(parts[1])) / 2, loss(whole), **CLOSE)
    assert sum(prior_cross_entropy(q, p) for p in parts) / 2 > prior_cross_entropy(q, whole)


def test_fractions_of_nothing_and_of_everything_stay_finite():
    assert fraction(vector(0.0, 1.0)).tolist() == [1e-8, 1 - 1e-8]
    assert fraction(torch.tensor([1.0])).item() < 1
    loss = prior(vector(1.0, 0.0, 0.0), "closed")
    p = vector(1.0, 0.0, 0.0)
    for _ in range(5):
        loss.ascend(p)
    assert torch.isfinite(loss(p)) and torch.isfinite(slope(loss, p)).all()


def test_the_duals_are_state_and_keep_their_precision_under_mixed_precision():
    loss = prior(vector(0.3, 0.7))
    loss.ascend(torch.tensor([0.2, 0.8]))
    other = PriorLoss(2, "sga", 2e-5, 0.9)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.nu, loss.nu) and other.nu.dtype == DOUBLE
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(torch.tensor([0.2, 0.8])).dtype == torch.float32


def test_a_device_without_float64_gets_float32():
    def move(t: torch.Tensor) -> torch.Tensor:
        if t.dtype == DOUBLE:
            raise TypeError("no float64 here")
        return t

    assert prior(vector(0.3, 0.7))._apply(move).nu.dtype == torch.float32
