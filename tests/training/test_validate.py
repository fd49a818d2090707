"""Dice of held-out cases, also of those annotated in part."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.training.validate import _dice

EVERYWHERE = np.ones(6, np.uint8)


def test_a_structure_found_outside_a_partly_annotated_one_is_wrong():
    truth = np.array([1, 1, 254, 254, 254, 255], np.uint8)
    dice, present = _dice(EVERYWHERE, truth, np.array([False, True, False]))
    assert present.tolist() == [0, 1, 0]
    assert dice[1] == pytest.approx(2 * 2 / (2 + 5))


def test_what_nobody_reviewed_is_left_out():
    truth = np.array([1, 1, 0, 254, 255, 255], np.uint8)
    dice, present = _dice(EVERYWHERE, truth, np.array([True, True]))
    assert present.tolist() == [1, 1]
    assert dice.tolist() == pytest.approx([0, 2 * 2 / (2 + 3)])


def test_of_a_corrected_case_only_what_was_reviewed_is_believed():
    """Reviewed: two of structure 1, one of 2, one background. The rest is what some model was sure of, or nothing."""
    truth = np.array([1, 1, 2, 0, 2, 2, 1, 255], np.uint8)
    reviewed = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    found = np.array([1, 2, 2, 1, 0, 1, 1, 1], np.uint8)
    dice, present = _dice(found, truth, np.array([False, False, False]), reviewed)
    assert present.tolist() == [1, 1, 1]
    assert dice[1:].tolist() == pytest.approx([2 * 1 / (2 + 2), 2 * 1 / (1 + 2)])
    assert _dice(found, truth, np.zeros(3, bool), np.zeros(8, bool))[1].tolist() == [0, 0, 0]


def test_a_complete_structure_of_a_corrected_case_is_wrong_wherever_else_it_is_found():
    """Structure 1 is complete: it lies in the two reviewed voxels and nowhere else, whatever else is not known."""
    truth = np.array([1, 1, 2, 255, 0, 255], np.uint8)
    reviewed = np.array([1, 1, 0, 0, 0, 0], bool)
    found = np.array([1, 0, 1, 1, 1, 2], np.uint8)
    dice, present = _dice(found, truth, np.array([False, True, False]), reviewed)
    assert present.tolist() == [0, 1, 0]
    assert dice[1] == pytest.approx(2 * 1 / (2 + 4))
