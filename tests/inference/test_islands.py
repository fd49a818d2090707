"""Parts apart from their organ: what goes, what stays, what it becomes, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.imaging.components import components
from napari_multiphase.imaging.fusion import fuse
from napari_multiphase.inference.islands import ORGANS, SHARE, SOLID_SHARE, without_islands
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

LIVER, SPLEEN, KIDNEY, AORTA, BONE, LUNGS, TUMOUR = 1, 2, 4, 5, 18, 19, 21
SHAPE = (24, 96, 96)
GRID = Grid(SHAPE, (3.0, 0.75, 0.75))
ORGAN, ISLAND = np.s_[2:14, 4:28, 4:28], np.s_[16:22, 64:76, 64:76]


def found(labels: np.ndarray, *, frozen: bool = False) -> PhasePrediction:
    """Sure everywhere; the second class is background."""
    arrays = [labels, np.zeros(SHAPE, np.uint8), np.full(SHAPE, 250, np.uint8), np.full(SHAPE, 5, np.uint8)]
    confidence = np.full(SHAPE, 200, np.uint8)
    for array in (*arrays, confidence):
        array.flags.writeable = not frozen
    return PhasePrediction(arrays[0], confidence, TwoBest(*arrays))


def two_parts(label: int = LIVER) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[ORGAN], labels[ISLAND] = LIVER, label
    return labels


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("label", [LIVER, TUMOUR])
def test_an_island_becomes_background_that_nobody_is_sure_of(label: int, frozen: bool) -> None:
    labels = two_parts(label)
    organ = labels.copy()
    organ[ISLAND] = 0
    result, out = without_islands(found(labels, frozen=frozen), [LIVER], GRID)
    assert np.array_equal(result.labels, organ) and result.two_best is not None
    assert np.array_equal(result.two_best.first, organ)
    assert (result.two_best.second[ISLAND] == label).all() and (result.confidence[ISLAND] == 1).all()
    elsewhere = np.ones(SHAPE, bool)
    elsewhere[ISLAND] = False
    assert (result.confidence[elsewhere] == 200).all() and (result.two_best.p_first[elsewhere] == 250).all()
    assert out.ml == {LIVER: pytest.approx(6 * 12 * 12 * 3 * 0.75**2 / 1000)}
    assert out.words(Phase.VENOUS) == "venous: parts apart from their organ do not count as it (liver 1 ml)"


def test_the_other_phase_decides_where_an_island_was() -> None:
    venous, _ = without_islands(found(two_parts()), [LIVER], GRID)
    arterial = found(two_parts())
    assert venous.two_best is not None and arterial.two_best is not None
    labels, _ = fuse(arterial.two_best, venous.two_best, 0.5)
    assert (labels[ISLAND] == LIVER).all(), "sure in one phase, unknown in the other"


@pytest.mark.parametrize(("organ", "share"), [(LIVER, SOLID_SHARE), (AORTA, SHARE)])
@pytest.mark.parametrize("gap_vox", [1, 40])
def test_a_part_stays_that_is_not_much_smaller_near_or_far(organ: int, share: float, gap_vox: int) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0:10, 0:10, 0:20] = organ
    least = round(share * 2000)
    for voxels, stays in ((least, True), (least - 1, False)):
        labels[:, :, 20:] = 0
        part = np.zeros(2000, np.uint8)
        part[:voxels] = organ
        labels[0:10, 0:10, 20 + gap_vox : 40 + gap_vox] = part.reshape(20, 10, 10).transpose(1, 2, 0)
        result, out = without_islands(found(labels.copy()), [organ], GRID)
        assert (np.array_equal(result.labels, labels) and out.ml == {}) is stays
        assert (result.labels[:, :, :20] == labels[:, :, :20]).all()


@pytest.mark.parametrize(
    ("around", "second", "becomes"),
    [
        (np.s_[15:23, 63:77, 63:77], SPLEEN, SPLEEN),
        (np.s_[15:23, 63:77, 63:77], 0, SPLEEN),
        (np.s_[16:22, 76:80, 64:76], 0, 0),
        (np.s_[0:1, 90:96, 90:96], KIDNEY, 0),
        (np.s_[0:1, 90:96, 90:96], SPLEEN, SPLEEN),
    ],
    ids=[
        "inside it",
        "inside, the network said background",
        "one side of six",
        "elsewhere",
        "elsewhere, but all second",
    ],
)
def test_a_part_becomes_what_is_around_it_and_what_came_second(
    around: tuple[slice, ...], second: int, becomes: int
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[around] = SPLEEN
    labels[ORGAN] = labels[ISLAND] = KIDNEY
    made = found(labels.copy())
    assert made.two_best is not None
    made.two_best.second[:] = second
    expected = labels.copy()
    expected[ISLAND] = becomes
    result, out = without_islands(made, [KIDNEY], GRID)
    assert np.array_equal(result.labels, expected) and set(out.ml) == {KIDNEY}
    assert result.two_best is not None and (result.two_best.second[ISLAND] == KIDNEY).all()
    assert (result.confidence[ISLAND] == 1).all()


def test_bones_may_be_named_too() -> None:
    bones = np.where(two_parts() == LIVER, BONE, 0).astype(np.uint8)
    bones[ISLAND][3:] = 0
    result, _ = without_islands(found(bones), [BONE], GRID)
    assert (result.labels[ORGAN] == BONE).all() and not result.labels[ISLAND].any()


def test_structures_not_named_stay_as_they_are() -> None:
    spleens = np.where(two_parts() == LIVER, SPLEEN, 0).astype(np.uint8)
    result, out = without_islands(found(spleens.copy()), [LIVER], GRID)
    assert np.array_equal(result.labels, spleens) and out.ml == {} and out.words(Phase.VENOUS) == ""


def test_results_in_files_are_changed_there_and_not_copied(tmp_path: Path) -> None:
    made = found(two_parts())
    assert made.two_best is not None
    arrays = {
        "labels": made.labels,
        "second": made.two_best.second,
        "p1": made.two_best.p_first,
        "p2": made.two_best.p_second,
    }
    for name, array in (arrays | {"confidence": made.confidence}).items():
        np.save(tmp_path / f"{name}.npy", array)
    first, second, p_first, p_second, confidence = (
        np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in (*arrays, "confidence")
    )
    result, out = without_islands(
        PhasePrediction(first, confidence, TwoBest(first, second, p_first, p_second)), [LIVER], GRID
    )
    assert out.ml and isinstance(result.labels, np.memmap) and not result.labels[ISLAND].any()
    assert np.array_equal(np.load(tmp_path / "labels.npy"), result.labels), (
        "what is read from the file is what was found"
    )


@given(seed=st.integers(0, 10_000), label=st.sampled_from([LIVER, SPLEEN]))
@settings(max_examples=25, deadline=None)
def test_no_small_part_stays_and_nothing_else_changes(seed: int, label: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for z, y, x in rng.integers(0, (21, 45, 45), (6, 3)):
        labels[z : z + 3, 2 * y : 2 * y + 6, 2 * x : 2 * x + 6] = rng.choice([LIVER, SPLEEN])
    result, out = without_islands(found(labels.copy()), [label], GRID)
    changed = result.labels != labels
    assert (labels[changed] == label).all() and np.isin(result.labels[changed], (0, LIVER + SPLEEN - label)).all()
    assert sum(out.ml.values()) == pytest.approx(float(changed.sum()) * GRID.voxel_ml)
    again, more = without_islands(result, [label], GRID)
    assert more.ml == {} and np.array_equal(again.labels, result.labels)
    parts, _ = components(result.labels == label)
    sizes = np.bincount(parts.ravel())[1:]
    assert not len(sizes) or sizes.min() >= SOLID_SHARE * sizes.max()


def test_a_scan_without_the_livers_company_keeps_no_organ() -> None:
    knows = [LIVER, SPLEEN, 3, 4, 5]
    labels = two_parts()
    labels[0:3, 40:60, 40:60] = 18
    result, out = without_islands(found(labels.copy()), knows, GRID)
    assert not out.abdomen and (result.labels == np.where(labels == 18, 18, 0)).all(), "bones may stay"
    assert (
        out.words(Phase.VENOUS)
        == "venous: the scan does not seem to show an abdomen, so no abdominal organ is labelled in it"
    )
    labels[14:24, 0:30, 60:90], labels[18:24, 30:60, 60:90] = 5, 20
    chest, out = without_islands(found(labels.copy()), knows, GRID)
    assert not out.abdomen and (chest.labels == np.where(labels == LIVER, 0, labels)).all(), "aorta and heart may stay"
    labels[18:24, 30:60, 60:90] = 0
    labels[14:24, 30:76, 0:60] = SPLEEN
    result, out = without_islands(found(labels.copy()), knows, GRID)
    assert out.abdomen and (result.labels == LIVER).sum() >= 12 * 24 * 24 and LIVER in ORGANS
    alone = without_islands(found(two_parts()), [LIVER], GRID)[1]
    assert alone.abdomen, "a model that knows no company cannot miss it"


@pytest.mark.parametrize(("wide", "abdomen"), [(8, False), (29, False), (31, True)])
def test_a_spleen_and_a_little_kidney_in_a_head_are_no_company(wide: int, abdomen: bool) -> None:
    """44 ml of spleen, and 11 ml of kidney, as was once found in a head, or 39 ml, or 41."""
    labels = two_parts()
    labels[:, 60:93, 0:33], labels[:, 63:96, 60 : 60 + wide] = SPLEEN, KIDNEY
    result, out = without_islands(found(labels), [LIVER, SPLEEN, 3, KIDNEY, AORTA], GRID)
    assert out.abdomen == abdomen == bool((result.labels == LIVER).any())


@pytest.mark.parametrize(("first", "wide", "abdomen"), [(11, 75, False), (13, 75, True), (0, 74, True)])
def test_a_kidney_beside_the_lungs_is_no_company(first: int, wide: int, abdomen: bool) -> None:
    """43 ml of kidney through all 24 slices, and lungs of 40.5 cm2 (40.0 where they are less wide) from one on."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[first:, :, :wide] = LUNGS
    labels[:, :, 80:91], labels[:, :, 91:93], labels[:, :, 93:] = KIDNEY, AORTA, LIVER
    result, out = without_islands(found(labels.copy()), [LIVER, SPLEEN, 3, KIDNEY, AORTA], GRID)
    assert out.abdomen is abdomen
    left = labels if abdomen else np.where(np.isin(labels, (KIDNEY, LIVER)), 0, labels)
    assert np.array_equal(result.labels, left)
