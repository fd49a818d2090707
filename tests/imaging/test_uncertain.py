"""Uncertain regions: blobs of known size are found and ranked, shells are not."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.imaging.fusion import confidence_map, encode_confidence
from napari_multiphase.imaging.uncertain import uncertain_regions

SPACING = (2.0, 1.0, 1.0)
SHAPE = (40, 80, 80)
SURE, UNSURE, TIE = encode_confidence(np.array([500.0, 2.0, 1.1]))


def distance(centre) -> np.ndarray:
    z, y, x = (((np.arange(n) - c) * s) ** 2 for n, c, s in zip(SHAPE, centre, SPACING, strict=True))
    return np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])


def organ() -> tuple[np.ndarray, np.ndarray]:
    """A ball of liver whose border is unsure one voxel deep on either side."""
    apart = distance((20, 40, 30))
    labels = np.where(apart <= 20, 1, 0).astype(np.uint8)
    return labels, np.where(np.abs(apart - 20) <= 1.0, UNSURE, SURE).astype(np.uint8)


def test_a_border_alone_is_no_region():
    assert uncertain_regions(*organ(), SPACING) == []


def peeled(size: tuple[int, int, int], layers: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of an unsure box: its core, a box again, and the region, all within one step more than layers were taken off."""
    beyond = [
        np.maximum(0, np.maximum(k - np.arange(n), np.arange(n) - (n - 1 - k)))
        for n, k in zip(size, layers, strict=True)
    ]
    steps = beyond[0][:, None, None] + beyond[1][:, None] + beyond[2]
    return steps == 0, steps <= max(layers) + 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
@pytest.mark.parametrize("thick", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12])
def test_a_flat_border_is_a_region_beyond_8_mm_alone_and_then_exactly_known(thick, spacing):
    """Layers of 1 mm go from each side until a tenth at most is left, four at the most; of voxels of 2 mm two."""
    size = (thick, 40, 40)
    for count in (1, 2, 3, 4):
        layers = (int(count / spacing[0]), count, count)
        left = np.prod([max(0, n - 2 * k) for n, k in zip(size, layers, strict=True)])
        if left <= 0.1 * np.prod(size):
            break
    labels, confidence = np.ones((30, 50, 50), np.uint8), np.full((30, 50, 50), SURE, np.uint8)
    box = (slice(9, 9 + thick), slice(5, 45), slice(5, 45))
    confidence[box] = UNSURE
    found = uncertain_regions(labels, confidence, spacing)
    assert bool(found) == (left > 0) == (thick * spacing[0] > 8)
    for region in found:
        core, mask = peeled(size, layers)
        inside = np.zeros(labels.shape, bool)
        inside[region.box] = region.mask
        assert np.array_equal(inside[box], mask) and inside.sum() == mask.sum() and len(found) == 1
        doubt = 1 - confidence_map(np.array([UNSURE]))[0]
        weight = core.sum() + 0.25 * (mask.sum() - core.sum())
        assert region.score == pytest.approx(float(doubt * weight) * spacing[0] * 1e-3, rel=1e-4)


def test_beside_a_thick_border_what_is_deeper_is_the_only_region():
    confidence = np.full((40, 50, 50), SURE, np.uint8)
    confidence[2:8, 5:45, 5:45] = UNSURE  # 28 % of all are left after two layers, 3 % after three: all of the cube
    confidence[20:33, 20:33, 20:33] = UNSURE
    (found,) = uncertain_regions(np.ones(confidence.shape, np.uint8), confidence, (1.0, 1.0, 1.0))
    inside = np.zeros(confidence.shape, bool)
    inside[found.box] = found.mask
    mask = peeled((13, 13, 13), (3, 3, 3))[1]
    assert np.array_equal(inside[20:33, 20:33, 20:33], mask) and inside.sum() == mask.sum()


def test_blobs_are_found_measured_and_ranked():
    labels, confidence = organ()
    blobs = {
        "large": ((20, 40, 30), 6.0, UNSURE),
        "small but a tie": ((20, 40, 66), 5.5, TIE),
        "small": ((10, 12, 62), 4.0, UNSURE),
        "on the border": ((20, 60, 30), 5.0, UNSURE),
    }
    labels[distance((20, 40, 66)) <= 3] = 4
    for centre, radius, value in blobs.values():
        confidence[distance(centre) <= radius] = value
    confidence[3, 3, 3] = TIE  # noise
    found = uncertain_regions(labels, confidence, SPACING)
    assert len(found) == 4
    order = [min(blobs, key=lambda name: distance(blobs[name][0])[region.centre]) for region in found]
    assert order == ["small but a tie", "large", "on the border", "small"]
    assert [region.structure for region in found] == [4, 1, 1, 0]
    assert [a.score >= b.score for a, b in zip(found, found[1:], strict=False)] == [True] * 3
    for region, name in zip(found, order, strict=True):
        centre, radius, value = blobs[name]
        inside = np.zeros(SHAPE, bool)
        inside[region.box] = region.mask
        assert inside[region.centre]
        assert (confidence[inside] < SURE).all()
        assert region.confidence == pytest.approx(float(confidence_map(np.array([value]))[0]), abs=1e-5)
        assert region.ml == pytest.approx(inside.sum() * 2e-3)
        blob = distance(centre) <= radius
        if name == "on the border":
            assert (inside & blob).sum() > 0.95 * blob.sum()
            assert inside.sum() < 1.9 * blob.sum(), "it takes a little of the shell along, not all of it"
        else:
            assert (inside & ~blob).sum() == 0
            assert inside.sum() > 0.9 * blob.sum()
    again = uncertain_regions(labels, confidence, SPACING)
    assert [(r.centre, r.score) for r in again] == [(r.centre, r.score) for r in found]


def test_less_doubtful_regions_follow_where_the_list_has_room():
    labels, confidence = organ()
    mild = encode_confidence(np.array([6.0]))[0]
    blobs = {"mild but large": ((20, 40, 30), 9.0, mild), "unsure": ((20, 40, 66), 4.0, UNSURE)}
    for centre, radius, value in blobs.values():
        confidence[distance(centre) <= radius] = value
    found = uncertain_regions(labels, confidence, SPACING)
    order = [min(blobs, key=lambda name: distance(blobs[name][0])[region.centre]) for region in found]
    assert order == ["unsure", "mild but large"]
    assert len(uncertain_regions(labels, confidence, SPACING, most=1)) == 1
    confidence[distance((20, 40, 30)) <= 9.0] = encode_confidence(np.array([10.0]))[0]
    assert len(uncertain_regions(labels, confidence, SPACING)) == 1


def test_regions_share_no_voxel_and_keep_to_what_is_unsure():
    rng = np.random.default_rng(5)
    from scipy import ndimage

    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5)
    confidence = np.where(field > 0.03, UNSURE, SURE).astype(np.uint8)
    found = uncertain_regions(np.ones(SHAPE, np.uint8), confidence, SPACING)
    assert len(found) > 3
    seen = np.zeros(SHAPE, int)
    for region in found:
        seen[region.box] += region.mask
        assert seen[region.centre] == 1
    assert seen.max() == 1
    assert (confidence[seen > 0] == UNSURE).all()


def test_thick_slices_do_not_hide_what_shows_in_two_of_them():
    labels = np.zeros((10, 60, 60), np.uint8)
    confidence = np.full(labels.shape, SURE, np.uint8)
    confidence[4:6, 20:35, 20:35] = UNSURE
    (found,) = uncertain_regions(labels, confidence, (5.0, 0.8, 0.8))
    assert found.mask.sum() > 400
    assert found.centre[0] in (4, 5)


def test_what_no_model_saw_is_not_a_region():
    labels, confidence = organ()
    confidence[30:] = 0
    labels[30:] = 0
    assert uncertain_regions(labels, confidence, SPACING) == []
    confidence[:] = SURE
    assert uncertain_regions(labels, confidence, SPACING) == []
