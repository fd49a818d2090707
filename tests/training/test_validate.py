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
