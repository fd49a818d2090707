"""Folds partition the patients, and nobody is left out without a word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_multiphase.config.run import ValidationConfig
from napari_multiphase.errors import UserError
from napari_multiphase.training.cases import TrainingCase
from napari_multiphase.training.splits import folds, read_split, split_cases, write_split


def case(number: int, patient: str, complete: bool = True) -> TrainingCase:
    return TrainingCase(f"c{number}", patient, {}, {}, np.array([complete, True]), (3.0, 2.0, 2.0))


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
    assert "one patient only" in split_cases([case(0, "a"), case(1, "a")], validation).words()
    both = [case(0, "a"), case(1, "b", complete=False)]
    assert "every patient" in split_cases(both, ValidationConfig(folds=2, fold=1)).words()
    assert "annotated in full" in split_cases([case(i, f"p{i}", False) for i in range(9)], validation).words()
    with pytest.raises(UserError, match="no case to learn from"):
        split_cases([], validation)


def test_a_split_is_written_and_read_back(tmp_path):
    validation = ValidationConfig(folds=2, fold=1)
    split = split_cases([case(i, f"p{i}") for i in range(4)], validation)
    write_split(split, validation, tmp_path)
    assert read_split(tmp_path) == split
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_split(tmp_path)
