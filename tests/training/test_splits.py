"""Folds partition the patients, and nobody is left out without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_multiphase.config.run import ValidationConfig
from napari_multiphase.errors import UserError
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.splits import REVIEWED, folds, read_split, split_cases, write_split
from napari_multiphase.volume import Phase


def case(number: int, patient: str, complete: bool = True, phases: tuple[Phase, ...] = tuple(Phase)) -> TrainingCase:
    voxels, point = np.zeros((1, 1, 1), np.uint8), np.zeros((1, 3), np.int32)
    scans = dict.fromkeys(phases, PhaseArrays(voxels.astype(np.int16), voxels, (point, point), 0.0, 1.0))
    pair = scans if len(scans) == 2 else None
    return TrainingCase(f"c{number}", patient, scans, pair, np.array([complete, True]), (3.0, 2.0, 2.0))


@pytest.mark.parametrize(
    ("count", "k", "sizes"), [(82, 4, [20, 20, 21, 21]), (121, 5, [24, 24, 24, 24, 25]), (2, 5, [0, 0, 0, 1, 1])]
)
def test_the_remainder_goes_to_the_last_folds(count, k, sizes):
    assert [len(fold) for fold in folds(count, k)] == sizes


@given(st.integers(0, 500), st.integers(2, 20))
def test_folds_partition_and_differ_by_at_most_one(count, k):
    made = folds(count, k)
    assert [i for fold in made for i in fold] == list(range(count))
    assert len(made) == k and max(map(len, made)) - min(map(len, made)) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30),
    st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, k - 1))),
)
def test_patients_are_never_split_and_an_empty_side_is_said(drawn, fold):
    cases = [case(i, f"p{patient}", complete) for i, (patient, complete) in enumerate(drawn)]
    split = split_cases(cases, ValidationConfig(folds=fold[0], fold=fold[1]))
    assert sorted(split.train + split.validation) == sorted(c.id for c in cases)
    sides = [{c.patient for c in cases if c.id in ids} for ids in (split.train, split.validation)]
    assert not sides[0] & sides[1] and split.train
    assert split.validation or (split.notes and len({c.patient for c in cases}) == 1)


def test_what_is_unusual_is_said():
    validation = ValidationConfig(folds=5, fold=0)
    assert "fold 0 of 5 is empty" in split_cases([case(0, "a"), case(1, "b")], validation).notes[0]
    assert "nothing is held out" in split_cases([case(0, "a"), case(1, "a")], validation).words()
    both = [case(0, "a"), case(1, "b", complete=False)]
    assert split_cases(both, ValidationConfig(folds=2, fold=1)).train == ("c0",), "a full one teaches"
    assert "annotated in full" in split_cases([case(i, f"p{i}", False) for i in range(9)], validation).words()
    with pytest.raises(UserError, match="no case to learn from"):
        split_cases([], validation)


def test_partly_annotated_cases_are_all_learned_from():
    """Each set of them stays whole (PAPER 004: five folds of six over the fully labelled set)."""
    cases = [case(i, f"p{i}", complete=i < 30) for i in range(150)]
    split = split_cases(cases, ValidationConfig(folds=5, fold=0))
    assert split.validation == tuple(f"c{i}" for i in range(6)) and len(split.train) == 144


def test_who_cannot_be_judged_is_not_held_out():
    lone = [case(i, f"p{i}", phases=(Phase.VENOUS,)) for i in range(2)]
    cases = [*lone, *(case(i, f"p{i}") for i in range(2, 10))]
    assert split_cases(cases, ValidationConfig(folds=4, fold=0), "pair").validation == ("c2", "c3")
    assert split_cases(cases, ValidationConfig(folds=5, fold=0)).validation == ("c0", "c1")
    assert "nothing is held out" in split_cases(lone, ValidationConfig(folds=5), "pair").words()


def test_a_split_is_written_and_read_back(tmp_path):
    validation = ValidationConfig(folds=2, fold=1)
    split = split_cases([case(i, f"p{i}") for i in range(4)], validation)
    write_split(split, validation, tmp_path)
    assert read_split(tmp_path) == split
    write_split(replace(split, measured=REVIEWED), validation, tmp_path)
    assert read_split(tmp_path).measured == REVIEWED
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_split(tmp_path)


def test_corrected_cases_judge_what_was_reviewed_where_no_others_can():
    looked = np.zeros((1, 1, 1), bool)

    def corrected(number: int, complete: bool) -> TrainingCase:
        plain = case(number, f"p{number}", complete)
        scans = {phase: replace(scan, reviewed=looked) for phase, scan in plain.scans.items()}
        return replace(plain, scans=scans)

    partly = [corrected(number, False) for number in range(4)]
    split = split_cases(partly, ValidationConfig(folds=2))
    assert split.validation == ("c0", "c1") and split.measured == REVIEWED and "corrected in part" in split.notes[0]
    assert split_cases(partly[:2], ValidationConfig(folds=5, corrected=2)).validation == ("c1",)
    for alone in (split_cases(partly[:n], ValidationConfig()) for n in (1, 2, 3)):
        assert alone.validation == () and "nothing is held out" in alone.words() and not alone.measured
    for least in (2, 9):  # one that is complete judges better, and all corrections teach
        split = split_cases([*partly, case(9, "p9")], ValidationConfig(corrected=least))
        assert split.validation == ("c9",) and len(split.train) == 4 and not split.measured
    whole = [*partly, corrected(4, True), corrected(5, True)]
    assert split_cases(whole, ValidationConfig(folds=2)).validation == ("c4",)
