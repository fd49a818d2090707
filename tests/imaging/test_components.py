"""Connected components against hand-made shapes and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_multiphase.imaging.components import components, fill_holes, largest_component


def two_blobs() -> np.ndarray:
    mask = np.zeros((6, 8, 10), bool)
    mask[1:3, 1:4, 1:4] = True  # 18 voxels
    mask[4:6, 5:8, 5:10] = True  # 30 voxels
    return mask


def test_the_largest_blob_is_kept() -> None:
    kept = largest_component(two_blobs())
    assert kept.dtype == bool
    assert kept.sum() == 30
    assert kept[5, 6, 7]


def test_an_empty_mask_has_no_largest_part() -> None:
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()
    assert components(np.zeros((3, 3, 3), bool))[1] == 0


@pytest.mark.parametrize(("connectivity", "wanted"), [(6, 2), (18, 2), (26, 1)])
def test_corner_contact_counts_by_connectivity(connectivity, wanted: int) -> None:
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert components(mask, connectivity)[1] == wanted


def test_random_masks_agree_with_scipy() -> None:
    for seed in range(5):
        mask = np.random.default_rng(seed).random((12, 14, 16)) < 0.25
        assert components(mask, 6)[1] == ndimage.label(mask)[1]
        assert components(mask)[1] == ndimage.label(mask, np.ones((3, 3, 3)))[1]


def test_cavities_are_filled_and_bays_are_not() -> None:
    rng = np.random.default_rng(2)
    for density in (0.3, 0.6, 0.8):
        mask = rng.random((9, 10, 11)) < density
        np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
