"""The table of figures per structure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.metrics import Overlap, StructureScore, evaluate, mean_dice, summarise
from napari_multiphase.volume import Volume

SPACING_MM = (2.0, 1.0, 1.0)


def labels(data: np.ndarray, origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Volume:
    return Volume.from_array(data, SPACING_MM, origin_mm)


@pytest.fixture
def reference() -> np.ndarray:
    data = np.zeros((8, 20, 20), np.uint8)
    data[2:6, 2:10, 2:10] = 1
    data[3:5, 4:7, 4:7] = 21
    data[2:6, 12:18, 12:18] = 2
    return data


def by_name(rows: list) -> dict:
    return {row.name: row for row in rows}


def test_identity_is_perfect(reference: np.ndarray) -> None:
    for row in evaluate(labels(reference), labels(reference)):
        assert (row.dsc, row.voe, row.rvd, row.assd_mm, row.rmsd_mm, row.hd_mm) == (1, 0, 0, 0, 0, 0)


def test_an_organ_is_scored_with_its_lesion(reference: np.ndarray) -> None:
    missed = reference.copy()
    missed[missed == 21] = 1
    rows = by_name(evaluate(labels(missed), labels(reference)))
    assert set(rows) == {"liver", "spleen", "liver tumour"}
    assert rows["liver"].dsc == 1.0
    assert rows["liver"].ids == (1, 21)
    assert rows["liver"].reference_ml == pytest.approx(4 * 8 * 8 * 2 / 1000)
    assert rows["liver tumour"].dsc == 0.0
    assert math.isnan(rows["liver tumour"].hd_mm)


def test_a_lesion_alone_brings_its_organ(reference: np.ndarray) -> None:
    only = np.where(reference == 21, 21, 0).astype(np.uint8)
    assert set(by_name(evaluate(labels(only), labels(only)))) == {"liver", "liver tumour"}


def test_mean_dice_is_over_structures_of_the_reference(reference: np.ndarray) -> None:
    extra = reference.copy()
    extra[0, 0, 0] = 8
    rows = evaluate(labels(extra), labels(reference))
    assert by_name(rows)["gallbladder"].dsc == 0.0
    assert mean_dice(rows) == 1.0


@pytest.mark.parametrize("where", ["prediction", "reference"])
def test_unreviewed_voxels_are_left_out(reference: np.ndarray, where: str) -> None:
    wrong, right = reference.copy(), reference.copy()
    wrong[2:6, 15:18, 12:18] = 0
    (wrong if where == "prediction" else right)[2:6, 15:18, 12:18] = 255
    spleen = by_name(evaluate(labels(wrong), labels(right)))["spleen"]
    assert spleen.dsc == 1.0
    assert spleen.hd_mm == 0.0
    assert spleen.reference_ml == pytest.approx(4 * 3 * 6 * 2 / 1000)


def test_the_border_of_the_unreviewed_is_no_surface() -> None:
    """A reviewed half organ against a smaller one: the cut is not a surface that either could be near to."""
    reference, prediction = np.zeros((5, 5, 12), np.uint8), np.zeros((5, 5, 12), np.uint8)
    reference[1:4, 1:4, 1:6] = 2
    prediction[1:4, 1:4, 3:6] = 2
    reference[:, :, 6:] = 255
    row = by_name(evaluate(labels(prediction), labels(reference)))["spleen"]
    assert row.hd_mm == pytest.approx(2.0)
    reference[reference == 255] = 0
    cut = by_name(evaluate(labels(prediction), labels(reference)))["spleen"]
    assert cut.assd_mm < row.assd_mm  # with a surface at the cut, agreement there would count


def test_other_grids_are_refused_unless_told(reference: np.ndarray) -> None:
    fine = np.repeat(reference, 2, axis=0)
    prediction = Volume.from_array(fine, (1.0, 1.0, 1.0), (-0.5, 0.0, 0.0))
    with pytest.raises(UserError, match="resample"):
        evaluate(prediction, labels(reference))
    for row in evaluate(prediction, labels(reference), resample=True):
        assert row.dsc == 1.0


def test_resampling_leaves_background_outside(reference: np.ndarray) -> None:
    shifted = labels(reference, origin_mm=(0.0, 0.0, 40.0))
    for row in evaluate(shifted, labels(reference), resample=True):
        assert row.overlap.prediction == 0


def test_values_must_be_labels(reference: np.ndarray) -> None:
    with pytest.raises(UserError, match="holds no labels"):
        evaluate(labels(reference + 0.5), labels(reference))
    with pytest.raises(UserError, match="holds no labels"):
        evaluate(labels(reference), labels(reference.astype(np.int16) - 3))


def test_a_foreign_table_keeps_its_names(reference: np.ndarray) -> None:
    rows = evaluate(labels(reference), labels(reference), names={1: "Leber", 2: "Milz"})
    assert [(row.name, row.ids) for row in rows] == [("Leber", (1,)), ("Milz", (2,)), ("label 21", (21,))]


def test_asked_for_structures_only(reference: np.ndarray) -> None:
    rows = evaluate(labels(reference), labels(reference), structures=[2, 8])
    assert [row.name for row in rows] == ["spleen", "gallbladder"]
    assert rows[1].overlap.both_empty


def test_rows_are_json(reference: np.ndarray) -> None:
    rows = evaluate(labels(np.zeros_like(reference)), labels(reference))
    text = json.dumps([row.to_dict() for row in rows], allow_nan=False)
    assert json.loads(text)[0]["assd_mm"] is None


def test_signed_differences_cancel_and_absolute_ones_do_not(reference: np.ndarray) -> None:
    small, large = reference.copy(), reference.copy()
    small[2, 12:18, 12:18] = 0
    large[6, 12:18, 12:18] = 2
    cases = [evaluate(labels(p), labels(reference)) for p in (small, large)]
    spleen = next(row for row in summarise(cases) if row["name"] == "spleen")
    assert spleen["rvd"] == pytest.approx(0.0, abs=1e-9)
    assert spleen["rvd_abs"] == pytest.approx(0.25, abs=1e-9)
    assert spleen["dice_per_case"] == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert spleen["dice_global"] == pytest.approx(2 * (3 + 4) / (3 + 4 + 5 + 4))


def case_of(dice: float) -> list[StructureScore]:
    """One structure of that DSC."""
    overlap = Overlap(10_000, 10_000, round(10_000 * dice))
    return [StructureScore(21, "liver tumour", (21,), overlap, 1.0, 1.0, *[4 * (1 - dice)] * 3)]


def test_means_of_cases_and_of_folds_are_both_given() -> None:
    """PAPER 002, Table 2: DPC by tumour type, of 121 cases. Printed for all of them is 80.12: no mean over cases."""
    types = {90.87: 36, 66.08: 20, 79.11: 26, 75.42: 25, 83.27: 14}
    scored = [(case_of(dice / 100), number) for number, (dice, n) in enumerate(types.items()) for _ in range(n)]
    cases, folds = zip(*scored, strict=True)
    (row,) = summarise(cases, folds)
    assert len(cases) == 121
    assert row["dice_per_case"] * 100 == pytest.approx(80.17, abs=0.005)
    assert row["fold_mean"]["dice_per_case"] * 100 == pytest.approx(sum(types) / 5)
    assert row["fold_mean"]["assd_mm"] == pytest.approx(4 * (1 - sum(types) / 500))
    (plain,) = summarise(cases)
    assert plain == {name: value for name, value in row.items() if name != "fold_mean"}
    json.dumps(row, allow_nan=False)


def test_folds_of_one_size_weigh_as_cases_do_and_each_case_has_one() -> None:
    cases = [case_of(dice) for dice in (0.9, 0.7, 0.5, 0.1)]
    (row,) = summarise(cases, [0, 0, 1, 1])
    assert row["fold_mean"]["dice_per_case"] == pytest.approx(row["dice_per_case"])
    only = [case_of(0.5), [], case_of(0.7)]  # the structure is in one case of fold 0 and in one of fold 2
    assert summarise(only, [0, 1, 2])[0]["fold_mean"]["dice_per_case"] == pytest.approx(0.6)
    with pytest.raises(ValueError, match="longer"):
        summarise(cases, [0, 1])


def test_undefined_figures_are_counted_not_zeroed(reference: np.ndarray) -> None:
    cases = [evaluate(labels(p), labels(reference)) for p in (reference, np.zeros_like(reference))]
    spleen = next(row for row in summarise(cases) if row["name"] == "spleen")
    assert spleen["undefined_surface"] == 1
    assert spleen["assd_mm"] == 0.0
    assert spleen["dice_per_case"] == 0.5
