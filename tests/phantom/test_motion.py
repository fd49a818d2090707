"""Breathing: invertible, fold-free, strong at the dome and still at the spine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.phantom.motion import Breathing, Shape, Waves

SEEDS = st.integers(0, 1_000)


def body_points(seed: int, count: int = 2_000) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-150, -110, -140), (150, 110, 140), (count, 3))


def breathing(seed: int, peak_mm: float = 12.0) -> Breathing:
    return Breathing.draw(np.random.default_rng(seed), peak_mm)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(1.0, 30.0))
def test_the_inverse_undoes_the_motion(seed: int, peak_mm: float) -> None:
    field, arterial = breathing(seed, peak_mm), body_points(seed)
    venous = field.inverse(arterial)
    assert np.abs(venous + field(venous) - arterial).max() < 0.01


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_the_peak_is_what_was_asked_for(seed: int) -> None:
    dense = np.stack(np.meshgrid(*[np.arange(-140, 141, 7.0)] * 3, indexing="ij"), axis=-1)
    assert np.linalg.norm(breathing(seed)(dense), axis=-1).max() == pytest.approx(12.0, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_space_is_never_folded(seed: int) -> None:
    field, at, h = breathing(seed, 30.0), body_points(seed), 0.5
    columns = [(field(at + h * e) - field(at - h * e)) / (2 * h) for e in np.eye(3)]
    assert np.linalg.det(np.stack(columns, axis=-1) + np.eye(3)).min() > 0.3


def test_the_dome_moves_along_the_body_and_the_spine_does_not() -> None:
    dome, canal = np.array([[-70.0, 0.0, 85.0]]), np.stack([[0.0, 75.0, z] for z in range(-140, 141, 20)])
    for seed in range(8):
        field = breathing(seed)
        there = field(dome)[0]
        assert abs(there[2]) > 8 and abs(there[2]) > 3 * np.abs(there[:2]).max()
        assert np.linalg.norm(field(canal), axis=1).max() < 0.6


def test_a_subject_is_neither_giant_nor_mirrored() -> None:
    at = body_points(0)
    for seed in range(8):
        shape = Shape.draw(np.random.default_rng(seed))
        assert np.abs(shape(at) - at).max() < 35
        columns = [(shape(at + e) - shape(at - e)) / 2 for e in np.eye(3)]
        assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0.4


def test_waves_have_the_asked_deviation() -> None:
    at = np.random.default_rng(0).uniform(-2000, 2000, (60_000, 3))
    values = Waves.draw(np.random.default_rng(1), 12, (30, 60), 2.5, 2)(at)
    assert values.std(axis=0) == pytest.approx([2.5, 2.5], rel=0.02)
