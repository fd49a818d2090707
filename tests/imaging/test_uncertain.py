"""Uncertain regions: cubes of 15 mm with most doubt first, as the plainest program finds them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.imaging.fusion import confidence_map, encode_confidence
from napari_multiphase.imaging.uncertain import uncertain_regions

SPACING = (2.0, 1.0, 1.0)
SHAPE = (40, 80, 80)
SURE, UNSURE, TIE, MILD = encode_confidence(np.array([500.0, 2.0, 1.1, 6.0]))


def distance(centre) -> np.ndarray:
    z, y, x = (((np.arange(n) - c) * s) ** 2 for n, c, s in zip(SHAPE, centre, SPACING, strict=True))
    return np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])


def organ() -> tuple[np.ndarray, np.ndarray]:
    """A ball of liver whose border is unsure one voxel deep on either side."""
    apart = distance((20, 40, 30))
    labels = np.where(apart <= 20, 1, 0).astype(np.uint8)
    return labels, np.where(np.abs(apart - 20) <= 1.0, UNSURE, SURE).astype(np.uint8)


def whole(regions, shape) -> np.ndarray:
    """How many of the regions each voxel is in."""
    count = np.zeros(shape, int)
    for region in regions:
        count[region.box] += region.mask
    return count


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(st.sampled_from([2.5, 4.0, 7.5]), st.sampled_from([1.5, 3.0]), st.sampled_from([1.5, 3.0])),
    share=st.floats(0.02, 0.6),
)
def test_regions_are_what_the_plainest_program_finds(seed, spacing, share):
    """All cubes of blocks summed anew for each region, over the block grid from the first unsure voxel's box on."""
    rng = np.random.default_rng(seed)
    shape = (6, 12, 14)
    confidence = np.where(rng.random(shape) < share, rng.integers(1, 200, shape), SURE).astype(np.uint8)
    confidence[0, 0, 0] = confidence[-1, -1, -1] = 1  # the box of what is unsure is the whole
    found = uncertain_regions(np.ones(shape, np.uint8), confidence, spacing, smallest_ml=0)
    block = [((np.arange(n) + 0.5) * s // 5.0).astype(int) for n, s in zip(shape, spacing, strict=True)]
    expected = []
    bars = encode_confidence(np.array([3.0, 9.0]))
    for low, high in ((0, bars[0]), (bars[0], bars[1])):
        doubt = np.where((confidence >= low) & (confidence < high), 1 - confidence_map(confidence), 0.0)
        while doubt.any():
            best, chosen = 0.0, None
            for start in itertools.product(*(range(-2, b[-1] + 1) for b in block)):
                cube = np.ix_(*((b >= i) & (b < i + 3) for b, i in zip(block, start, strict=True)))
                if doubt[cube].sum() > best + 1e-9:
                    best, chosen = doubt[cube].sum(), cube
            if np.count_nonzero(doubt[chosen]) >= 4:
                expected.append(best)
            doubt[chosen] = 0
    ml = np.prod(spacing) / 1000
    assert [region.score for region in found] == pytest.approx([ml * doubt for doubt in expected], rel=1e-5)


def test_what_fills_more_of_a_cube_comes_first_a_thick_border_a_blob_a_thin_border():
    confidence = np.full((60, 60, 60), SURE, np.uint8)
    confidence[10:12, 5:35, 5:35] = UNSURE
    confidence[30:36, 5:35, 5:35] = UNSURE
    confidence[20:30, 45:55, 45:55] = UNSURE
    found = uncertain_regions(np.ones(confidence.shape, np.uint8), confidence, (1.0, 1.0, 1.0))
    kinds = ["blob" if r.centre[1] > 40 else "thin" if r.centre[0] < 20 else "thick" for r in found]
    full = [kind for kind, region in zip(kinds, found, strict=True) if region.ml > 0.4]  # no rest of any
    assert kinds[0] == "thick" and full == sorted(full, key=["thick", "blob", "thin"].index)
    assert found[kinds.index("blob")].ml > found[kinds.index("thin")].ml


def test_blobs_are_found_measured_and_ranked():
    labels = organ()[0]
    confidence = np.full(SHAPE, SURE, np.uint8)
    blobs = {
        "large": ((20, 40, 30), 5.0, UNSURE),
        "as large but a tie": ((20, 40, 66), 5.0, TIE),
        "small": ((10, 12, 62), 3.0, UNSURE),
    }
    labels[distance((20, 40, 66)) <= 3] = 4
    for centre, radius, value in blobs.values():
        confidence[distance(centre) <= radius] = value
    confidence[3, 3, 3] = TIE  # noise
    found = uncertain_regions(labels, confidence, SPACING)
    order = [min(blobs, key=lambda name: distance(blobs[name][0])[region.centre]) for region in found]
    assert list(dict.fromkeys(order)) == ["as large but a tie", "large", "small"]
    firsts = [found[order.index(name)] for name in dict.fromkeys(order)]
    assert [region.structure for region in firsts] == [4, 1, 0]
    for region, name in zip(found, order, strict=True):
        inside = whole([region], SHAPE) > 0
        value = blobs[name][2]
        assert inside[region.centre] and (confidence[inside] == value).all()
        assert region.confidence == pytest.approx(float(confidence_map(np.array([value]))[0]), abs=1e-5)
        assert region.ml == pytest.approx(inside.sum() * 2e-3)
        assert region.score == pytest.approx((1 - region.confidence) * region.ml, rel=1e-4)
    assert np.array_equal(whole(found, SHAPE) > 0, (confidence != SURE) & (distance((3, 3, 3)) > 0))
    again = uncertain_regions(labels, confidence, SPACING)
    assert [(r.centre, r.score) for r in again] == [(r.centre, r.score) for r in found]


def test_less_doubtful_regions_follow_where_the_list_has_room():
    labels, confidence = organ()[0], np.full(SHAPE, SURE, np.uint8)
    blobs = {"mild but large": ((20, 40, 30), 9.0, MILD), "unsure": ((20, 40, 66), 2.0, UNSURE)}
    for centre, radius, value in blobs.values():
        confidence[distance(centre) <= radius] = value
    found = uncertain_regions(labels, confidence, SPACING)
    order = [min(blobs, key=lambda name: distance(blobs[name][0])[region.centre]) for region in found]
    assert list(dict.fromkeys(order)) == ["unsure", "mild but large"]
    assert uncertain_regions(labels, confidence, SPACING, most=1)[0].centre == found[0].centre
    confidence[distance((20, 40, 30)) <= 9.0] = encode_confidence(np.array([10.0]))[0]
    sure_now = uncertain_regions(labels, confidence, SPACING)
    assert [region.centre for region in sure_now] == [r.centre for r in found if confidence[r.centre] == UNSURE]


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (5.0, 0.8, 0.8), (1.0, 0.7, 0.9)])
def test_regions_share_no_voxel_leave_none_out_and_are_no_wider_than_15_mm(spacing):
    rng = np.random.default_rng(5)
    from scipy import ndimage

    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5)
    confidence = np.where(field > 0.03, UNSURE, SURE).astype(np.uint8)
    found = uncertain_regions(np.ones(SHAPE, np.uint8), confidence, spacing, smallest_ml=0, most=confidence.size)
    count = whole(found, SHAPE)
    assert count.max() == 1 and all(count[region.centre] == 1 for region in found)
    left = (confidence == UNSURE) & (count == 0)
    cubes = [((np.arange(n) + 0.5) * s // 15).astype(int) for n, s in zip(SHAPE, spacing, strict=True)]
    apart = 100**2 * cubes[0][:, None, None] + 100 * cubes[1][:, None] + cubes[2]
    assert np.bincount(apart[left], minlength=1).max() < 4, "what is left anywhere is too little for a region"
    assert (confidence[count > 0] == UNSURE).all()
    widths = np.array([region.mask.shape for region in found]) * spacing
    assert (widths <= 15 + np.array(spacing)).all()
    scores = [region.score for region in found]
    assert scores == sorted(scores, reverse=True) and len(found) > 20


def test_thick_slices_do_not_hide_what_shows_in_two_of_them():
    labels = np.zeros((10, 60, 60), np.uint8)
    confidence = np.full(labels.shape, SURE, np.uint8)
    confidence[4:6, 20:35, 20:35] = UNSURE
    found = uncertain_regions(labels, confidence, (5.0, 0.8, 0.8))
    assert found[0].mask.sum() > 400 and whole(found, labels.shape).sum() == 2 * 15 * 15
    assert found[0].centre[0] in (4, 5)


def test_what_no_model_saw_is_not_a_region():
    labels, confidence = organ()
    confidence[30:] = 0
    labels[30:] = 0
    assert all(region.box[0].stop <= 30 for region in uncertain_regions(labels, confidence, SPACING))
    confidence[:] = SURE
    assert uncertain_regions(labels, confidence, SPACING) == []
