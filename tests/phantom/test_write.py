"""A phantom as files, read back by this project, nibabel and SimpleITK."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_multiphase.errors import UserError
from napari_multiphase.io.images import read_image, read_labels
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom import PhantomSpec, PhantomStudy, make_phantom, write_sample
from napari_multiphase.volume import Phase


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    return make_phantom(PhantomSpec(shape=(48, 52, 64), spacing_mm=(6.0, 7.0, 6.0), seed=3, pathology="liver"))


def test_a_written_sample_reads_back_as_it_was(study: PhantomStudy, tmp_path: Path) -> None:
    written = write_sample(study, tmp_path / "new" / "sample")
    assert sorted(path.name for path in written) == [
        "arterial.nii.gz", "arterial_labels.nii.gz", "labels.json",
        "motion_mm.nii.gz", "venous.nii.gz", "venous_labels.nii.gz",
    ]  # fmt: skip
    assert sorted(written) == sorted((tmp_path / "new" / "sample").iterdir())
    for phase in Phase:
        image = read_image(tmp_path / "new" / "sample" / f"{phase}.nii.gz")
        labels = read_labels(tmp_path / "new" / "sample" / f"{phase}_labels.nii.gz")
        assert (image.data == study.volumes[phase].data).all() and image.data.dtype == np.int16
        assert (labels.data == study.labels[phase]).all() and labels.data.dtype == np.uint8
        assert image.grid.matches(study.volumes[phase].grid) and labels.grid.matches(image.grid)
    names = json.loads((tmp_path / "new" / "sample" / "labels.json").read_text())
    assert names == {str(k): s.name for k, s in STRUCTURES.items()}


def test_the_motion_is_a_vector_image_in_lps_for_itk(study: PhantomStudy, tmp_path: Path) -> None:
    write_sample(study, tmp_path)
    image = sitk.ReadImage(str(tmp_path / "motion_mm.nii.gz"))
    assert image.GetSize() == (64, 52, 48) and image.GetNumberOfComponentsPerPixel() == 3
    assert np.abs(sitk.GetArrayFromImage(image) - study.motion_mm).max() <= 0.5 / 512 + 1e-6
    assert image.GetOrigin() == pytest.approx(study.volumes[Phase.VENOUS].grid.origin_mm[::-1])
    assert nib.load(tmp_path / "motion_mm.nii.gz").shape == (64, 52, 48, 1, 3)


def test_patient_left_is_left_for_nibabel(study: PhantomStudy, tmp_path: Path) -> None:
    write_sample(study, tmp_path, motion=False)
    assert not (tmp_path / "motion_mm.nii.gz").exists()
    labels = nib.load(tmp_path / "venous_labels.nii.gz")
    assert nib.aff2axcodes(labels.affine) == ("L", "P", "S")
    spleen = np.argwhere(np.asarray(labels.dataobj) == 2).mean(axis=0)
    assert (labels.affine @ [*spleen, 1])[0] < 0  # RAS: left is negative


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(study: PhantomStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        write_sample(study, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_either_all_files_appear_or_none(study: PhantomStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_multiphase.phantom.write._write_vectors", full)
    with pytest.raises(UserError):
        write_sample(study, tmp_path)
    assert list(tmp_path.iterdir()) == []
