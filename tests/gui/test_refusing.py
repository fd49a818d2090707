"""The slice that the slider shows equals the slice of the whole volume fused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.gui.refusing import fuse_plane, plane_grid
from napari_multiphase.imaging.fusion import carry, fuse
from napari_multiphase.study import PhasePrediction, PhaseTransform, Prediction, Study, TwoBest
from napari_multiphase.volume import Grid, Phase, Volume


def _best(rng: np.random.Generator, shape: tuple[int, int, int]) -> TwoBest:
    first = rng.integers(0, 5, shape).astype(np.uint8)
    second = ((first + 1 + rng.integers(0, 3, shape)) % 5).astype(np.uint8)
    p_first = rng.integers(110, 220, shape).astype(np.uint8)
    return TwoBest(first, second, p_first, (255 - p_first) // 2)


@pytest.fixture
def case() -> tuple[Prediction, Study]:
    rng = np.random.default_rng(1)
    venous = Volume.from_array(np.zeros((7, 9, 11), np.int16), (2.0, 1.0, 1.5), (-5.0, 3.0, 1.0))
    arterial = Volume.from_array(np.zeros((8, 10, 10), np.int16), (1.7, 1.1, 1.4), (-4.0, 2.0, 2.0))
    matrix = np.eye(4)
    matrix[:3, 3] = (1.5, -0.7, 2.2)
    study = Study("s", {Phase.ARTERIAL: arterial, Phase.VENOUS: venous}, transform=PhaseTransform(matrix, "rigid"))
    phases = {}
    for phase, volume in study.volumes.items():
        best = _best(rng, volume.shape)
        phases[phase] = PhasePrediction(best.first, best.p_first, best)
    empty = np.zeros(venous.shape, np.uint8)
    return Prediction("s", "m", phases, empty, empty, venous.grid, Phase.VENOUS), study


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.9])
def test_plane_equals_plane_of_the_volume(case, axis, weight):
    prediction, study = case
    grid = prediction.fused_grid
    carried = carry(
        prediction.phases[Phase.ARTERIAL].two_best,
        study.volumes[Phase.ARTERIAL].grid,
        grid,
        study.transform.venous_to_arterial_mm,
    )
    labels, confidence = fuse(carried, prediction.phases[Phase.VENOUS].two_best, weight)
    index = grid.shape[axis] // 2
    plane_labels, plane_confidence = fuse_plane(prediction, study, axis, index, weight)
    np.testing.assert_array_equal(np.take(labels, [index], axis), plane_labels)
    np.testing.assert_array_equal(np.take(confidence, [index], axis), plane_confidence)


def test_plane_grid_lies_where_the_plane_lies():
    grid = Grid((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0))
    plane = plane_grid(grid, 1, 3)
    assert plane.shape == (4, 1, 6)
    assert plane.origin_mm == (10.0, 26.0, 30.0)
    assert plane.spacing_mm == grid.spacing_mm
