"""Divergence between the mean prediction and the known mean sizes of the classes, in primal and primal-dual form.

Implements (PAPER 004, PaNN):

* Eq. 6 prior term J_C -> ``prior_cross_entropy``
* Eq. 9 primal-dual form of J_C -> ``primal_dual_prior``
* Algorithm 1, initial values and ascent of the duals -> ``PriorLoss``

Symbols: q (K,) fraction of voxels per class in the fully labelled cases; p (K,) mean softmax over the partly labelled
voxels of the mini-batch; nu, mu (K,) duals, both below 0. All K = |L| + 1 classes count, background included.

Deviations: Eq. 9 is printed without its constant 1, which is kept here so that the dual optimum equals Eq. 6;
Algorithm 1 prints the start mu = +1/(1-q), the text -1/(1-q), which is the one that makes sense; duals are projected
onto (-inf, -1], where their optima lie because p <= 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Dual = Literal["sga", "log", "closed"]
SMALLEST = 1e-8
"""Fractions are kept this far from 0 and 1."""


def prior_cross_entropy(q: Tensor, p: Tensor) -> Tensor:
    """J_C = -sum_l [q log p + (1 - q) log(1 - p)] of fractions (K,) (Eq. 6), a number; least at p = q."""
    return -(q * p.log() + (1 - q) * (1 - p).log()).sum()


def primal_dual_prior(q: Tensor, p: Tensor, nu: Tensor, mu: Tensor) -> Tensor:
    """sum_l q (p nu + 1 + log(-nu)) + (1 - q) ((1 - p) mu + 1 + log(-mu)) of (K,) each (Eq. 9), a number.

    A lower bound of Eq. 6 for any nu, mu < 0, linear in p (a mini-batch's p is therefore unbiased), and equal to it at
    nu = -1/p, mu = -1/(1-p), where dJ/dp is that of Eq. 6 as well.
    """
    return (q * (p * nu + 1 + (-nu).log()) + (1 - q) * ((1 - p) * mu + 1 + (-mu).log())).sum()


def fraction(values: Tensor) -> Tensor:
    """`values` kept inside [1e-8, 1 - 1e-8], or as close to 1 as their dtype can tell."""
    return values.clamp(SMALLEST, 1 - max(SMALLEST, torch.finfo(values.dtype).eps))


class PriorLoss(nn.Module):
    """J_C of the mini-batch's p with duals that climb step by step; its state is in its buffers.

    `dual` says how they climb. "sga", as the paper: stochastic gradient ascent of Eq. 9 with rate `rate`; at the
    paper's 2e-5 organs' duals all but stand still. "log": the same ascent in log(-nu) and log(-mu), always feasible,
    with time constant 1 / (rate q). "closed": the optimum itself at a moving average of p with weight `momentum`,
    which starts from q.
    The buffers are float64: a step of the paper's rate is lost in float32.
    """

    def __init__(self, classes: int, dual: Dual, rate: float, momentum: float) -> None:
        super().__init__()
        self.dual, self.rate, self.momentum = dual, rate, momentum
        for name in ("q", "nu", "mu", "mean"):
            self.register_buffer(name, torch.zeros(classes, dtype=torch.float64))
        self.q: Tensor
        self.nu: Tensor
        self.mu: Tensor
        self.mean: Tensor
        self.start(torch.full((classes,), 1 / classes))

    def start(self, q: Tensor) -> None:
        """Take the fractions `q` (K,) and put the duals at their start, -1/q and -1/(1-q), where dJ/dp = 0."""
        self.q.copy_(fraction(q.to(self.q)))
        self.mean.copy_(self.q)
        self._jump(self.q)

    @torch.no_grad()
    def ascend(self, p: Tensor) -> None:
        """One step of the duals towards the optimum at `p` (K,)."""
        p = p.to(self.q)
        if self.dual == "closed":
            self.mean.lerp_(p, 1 - self.momentum)
            return self._jump(fraction(self.mean))
        slopes = self.q * (p + 1 / self.nu), (1 - self.q) * (1 - p + 1 / self.mu)
        for value, slope in zip((self.nu, self.mu), slopes, strict=True):
            if self.dual == "log":  # a = log(-value): dJ/da = value dJ/dvalue
                value.mul_((self.rate * value * slope).exp())
            else:
                value.add_(self.rate * slope)
            value.clamp_(max=-1)
        return None

    def forward(self, p: Tensor) -> Tensor:
        """Eq. 9 at the present duals less the entropy of q, so that it is 0 where p = q and the duals fit."""
        value = primal_dual_prior(self.q, p.to(self.q), self.nu, self.mu) - prior_cross_entropy(self.q, self.q)
        return value.to(p.dtype)

    def residual(self, p: Tensor) -> float:
        """The largest |nu + 1/p|: how far the duals lag behind their optimum."""
        return float((self.nu + 1 / fraction(p.detach().to(self.q))).abs().max())

    def divergence(self, p: Tensor) -> float:
        """sum_l KL(q || p), each class against the rest."""
        p = fraction(p.detach().to(self.q))
        return float(prior_cross_entropy(self.q, p) - prior_cross_entropy(self.q, self.q))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PriorLoss:
        try:
            return super()._apply(fn, recurse)
        except TypeError:  # MPS has no float64
            return super()._apply(lambda t: t.float())._apply(fn, recurse)

    def _jump(self, p: Tensor) -> None:
        self.nu.copy_(-1 / p)
        self.mu.copy_(-1 / (1 - p))
