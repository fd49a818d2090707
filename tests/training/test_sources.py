"""Cases of a data set: when what was prepared from their files is out of date."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_multiphase.io.datasets import DatasetCase, PhaseFiles
from napari_multiphase.training.sources import DatasetSource
from napari_multiphase.volume import Phase


def source(image: Path) -> DatasetSource:
    return DatasetSource(DatasetCase("a", "a", {Phase.VENOUS: PhaseFiles(image)}, frozenset(), {}))


@pytest.mark.parametrize(
    ("ending", "voxels"), [(".mhd", ".raw"), (".nhdr", ".raw"), (".mha", ".mha"), (".nrrd", ".nrrd")]
)
def test_a_change_of_the_voxels_changes_the_fingerprint(tmp_path, ending, voxels):
    image = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(image))
    before = source(image).fingerprint()
    assert before == source(image).fingerprint()
    file = image.with_suffix(voxels)
    os.utime(file, ns=(1, 1))
    assert source(image).fingerprint() != before


def test_a_header_whose_voxels_are_missing_still_has_a_fingerprint(tmp_path):
    image = tmp_path / "scan.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(image))
    before = source(image).fingerprint()
    image.with_suffix(".raw").unlink()
    assert source(image).fingerprint() != before
    image.write_text("not a header")
    assert source(image).fingerprint() != before
    image.unlink()
    assert source(image).fingerprint() != before
