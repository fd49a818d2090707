"""What the default model finds on a scan of a person that nothing was learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_multiphase.config import SegmentOptions
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.images import read_labels
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import IDS_BY_NAME, ids_of_group
from napari_multiphase.studies import open_study
from napari_multiphase.volume import Phase

FOLDER = "totalsegmentator_example"
LEAST_DICE = {
    "liver": (5, 0.90),
    "spleen": (1, 0.88),
    "right kidney": (2, 0.80),
    "left kidney": (3, 0.80),
    "aorta": (52, 0.70),
}
"""Number in the reference, which is another model's; a margin below the figures of the model's card."""


@pytest.mark.real_ct
def test_organs_are_found_where_another_model_finds_them(real_data: Path) -> None:
    study = open_study([real_data / FOLDER / "totalseg_example_ct.nii.gz"])
    found = segment(study, find_model(), SegmentOptions(device="cpu"))
    reference = np.asarray(read_labels(real_data / FOLDER / "totalseg_example_seg_fast_force_split.nii.gz").data)
    labels = np.asarray(found.phases[Phase.VENOUS].labels)
    dice = {}
    for name, (number, _) in LEAST_DICE.items():
        ours, theirs = np.isin(labels, ids_of_group(IDS_BY_NAME[name])), reference == number
        dice[name] = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert all(dice[name] >= least for name, (_, least) in LEAST_DICE.items()), dice
