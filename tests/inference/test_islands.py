"""Parts far from their organ: what goes, what stays, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.imaging.fusion import fuse
from napari_multiphase.inference.islands import LEAST_SHARE, island_words, without_islands
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

LIVER, SPLEEN, TUMOUR = 1, 2, 21
SHAPE = (24, 48, 48)
GRID = Grid(SHAPE, (3.0, 0.75, 0.75))
ORGAN, ISLAND = np.s_[2:14, 4:28, 4:28], np.s_[16:22, 34:46, 34:46]


def found(labels: np.ndarray, *, frozen: bool = False) -> PhasePrediction:
    """Sure everywhere; the second class is the spleen."""
    arrays = [labels, np.full(SHAPE, SPLEEN, np.uint8), np.full(SHAPE, 250, np.uint8), np.full(SHAPE, 5, np.uint8)]
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
    result, ml = without_islands(found(labels, frozen=frozen), [LIVER], GRID, (3.0, 3.0, 3.0))
    assert np.array_equal(result.labels, organ) and result.two_best is not None
    assert np.array_equal(result.two_best.first, organ)
    assert (result.two_best.second[ISLAND] == label).all() and (result.confidence[ISLAND] == 1).all()
    elsewhere = np.ones(SHAPE, bool)
    elsewhere[ISLAND] = False
    assert (result.confidence[elsewhere] == 200).all() and (result.two_best.p_first[elsewhere] == 250).all()
    assert ml == {LIVER: pytest.approx(6 * 12 * 12 * 3 * 0.75**2 / 1000)}
    assert island_words(Phase.VENOUS, ml) == "venous: parts far from their organ were left out (liver 1 ml)"


def test_the_other_phase_decides_where_an_island_was() -> None:
    venous, _ = without_islands(found(two_parts()), [LIVER], GRID, (3.0, 3.0, 3.0))
    arterial = found(two_parts())
    assert venous.two_best is not None and arterial.two_best is not None
    labels, _ = fuse(arterial.two_best, venous.two_best, 0.5)
    assert (labels[ISLAND] == LIVER).all(), "sure in one phase, unknown in the other"


def test_a_large_second_part_stays_and_so_do_structures_not_named() -> None:
    labels = two_parts()
    labels[15:24, 30:48, 30:48] = LIVER
    share = 9 * 18 * 18 / (12 * 24 * 24)
    assert share > LEAST_SHARE
    result, ml = without_islands(found(labels), [LIVER], GRID, (3.0, 3.0, 3.0))
    assert np.array_equal(result.labels, labels) and ml == {}
    spleens = np.where(two_parts() == LIVER, SPLEEN, 0).astype(np.uint8)
    result, ml = without_islands(found(spleens.copy()), [LIVER], GRID, (3.0, 3.0, 3.0))
    assert np.array_equal(result.labels, spleens) and ml == {} and island_words(Phase.VENOUS, ml) == ""


@pytest.mark.parametrize("network_mm", [(3.0, 3.0, 3.0), (3.0, 0.75, 0.75), (6.0, 2.0, 2.0)])
def test_the_organs_own_surface_keeps_every_voxel(network_mm: tuple[float, float, float]) -> None:
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    ball = ((z - 9) * 3.0) ** 2 + ((y - 20) * 0.75) ** 2 + ((x - 20) * 0.75) ** 2 < 13.0**2
    labels = ball.astype(np.uint8)
    labels[20:23, 40:46, 40:46] = LIVER
    result, _ = without_islands(found(labels), [LIVER], GRID, network_mm)
    assert np.array_equal(result.labels == LIVER, ball)
