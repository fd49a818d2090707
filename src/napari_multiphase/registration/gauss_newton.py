"""Registration by Gauss-Newton steps on self-similarity descriptors, with a smooth velocity.

Minimised over the stationary velocity v, F and M the descriptors of the fixed and of the moving scan:

    sum_x w(x) mean_c (F_c(x) - (M o exp(v))_c(x))^2  +  stretching |grad v|^2 + bending |laplace v|^2

Each step linearises about the present v and solves the sparse normal equations for an update u by conjugate gradients,
(A + R) u = b - R v with A = w mean_c g g^T, b = w mean_c g r, R = stretching L + bending L^2 and L minus the Laplacian;
then v becomes v + u, the first order of the Baker-Campbell-Hausdorff series. r is what is left of the difference, g the
mean of both descriptors' slopes (efficient second-order minimisation, as in symmetric demons). w is 0 outside the body
and where the moving scan does not reach, and small where the difference is large (Geman-McClure): what one phase alone
shows must not pull.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_multiphase.registration import velocity
from napari_multiphase.registration.descriptors import describe
from napari_multiphase.registration.pyramid import Level

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class GaussNewton:
    """Settings; every default is ours, chosen on phantoms with 20 mm of breathing by target error against time.

    Attributes
    ----------
    spacings_mm, steps : resolution and number of Gauss-Newton steps of each level, coarse to fine.
    stretching, bending : weights of |grad v|^2 and of |laplace v|^2 (mm^2); descriptors run from 0 to 1.
    outlier : root mean square difference of descriptors at which a voxel weighs a half.
    rounds : conjugate-gradient iterations in a step, at most.
    """

    spacings_mm: tuple[float, ...] = (12.0, 8.0, 5.0, 3.0)
    steps: tuple[int, ...] = (8, 6, 4, 3)
    stretching: float = 0.05
    bending: float = 0.0
    outlier: float = 0.5
    rounds: int = 25

    def run(self, levels: Sequence[Level], on_step: OnStep) -> Tensor:
        """The velocity (3, D, H, W) in mm on the last of `levels` (coarse to fine)."""
        v = levels[0].fixed.new_zeros((3, *levels[0].grid.shape))
        for number, level in enumerate(levels):
            if number:
                coarser = levels[number - 1].grid.spacing_mm
                v = velocity.resize(v, coarser, level.grid.shape, level.grid.spacing_mm)
            fixed = describe(level.fixed)
            slope = velocity.gradient(fixed, level.grid.spacing_mm)
            for step in range(self.steps[number]):
                on_step(number, step)
                v = v + self._step(level, v, fixed, slope)
        return v

    def _step(self, level: Level, v: Tensor, fixed: Tensor, slope: Tensor) -> Tensor:
        spacing = level.grid.spacing_mm
        image, inside = level.warped(velocity.exp(v, spacing))
        moving = describe(image)
        rest = fixed - moving
        weight = level.weight * inside / (1.0 + (rest**2).mean(dim=0) / self.outlier**2)
        g = velocity.gradient(moving, spacing).add_(slope).mul_(0.5)
        force = weight * (g * rest[:, None]).mean(dim=0)
        tensor = {(i, j): weight * (g[:, i] * g[:, j]).mean(dim=0) for i in range(3) for j in range(i, 3)}
        del g
        return self.solve(tensor, force - self.stiffness(v, spacing), spacing)

    def stiffness(self, v: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """R v: half the gradient of what a velocity (3, D, H, W) costs."""
        out = minus_laplacian(v, spacing_mm)
        if not self.bending:
            return self.stretching * out
        return self.stretching * out + self.bending * minus_laplacian(out, spacing_mm)

    def solve(self, tensor: dict[tuple[int, int], Tensor], right: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """u of (A + R) u = `right`, A the symmetric `tensor` per voxel; conjugate gradients, diagonal start."""
        diagonal = torch.stack([tensor[k, k] for k in range(3)]) + self._diagonal(spacing_mm)
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

    def _diagonal(self, spacing_mm: Sequence[float]) -> float:
        """The diagonal of R, away from the ends."""
        z, y, x = (1.0 / s**2 for s in spacing_mm)
        squares = 6.0 * (z * z + y * y + x * x) + 8.0 * (z * y + z * x + y * x)
        return self.stretching * 2.0 * (z + y + x) + self.bending * squares


def minus_laplacian(v: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Minus the Laplacian of `v` (3, D, H, W) per mm^2, with free ends."""
    out = torch.zeros_like(v)
    for axis, spacing in enumerate(spacing_mm, start=1):
        step = v.diff(dim=axis) / spacing**2
        count = step.shape[axis]
        out.narrow(axis, 1, count).add_(step)
        out.narrow(axis, 0, count).sub_(step)
    return out
