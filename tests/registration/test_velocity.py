"""Exponentials, descriptors and smoothing on small lattices, against closed forms."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_multiphase.registration import velocity
from napari_multiphase.registration.demons import diffuse_along, force, surface_normals
from napari_multiphase.registration.descriptors import CHANNELS, self_similarity
from napari_multiphase.registration.gauss_newton import GaussNewton

SPACING = (2.0, 1.0, 1.5)


@pytest.fixture
def bump() -> Tensor:
    """A smooth velocity of up to 3 mm that vanishes at the lattice's border."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (18, 28, 24)), indexing="ij")
    hill = (1 - z**2) ** 2 * (1 - y**2) ** 2 * (1 - x**2) ** 2
    return 2.5 * torch.stack([hill * torch.cos(2 * x), -hill * torch.sin(2 * z + 1), 0.7 * hill])


def test_exp_of_nothing_is_the_identity() -> None:
    assert not velocity.exp(torch.zeros(3, 6, 7, 8), SPACING).any()


def test_exp_of_a_constant_is_a_shift() -> None:
    constant = torch.tensor([3.0, -2.0, 5.0])[:, None, None, None].expand(3, 9, 9, 9)
    assert torch.allclose(velocity.exp(constant, SPACING), constant, atol=1e-5)


def test_exp_of_a_linear_velocity_is_the_matrix_exponential() -> None:
    """dz/dt = a z, so z(1) = exp(a) z: a slope that trilinear interpolation holds exactly."""
    z = velocity.lattice(torch.zeros(3, 12, 5, 5), SPACING)[0]
    v = torch.stack([-0.2 * z, torch.zeros_like(z), torch.zeros_like(z)])
    found = velocity.exp(v, SPACING)[0]
    assert torch.allclose(found, (math.exp(-0.2) - 1) * z, atol=0.02 * float(z.max()))


def test_exp_of_minus_v_undoes_exp_of_v_and_nothing_folds(bump: Tensor) -> None:
    there, back = velocity.exp(bump, SPACING), velocity.exp(-bump, SPACING)
    apart = velocity.compose(back, there, SPACING)
    assert there.norm(dim=0).max() > 2.0
    assert apart.norm(dim=0).max() < 0.2
    slopes = velocity.gradient(there, SPACING).permute(2, 3, 4, 0, 1)
    assert torch.linalg.det(torch.eye(3) + slopes).min() > 0.0


def test_gradient_of_a_ramp() -> None:
    points = velocity.lattice(torch.zeros(3, 6, 7, 8), SPACING)
    ramp = (2 * points[0] - 3 * points[1] + 0.5 * points[2])[None]
    inner = velocity.gradient(ramp, SPACING)[0, :, 1:-1, 1:-1, 1:-1]
    assert torch.allclose(inner.mean(dim=(1, 2, 3)), torch.tensor([2.0, -3.0, 0.5]), atol=1e-4)


def test_smoothing_keeps_constants_and_has_its_width() -> None:
    assert torch.allclose(velocity.smooth(torch.ones(1, 5, 6, 7), (1.0, 0.0, 2.0)), torch.ones(1, 5, 6, 7))
    point = torch.zeros(1, 41, 3, 3)
    point[0, 20, 1, 1] = 1.0
    line = velocity.smooth(point, (2.0, 0.0, 0.0))[0, :, 1, 1]
    assert float(line.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float((line * (torch.arange(41) - 20.0) ** 2).sum()) == pytest.approx(4.0, rel=0.05)


def test_resizing_keeps_a_ramp() -> None:
    coarse = velocity.lattice(torch.zeros(3, 5, 6, 7), (4.0, 4.0, 4.0))
    fine = velocity.resize(coarse, (4.0, 4.0, 4.0), (8, 10, 12), (2.0, 2.0, 2.0))
    assert torch.allclose(fine, velocity.lattice(fine, (2.0, 2.0, 2.0)), atol=1e-4)


def test_coarsening_averages_noise_and_keeps_what_is_smooth() -> None:
    """White noise loses the variance that a Gaussian of sigma 0.45 sqrt(f^2 - 1) voxels takes, f = 3 on each axis."""
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 48, 48, 48)).astype(np.float32))
    coarse = velocity.coarsen(noise, (2.0, 2.0, 2.0), (16, 16, 16), (6.0, 6.0, 6.0))
    sigma = 0.45 * math.sqrt(8.0)
    assert float(coarse[:, 2:-2, 2:-2, 2:-2].std()) == pytest.approx((2 * math.sqrt(math.pi) * sigma) ** -1.5, rel=0.1)
    ramp = velocity.lattice(torch.zeros(3, 48, 48, 48), (2.0, 2.0, 2.0))
    coarse = velocity.coarsen(ramp, (2.0, 2.0, 2.0), (16, 16, 16), (6.0, 6.0, 6.0))
    wanted = velocity.lattice(coarse, (6.0, 6.0, 6.0))
    inner = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    assert torch.allclose(coarse[inner], wanted[inner], atol=1e-3)


def test_self_similarity_is_the_papers_definition() -> None:
    """D_c = mean over the patch of (I(x + a) - I(x + b))^2 for the twelve pairs of faces a, b that are not opposite."""
    image = np.random.default_rng(3).normal(size=(9, 10, 11))
    faces = [np.roll((sign, 0, 0), axis) for axis in range(3) for sign in (1, -1)]
    x = np.array([4, 5, 6])
    patch = np.argwhere(np.ones((3, 3, 3), bool)) - 1
    distances = np.array([
        np.mean([(image[tuple(x + a + o)] - image[tuple(x + b + o)]) ** 2 for o in patch])
        for a, b in combinations(faces, 2)
        if (a + b).any()
    ])  # fmt: skip
    wanted = np.exp(-(distances - distances.min()) / distances.mean())
    found = self_similarity(torch.from_numpy(image.astype(np.float32)))[:, 4, 5, 6].numpy()
    assert len(distances) == CHANNELS
    assert np.sort(found) == pytest.approx(np.sort(wanted), abs=1e-5)


def test_self_similarity_does_not_see_brightness_or_sign() -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32))
    here = self_similarity(image)
    assert here.shape == (CHANNELS, 9, 10, 11)
    assert float(here.min()) > 0.0 and float(here.max()) == 1.0
    assert torch.allclose(here, self_similarity(40.0 - 3.0 * image), atol=1e-4)
    assert torch.equal(self_similarity(torch.full((5, 5, 5), 70.0)), torch.ones(CHANNELS, 5, 5, 5))


def test_the_force_is_the_papers() -> None:
    """One channel, f - m = 2, slope (0, 3, 0), kappa 4: u = 2 * 3 / (9 + 4 / 16) along y."""
    fixed, moving = torch.full((1, 2, 2, 2), 5.0), torch.full((1, 2, 2, 2), 3.0)
    slope = torch.zeros(1, 3, 2, 2, 2)
    slope[:, 1] = 3.0
    u = force(fixed, moving, slope, 4.0)
    assert torch.allclose(u[1], torch.full((2, 2, 2), 6.0 / 9.25))
    assert not u[0].any() and not u[2].any()
    assert float(force(fixed, moving, slope * 0.01, 4.0).abs().max()) < 2.0
    assert not force(fixed, fixed, torch.zeros_like(slope), 4.0).any()


def test_smoothing_goes_along_a_surface_and_hardly_across_it() -> None:
    """Two blocks that slide on each other: their velocities mix across the border, less where it is known."""
    organs = torch.zeros(16, 16, 16, dtype=torch.long)
    organs[:8] = 1
    v = torch.zeros(3, 16, 16, 16)
    v[1, :8] = 5.0
    normals = surface_normals(organs, (2.0, 2.0, 2.0))
    assert float(normals[0, 7].abs().mean()) > 0.8
    assert float(normals[1:].abs().max()) < 0.1
    free = diffuse_along(v, torch.zeros_like(normals), (3.0, 3.0, 3.0), (2.0, 2.0, 2.0))
    held = diffuse_along(v, normals, (3.0, 3.0, 3.0), (2.0, 2.0, 2.0))
    assert float(held[1, 7].mean() - held[1, 8].mean()) > 1.5 * float(free[1, 7].mean() - free[1, 8].mean())
    assert float(held.mean()) == pytest.approx(float(v.mean()), rel=1e-4)
    along = torch.zeros(3, 16, 16, 16)
    along[1, 7, 8, 8] = 1.0
    spread = diffuse_along(along, normals, (3.0, 3.0, 3.0), (2.0, 2.0, 2.0))[1]
    assert float(spread[7, 10, 8]) > 3 * float(spread[9, 8, 8])


def test_diffusion_far_from_surfaces_is_a_gaussian() -> None:
    point = torch.zeros(3, 31, 7, 7)
    point[0, 15, 3, 3] = 1.0
    out = diffuse_along(point, torch.zeros_like(point), (4.0, 0.0, 0.0), (2.0, 2.0, 2.0))[0, :, 3, 3]
    assert float((out * (torch.arange(31) - 15.0) ** 2).sum()) == pytest.approx(4.0, rel=0.01)


def test_the_normal_equations_are_solved() -> None:
    rng = torch.Generator().manual_seed(1)
    g = torch.randn(4, 3, 5, 6, 7, generator=rng)
    tensor = {(i, j): (g[:, i] * g[:, j]).sum(dim=0) for i in range(3) for j in range(i, 3)}
    wanted = torch.randn(3, 5, 6, 7, generator=rng)
    settings = GaussNewton(stretching=0.5, rounds=300)
    right = settings.stiffness(wanted, SPACING) + (g * (g * wanted).sum(dim=1, keepdim=True)).sum(dim=0)
    found = settings.solve(tensor, right, SPACING)
    assert float((found - wanted).norm()) < 0.01 * float(wanted.norm())
