"""Rows of the table from a report, titles and descriptions of scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_multiphase.gui.results import rows_of
from napari_multiphase.gui.roles import describe, explain, found_scan
from napari_multiphase.study import Study, title_of
from napari_multiphase.volume import Phase, Volume


def _entry(label: int, name: str, ml: dict[str, float]) -> dict:
    hu = {"arterial": 60.0, "venous": 110.0}
    return {
        "id": label,
        "name": name,
        "ml": ml,
        "group_ml": ml,
        "mean_hu": hu,
        "mean_confidence": dict.fromkeys(ml, 0.9),
    }


def test_rows_are_the_fused_structures_largest_first():
    entries = [
        _entry(2, "spleen", {"venous": 190.0, "fused": 200.0}),
        _entry(1, "liver", {"venous": 1400.0, "arterial": 1300.0, "fused": 1350.0}),
        _entry(6, "pancreas", {"venous": 80.0}),
    ]
    rows = rows_of(entries)
    assert [row.name for row in rows] == ["liver", "spleen"]
    assert (rows[0].ml, rows[0].arterial_hu, rows[0].venous_hu, rows[0].confidence) == (1350.0, 60.0, 110.0, 0.9)


def _found(**changes):
    entry = {
        "key": "k", "title": "t", "usable": True, "shape": [96, 512, 512], "spacing_mm": [3.0, 0.78125, 0.78125],
        "problems": [], "notes": [], "thumbnail": None,
        "guess": {"phase": "arterial", "sure": 0.97, "why": "aorta 479 HU, portal vein 110 HU"},
    }  # fmt: skip
    return found_scan({**entry, **changes})


def test_scans_are_described_with_units():
    assert describe(_found()) == "96 slices of 512 x 512, 3 x 0.78 x 0.78 mm"
    assert explain(_found()) == "arterial, 97 % sure: aorta 479 HU, portal vein 110 HU"
    assert explain(_found(usable=False)) == "not offered as a phase"
    assert explain(_found(guess=None)) == "phase not recognised"


def test_a_study_is_called_after_patient_folder_or_file():
    study = Study("abc", {Phase.VENOUS: Volume.from_array(np.zeros((2, 2, 2)), (1, 1, 1))})
    assert title_of(study, [Path("case7/arterial.nii.gz"), Path("case7/venous.nii.gz")]) == "case7"
    assert title_of(study, [Path("hcc_002_dicom.zip")]) == "hcc_002_dicom"
    assert title_of(study, [Path("folder/of/scans")]) == "scans"
