"""Registration by Gauss-Newton steps on self-similarity descriptors, with a smooth velocity.

Minimised over the stationary velocity v, F and M the descriptors of the fixed and of the moving scan:

    sum_x w(x) mean_c (F_c(x) - (M o exp(v))_c(x))^2  +  stretching |grad v|^2

Each step linearises about the present v and solves the sparse normal equations for an update u by conjugate gradients,
(A + R) u = b - R v with A = w mean_c g g^T, b = w mean_c g r and R = stretching times minus the Laplacian; then v
becomes v + u, the first order of the Baker-Campbell-Hausdorff series. r is what is left of the difference, g the slope
of the mean of both descriptors (efficient second-order minimisation, as in symmetric demons). w is 0 outside the body
and where the moving scan does not reach, and small where the difference is large (Geman-McClure): what one phase alone
shows must not pull.

A and b are averaged over a window before they are solved (Bruhn, Weickert, Schnoerr, "Lucas/Kanade meets Horn/Schunck",
IJCV 2005): noise averages out, so that `stretching` may be so weak that it holds back no breathing. What is that
smooth needs no fine lattice, so v has a coarser one than the scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_multiphase.registration import velocity
from napari_multiphase.registration.descriptors import describe
from napari_multiphase.registration.pyramid import Level, spaced

OnStep = Callable[[int, int], None]
PARTS = tuple((i, j) for i in range(3) for j in range(i, 3))
"""The entries of a symmetric 3 x 3 matrix."""


@dataclass(frozen=True)
class GaussNewton:
    """Settings; every default is ours, chosen on phantoms with 10 to 30 mm of breathing by target error against time.

    Attributes
    ----------
    spacings_mm, steps : resolution and number of Gauss-Newton steps of each level, coarse to fine.
    lattice_mm : spacing of the velocity, or the level's where that is coarser.
    window_mm : sigma of the Gaussian that averages the normal equations.
    stretching : weight of |grad v|^2; descriptors run from 0 to 1.
    outlier : root mean square difference of descriptors at which a voxel weighs a half.
    rounds : conjugate-gradient iterations in a step, at most.
    """

    spacings_mm: tuple[float, ...] = (10.0, 6.0, 4.0, 3.0)
    steps: tuple[int, ...] = (6, 5, 4, 4)
    lattice_mm: float = 6.0
    window_mm: float = 14.0
    stretching: float = 0.02
    outlier: float = 0.5
    rounds: int = 25

    def run(self, levels: Sequence[Level], on_step: OnStep) -> Tensor:
        """The velocity (3, D, H, W) in mm on the last of `levels` (coarse to fine)."""
        lattice = spaced(levels[0].grid, self.lattice_mm)
        v = levels[0].fixed.new_zeros((3, *lattice.shape))
        for number, level in enumerate(levels):
            before, lattice = lattice, spaced(level.grid, self.lattice_mm)
            v = velocity.resize(v, before.spacing_mm, lattice.shape, lattice.spacing_mm)
            fixed = describe(level.fixed)
            for step in range(self.steps[number]):
                on_step(number, step)
                v = v + self._step(level, v, lattice.spacing_mm, fixed)
        return velocity.resize(v, lattice.spacing_mm, levels[-1].grid.shape, levels[-1].grid.spacing_mm)

    def _step(self, level: Level, v: Tensor, spacing_mm: tuple[float, float, float], fixed: Tensor) -> Tensor:
        """The update of `v`, whose lattice has `spacing_mm`; `fixed` are the fixed scan's descriptors on the level."""
        level_mm = level.grid.spacing_mm
        there = velocity.resize(velocity.exp(v, spacing_mm), spacing_mm, level.grid.shape, level_mm)
        image, inside = level.warped(there)
        equations = self._equations(fixed, describe(image), level.weight * inside, level_mm)
        equations = velocity.coarsen(equations, level_mm, v.shape[1:], spacing_mm)
        equations = velocity.smooth(equations, [self.window_mm / s for s in spacing_mm])
        tensor = dict(zip(PARTS, equations[3:], strict=True))
        return self.solve(tensor, equations[:3] - self.stiffness(v, spacing_mm), spacing_mm)

    def _equations(self, fixed: Tensor, moving: Tensor, weight: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """(9, D, H, W): b, then the entries `PARTS` of A, per voxel; one channel after another to save room."""
        out = fixed.new_zeros((3 + len(PARTS), *weight.shape))
        for f, m in zip(fixed, moving, strict=True):
            slope = velocity.gradient(0.5 * (f + m)[None], spacing_mm)[0]
            rest = f - m
            for k in range(3):
                out[k].addcmul_(slope[k], rest)
            for k, (i, j) in enumerate(PARTS, start=3):
                out[k].addcmul_(slope[i], slope[j])
        apart = torch.sub(fixed, moving).square_().mean(dim=0)
        return out.mul_(weight / (1.0 + apart / self.outlier**2) / len(fixed))

    def stiffness(self, v: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """R v: half the gradient of what a velocity (3, D, H, W) costs."""
        return self.stretching * minus_laplacian(v, spacing_mm)

    def solve(self, tensor: dict[tuple[int, int], Tensor], right: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """u of (A + R) u = `right`, A the symmetric `tensor` per voxel; conjugate gradients, diagonal start."""
        own = 2.0 * self.stretching * sum(s**-2 for s in spacing_mm)
        diagonal = torch.stack([tensor[k, k] for k in range(3)]) + own
        u, residual = torch.zeros_like(right), right.clone()
        z = residual / diagonal
        direction, size = z.clone(), (residual * z).sum()
        enough = 1e-6 * float(size)
        for _ in range(self.rounds):
            if float(size) <= enough:
                break
            image = self.stiffness(direction, spacing_mm)
            for (i, j), value in tensor.items():
                image[i] += value * direction[j]
                if i != j:
                    image[j] += value * direction[i]
            length = size / (direction * image).sum()
            u += length * direction
            residual -= length * image
            z = residual / diagonal
            size, before = (residual * z).sum(), size
            direction = z + (size / before) * direction
        return u


def minus_laplacian(v: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Minus the Laplacian of `v` (3, D, H, W) per mm^2, with free ends."""
    out = torch.zeros_like(v)
    for axis, spacing in enumerate(spacing_mm, start=1):
        step = v.diff(dim=axis) / spacing**2
        count = step.shape[axis]
        out.narrow(axis, 1, count).add_(step)
        out.narrow(axis, 0, count).sub_(step)
    return out
