"""Figures of images against closed forms, and SSIM against scikit-image where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.metrics.image import closeness, s_score, ssim_map, structure_hu

WINDOW = (-200.0, 600.0)
SHAPE = (3, 40, 48)


@pytest.fixture
def scan() -> np.ndarray:
    rng = np.random.default_rng(5)
    z, y, x = np.indices(SHAPE)
    return (60 * np.sin(y / 5) + 40 * np.cos(x / 7) + 10 * z + rng.normal(0, 8, SHAPE) + 80).astype(np.float32)


def everywhere() -> np.ndarray:
    return np.ones(SHAPE, bool)


def test_equal_images_have_no_error(scan):
    same = closeness(scan, scan, everywhere(), WINDOW)
    assert same.mae_hu == 0
    assert same.psnr_db == np.inf
    assert same.ssim == pytest.approx(1, abs=1e-6)
    assert same.to_dict()["psnr_db"] is None, "JSON has no infinity"


def test_a_constant_offset_has_a_closed_form(scan):
    """MAE |c|, PSNR 20 log10(range / c)."""
    found = closeness(scan, scan + 20, everywhere(), WINDOW)
    assert found.mae_hu == pytest.approx(20, rel=1e-5)
    assert found.psnr_db == pytest.approx(20 * np.log10(800 / 20), rel=1e-5)
    assert found.voxels == np.prod(SHAPE)


def test_ssim_of_two_constants_is_the_luminance_term():
    a, b = np.full(SHAPE, 100.0), np.full(SHAPE, 160.0)
    c1 = (0.01 * 800) ** 2
    expected = (2 * 100 * 160 + c1) / (100**2 + 160**2 + c1)
    assert closeness(a, b, everywhere(), WINDOW).ssim == pytest.approx(expected, rel=1e-5)


def test_only_what_is_inside_counts(scan):
    inside = everywhere()
    inside[:, :, 24:] = False
    other = scan.copy()
    other[:, :, 24:] += 500
    found = closeness(scan, other, inside, WINDOW)
    assert found.mae_hu == 0
    assert found.psnr_db == np.inf
    assert found.voxels == inside.sum()
    nothing = closeness(scan, scan, np.zeros(SHAPE, bool), WINDOW)
    assert nothing.voxels == 0 and nothing.to_dict()["mae_hu"] is None


def test_beyond_the_window_only_mae_sees_a_difference(scan):
    a, b = np.full(SHAPE, 900.0), np.full(SHAPE, 1500.0)
    found = closeness(a, b, everywhere(), WINDOW)
    assert found.mae_hu == 600
    assert found.psnr_db == np.inf


def test_ssim_is_that_of_scikit_image(scan):
    metrics = pytest.importorskip("skimage.metrics")
    other = scan + np.random.default_rng(6).normal(0, 25, SHAPE)
    for a, b in zip(scan, other, strict=True):
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        _, expected = metrics.structural_similarity(a.astype(np.float64), b, data_range=800, full=True, **window)
        np.testing.assert_allclose(ssim_map(a, b, 800.0), expected, atol=2e-5)


def test_histograms_count_every_voxel_once():
    image = np.array([[[-500.0, 5.0, 15.0, 15.0, 900.0, 40.0]]])
    labels = np.array([[[1, 1, 1, 1, 1, 255]]], np.uint8)
    edges = np.linspace(0, 50, 6)
    found = structure_hu(image, labels, edges)
    assert list(found) == [1], "what nobody reviewed is no structure"
    np.testing.assert_array_equal(found[1].counts, [2, 2, 0, 0, 1])
    assert found[1].voxels == 5
    assert found[1].mean_hu == pytest.approx(87.0)
    assert found[1].sd_hu == pytest.approx(np.std([-500, 5, 15, 15, 900]))
    assert sum(found[1].to_dict()["share"]) == pytest.approx(1)
    inside = np.array([[[True, True, False, False, False, True]]])
    assert structure_hu(image, labels, edges, inside)[1].voxels == 2


def test_s_score_is_the_mean_dice_of_what_the_judge_knows():
    labels = np.array([[[1, 1, 2, 2, 5, 255, 0, 0]]], np.uint8)
    found = np.array([[[1, 0, 2, 2, 0, 1, 0, 0]]], np.uint8)
    score, dice = s_score(found, labels, {0, 1, 2})
    assert dice == {1: pytest.approx(2 / 3), 2: 1.0}
    assert score == pytest.approx(5 / 6)
    assert np.isnan(s_score(found, np.zeros_like(labels), {1})[0])
