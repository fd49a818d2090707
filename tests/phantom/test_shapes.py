"""Signed distances against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_multiphase.phantom.anatomy import structures
from napari_multiphase.phantom.make import FIELD_LIMIT
from napari_multiphase.phantom.shapes import (
    Solid,
    Tube,
    ellipsoid,
    polyline,
    rotation,
    smooth_max,
    smooth_min,
    superellipse,
    tube,
)
from napari_multiphase.phantom.subject import Subject


def points(seed: int, count: int = 400, reach: float = 60.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.random.default_rng(seed).uniform(-reach, reach, (3, count)).astype(np.float32)
    return x, y, z


def test_a_sphere_is_exact() -> None:
    x, y, z = points(0)
    ball = ellipsoid((5, -3, 2), (20, 20, 20))
    expected = np.sqrt((x - 5.0) ** 2 + (y + 3.0) ** 2 + (z - 2.0) ** 2) - 20
    assert ball.distance(x, y, z) == pytest.approx(expected, abs=1e-3)


def test_an_ellipsoid_has_the_right_sign_and_unit_slope_at_its_surface() -> None:
    turn = rotation(20, -35, 60)
    body = ellipsoid((1, 2, 3), (10, 25, 40), turn)
    direction = np.random.default_rng(1).normal(size=(300, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    surface = direction * (10, 25, 40)
    normal = direction / (10, 25, 40)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    for offset in (-0.5, 0.0, 0.5):
        at = ((surface + offset * normal) @ turn.T + (1, 2, 3)).astype(np.float32)
        assert body.distance(*at.T) == pytest.approx(offset, abs=0.06)


def test_a_straight_tube_is_a_capsule() -> None:
    x, y, z = points(2)
    capsule = polyline([(0, 0, -20), (0, 0, 20)], 6.0)
    along = np.clip(z, -20, 20)
    assert capsule.distance(x, y, z) == pytest.approx(np.sqrt(x * x + y * y + (z - along) ** 2) - 6, abs=1e-3)


def test_a_tube_along_a_circle_is_a_torus() -> None:
    angle = np.linspace(0, np.pi, 40)
    half = tube(np.stack([30 * np.cos(angle), 30 * np.sin(angle), 0 * angle], axis=1), 5.0, 2.0)
    x, y, z = (a[:, None] for a in np.random.default_rng(3).uniform((-40, 5, -10), (40, 40, 10), (300, 3)).T)
    torus = np.hypot(np.hypot(x, y) - 30, z) - 5
    assert half.distance(*(a.astype(np.float32) for a in (x, y, z))) == pytest.approx(torus, abs=0.05)


@given(st.integers(0, 10_000))
def test_nothing_lies_inside_outside_its_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bodies: list[Solid | Tube] = [
        ellipsoid(rng.uniform(-20, 20, 3), rng.uniform(3, 30, 3), rotation(*rng.uniform(0, 360, 3))),
        tube(rng.uniform(-30, 30, (5, 3)), rng.uniform(2, 9, 5), stretch_z=float(rng.uniform(1, 2))),
    ]
    at = np.stack(points(seed, 600), axis=1)
    for body in bodies:
        outside = np.any((at < body.box.lo) | (at > body.box.hi), axis=1)
        assert (body.distance(*at[outside].T) > -1e-3).all()


def test_smooth_union_and_intersection_bracket_the_sharp_ones() -> None:
    a, b = np.linspace(-9, 9, 101, dtype=np.float32), np.linspace(7, -5, 101, dtype=np.float32)
    union, cut = smooth_min(a, b, 4), smooth_max(a, b, 4)
    assert (union <= np.minimum(a, b) + 1e-6).all() and (union >= np.minimum(a, b) - 1 - 1e-6).all()
    assert (cut >= np.maximum(a, b) - 1e-6).all() and (cut <= np.maximum(a, b) + 1 + 1e-6).all()
    far = np.abs(a - b) > 4
    assert (union[far] == np.minimum(a, b)[far]).all()


def test_a_superellipse_passes_through_its_half_axes() -> None:
    x, y = np.array([130, 0, -130, 132], np.float32), np.array([0, 80, 0, 0], np.float32)
    assert superellipse(x, y, 130.0, 80.0)[2] == pytest.approx([0, 0, 0, 2], abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_every_structure_is_found_wherever_it_paints(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for structure in structures(Subject(seed), "liver" if seed % 2 else "pancreas"):
        for edge in (2.0, 7.0):
            reach = structure.shape.reach(edge + 3 * structure.rough_mm)
            around = reach.padded(30)
            lo, hi = np.maximum(around.lo, -600), np.minimum(around.hi, 600)
            at = rng.uniform(lo, hi, (2_000, 3)).astype(np.float32)
            at = at[np.any((at < reach.lo) | (at > reach.hi), axis=1)]
            if not len(at):
                continue  # fills all space that can be scanned
            nearest = structure.shape.distance(*at.T).min() - FIELD_LIMIT * structure.rough_mm
            assert nearest > 0.5 * edge, (structure.name, edge, nearest)
