"""Surface distances against values worked out by hand, and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_multiphase.metrics import surface, surface_distances

masks = arrays(bool, (4, 5, 6))
spacings = st.tuples(*[st.floats(0.5, 5.0)] * 3)


def test_one_dimension_by_hand() -> None:
    p, g = np.zeros(6, bool), np.zeros(6, bool)
    p[0], g[3:5] = True, True
    found = surface_distances(p, g, (1.0,))
    assert found.assd_mm == pytest.approx(10 / 3, abs=1e-6)
    assert found.rmsd_mm == pytest.approx(math.sqrt(34 / 3), abs=1e-6)
    assert found.hd_mm == pytest.approx(4.0, abs=1e-6)
    mean_of_means = (found.from_prediction_mm.mean() + found.from_reference_mm.mean()) / 2
    assert mean_of_means == pytest.approx(3.25, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_spacing_belongs_to_the_axis(axis: int) -> None:
    p, g = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    p[1, 1, 1] = True
    g[tuple(4 if a == axis else 1 for a in range(3))] = True
    spacing = (2.5, 0.7, 1.3)
    assert surface_distances(p, g, spacing).hd_mm == pytest.approx(3 * spacing[axis], abs=1e-6)


def test_surface_of_a_cube_is_its_shell() -> None:
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    assert surface(cube).sum() == 5**3 - 3**3


def test_the_border_of_the_array_is_outside() -> None:
    full = np.ones((4, 4), bool)
    assert surface(full).sum() == 12


def test_corner_neighbours_do_not_count() -> None:
    mask = np.ones((5, 5), bool)
    mask[0, 0] = False
    assert not surface(mask)[1, 1]
    assert surface(mask)[0, 1]


def test_unknown_voxels_make_no_surface() -> None:
    row = np.ones(7, bool)
    unknown = np.zeros(7, bool)
    unknown[5:] = True
    assert surface(row & ~unknown, unknown).nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("empty", ["prediction", "reference", "both"])
def test_an_empty_mask_has_no_distance(empty: str) -> None:
    some, none = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    p = none if empty in ("prediction", "both") else some
    g = none if empty in ("reference", "both") else some
    found = surface_distances(p, g, (1, 1, 1))
    assert math.isnan(found.assd_mm)
    assert math.isnan(found.rmsd_mm)
    assert math.isnan(found.hd_mm)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="do not agree"):
        surface_distances(np.ones((2, 2)), np.ones((2, 3)), (1, 1))


@settings(deadline=None, max_examples=60)
@given(masks, masks, spacings, st.floats(0.2, 4.0))
def test_order_scale_and_symmetry(p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...], factor: float) -> None:
    found = surface_distances(p, g, spacing)
    if not (p.any() and g.any()):
        assert math.isnan(found.hd_mm)
        return
    assert found.assd_mm <= found.rmsd_mm + 1e-6 <= found.hd_mm + 2e-6
    scaled = surface_distances(p, g, tuple(s * factor for s in spacing))
    for name in ("assd_mm", "rmsd_mm", "hd_mm"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(found, name), rel=1e-4, abs=1e-5)
    back = surface_distances(g, p, spacing)
    assert back.assd_mm == pytest.approx(found.assd_mm, rel=1e-9)
    assert surface_distances(p, p, spacing).hd_mm == 0.0


@settings(deadline=None, max_examples=60)
@given(masks, masks, spacings)
def test_agrees_with_scipy(p: np.ndarray, g: np.ndarray, spacing: tuple[float, ...]) -> None:
    if not (p.any() and g.any()):
        return

    def rim(mask: np.ndarray) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask, border_value=0)

    there = ndimage.distance_transform_edt(~rim(g), sampling=spacing)[rim(p)]
    back = ndimage.distance_transform_edt(~rim(p), sampling=spacing)[rim(g)]
    pooled = np.concatenate([there, back])
    found = surface_distances(p, g, spacing)
    assert found.assd_mm == pytest.approx(pooled.mean(), rel=1e-5, abs=1e-6)
    assert found.rmsd_mm == pytest.approx(np.sqrt((pooled**2).mean()), rel=1e-5, abs=1e-6)
    assert found.hd_mm == pytest.approx(pooled.max(), rel=1e-5, abs=1e-6)
