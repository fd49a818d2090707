"""The table of structures, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.imaging.tables import structure_table
from napari_multiphase.volume import Phase


def test_volumes_groups_means_and_centres() -> None:
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 1:5, 1:5] = 1
    labels[1, 2, 2] = 21
    labels[3, 0, 0] = 5
    hu = np.where(labels == 1, 100.0, np.where(labels == 21, 40.0, 300.0)).astype(np.float32)
    arterial = hu.copy()
    arterial[2] = np.nan
    confidence = np.full(labels.shape, 255, np.uint8)
    confidence[labels == 5] = 0
    rows = {r.id: r for r in structure_table(labels, 0.5, {Phase.ARTERIAL: arterial, Phase.VENOUS: hu}, confidence)}
    assert list(rows) == [1, 5, 21]
    assert rows[1].ml == pytest.approx(31 * 0.5)
    assert rows[1].group_ml == pytest.approx(32 * 0.5)
    assert rows[21].group_ml == pytest.approx(0.5)
    assert rows[1].mean_hu == {Phase.ARTERIAL: 100.0, Phase.VENOUS: 100.0}
    assert rows[21].mean_hu[Phase.VENOUS] == 40.0
    assert (rows[1].mean_confidence, rows[5].mean_confidence) == (1.0, 0.0)
    assert rows[5].centre_vox == (3, 0, 0)
    assert labels[rows[1].centre_vox] == 1
    assert rows[5].to_dict()["mean_hu"] == {"arterial": 300.0, "venous": 300.0}


def test_phase_that_saw_nothing_there_has_no_mean() -> None:
    labels = np.ones((1, 2, 2), np.uint8)
    row = structure_table(labels, 1.0, {Phase.VENOUS: np.full((1, 2, 2), np.nan)})[0]
    assert row.mean_hu == {Phase.VENOUS: None}
    assert row.mean_confidence is None
    assert structure_table(np.zeros((1, 2, 2), np.uint8), 1.0) == []
