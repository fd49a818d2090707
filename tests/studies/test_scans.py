"""Images are told from label maps, fields and confidence maps by name and content; all is listed with reasons."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.studies.conftest import Writer, box_of_tissue

from napari_multiphase.errors import UserError
from napari_multiphase.studies.scans import find_scans, kind_by_name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("arterial.nii.gz", None),
        ("venous_labels.nii.gz", "labels"),
        ("totalseg_example_ct.nii.gz", None),
        ("totalseg_example_seg_fast.nii.gz", "labels"),
        ("liver-mask.nrrd", "labels"),
        ("motion_mm.nii.gz", "field"),
        ("fused_confidence.nii.gz", "confidence"),
        ("synthetic_venous.nii.gz", "synthetic"),
        ("segment_of_dr_maskell.nii", None),
        ("patientLabelsV2.nii", "labels"),
    ],
)
def test_what_a_name_claims(name: str, kind: str | None) -> None:
    assert kind_by_name(name) == kind


def test_a_sample_folder_yields_its_two_images(tmp_path: Path, write_nifti: Writer) -> None:
    for seed, phase in enumerate(("arterial", "venous")):
        write_nifti(f"{phase}.nii.gz", box_of_tissue(seed))
        write_nifti(f"{phase}_labels.nii.gz", (box_of_tissue(seed) > 0).astype(np.uint8))
    field = np.zeros((40, 40, 12, 1, 3), np.float32)
    nib.save(nib.Nifti1Image(field, np.eye(4)), tmp_path / "motion_mm.nii.gz")
    (tmp_path / "labels.json").write_text("{}")
    scans = find_scans([tmp_path])
    assert [scan.title for scan in scans if scan.usable] == ["arterial.nii.gz", "venous.nii.gz"]
    passed_over = {scan.title: scan for scan in scans if not scan.usable}
    assert passed_over["motion_mm.nii.gz"].kind == "field"
    assert passed_over["venous_labels.nii.gz"].kind == "labels"
    assert all("not a scan" in scan.problems[0] for scan in passed_over.values())


def test_labels_under_an_innocent_name_are_seen(tmp_path: Path, write_nifti: Writer) -> None:
    rng = np.random.default_rng(0)
    write_nifti("case.nii.gz", rng.integers(0, 60, (12, 40, 40)).astype(np.float32))
    (scan,) = find_scans([tmp_path])
    assert scan.kind == "labels"
    assert not scan.usable


def test_an_image_under_a_label_name_is_an_image(tmp_path: Path, write_nifti: Writer) -> None:
    write_nifti("seg.nii.gz", box_of_tissue(1))
    (scan,) = find_scans([tmp_path])
    assert scan.usable
    assert "holds an image" in scan.notes[0]


def test_a_confidence_map_is_no_scan(tmp_path: Path, write_nifti: Writer) -> None:
    rng = np.random.default_rng(0)
    write_nifti("venous_confidence.nii.gz", rng.integers(0, 256, (12, 40, 40)).astype(np.uint8))
    write_nifti("p.nii.gz", rng.random((12, 40, 40)).astype(np.float32))
    assert {scan.kind for scan in find_scans([tmp_path])} == {"confidence"}


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path: Path, write_nifti: Writer) -> None:
    good = write_nifti("good.nii.gz", box_of_tissue(0))
    (tmp_path / "cut.nii.gz").write_bytes(good.read_bytes()[:2000])
    write_nifti("thin.nii.gz", box_of_tissue(0, (2, 40, 40)))
    scans = {scan.title: scan for scan in find_scans([tmp_path])}
    assert scans["good.nii.gz"].usable
    assert scans["cut.nii.gz"].kind == "unreadable"
    assert "cut.nii.gz" in scans["cut.nii.gz"].problems[0]
    assert "too thin" in scans["thin.nii.gz"].problems[0]


def test_the_same_file_twice_is_one_scan(write_nifti: Writer) -> None:
    path = write_nifti("a.nii.gz", box_of_tissue(0))
    assert len(find_scans([path, path.parent])) == 1


def test_missing_input_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_scans([tmp_path / "nothing"])
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"notes\.txt"):
        find_scans([tmp_path / "notes.txt"])


def test_a_folder_of_a_whole_cohort_is_refused(tmp_path: Path) -> None:
    for number in range(31):
        (tmp_path / f"case_{number}.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match="one patient"):
        find_scans([tmp_path])


@pytest.mark.real_ct
def test_one_series_with_two_acquisitions_gives_two_scans(real_data: Path) -> None:
    scans = [scan for scan in find_scans([real_data / "hcc_002_dicom.zip"]) if scan.usable]
    assert [scan.shape for scan in scans] == [(109, 512, 512)] * 2
    assert len({scan.key for scan in scans}) == 2
    assert {scan.patient_id for scan in scans} == {"HCC_002"}


@pytest.mark.real_ct
def test_the_label_map_beside_a_real_scan_is_told_from_it(real_data: Path) -> None:
    folder = real_data / "totalsegmentator_example"
    scans = {s.title: s for s in find_scans([folder / p for p in sorted(p.name for p in folder.glob("*.nii.gz"))])}
    assert scans["totalseg_example_ct.nii.gz"].usable
    assert scans["totalseg_example_seg_fast_force_split.nii.gz"].kind == "labels"
