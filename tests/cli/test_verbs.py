"""The verbs on good input, in this process."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from napari_multiphase.cli.doctor import missing_libraries

NAMES = [f"{where}_{what}.nii.gz" for where in ("arterial", "venous", "fused") for what in ("labels", "confidence")]


def test_sample_writes_what_it_promises(sample):
    assert sorted(p.name for p in sample.iterdir()) == sorted(
        [
            "arterial.nii.gz",
            "venous.nii.gz",
            "arterial_labels.nii.gz",
            "venous_labels.nii.gz",
            "motion_mm.nii.gz",
            "labels.json",
        ]
    )
    image = nib.load(sample / "arterial.nii.gz")
    assert image.shape == (64, 64, 48)
    np.testing.assert_allclose(image.header.get_zooms(), (6, 6, 6))


def test_sample_as_dicom_is_two_series_of_one_patient(sample_dicom):
    import pydicom

    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in sample_dicom.rglob("*.dcm")]
    assert len(headers) == 2 * 48
    assert len({h.SeriesInstanceUID for h in headers}) == 2
    for tag in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"):
        assert len({h[tag].value for h in headers}) == 1


def test_info_tells_the_phases(run, sample, sample_dicom):
    for folder in (sample, sample_dicom):
        answer = json.loads(run("info", folder, "--json").stdout)
        assert answer["problem"] is None
        assert set(answer["study"]["phases"]) == {"arterial", "venous"}
        guesses = {s["guess"]["phase"] for s in answer["scans"] if s["guess"]}
        assert guesses == {"arterial", "venous"}
        assert answer["study"]["findings"]
    assert "arterial" in run("info", sample).stdout


@pytest.mark.parametrize("form", ["study", "pair"])
def test_segment_writes_all_files_on_the_source_grid(run, sample, model, tmp_path, form):
    out = tmp_path / "out"
    pair = ["--arterial", sample / "arterial.nii.gz", "--venous", sample / "venous.nii.gz"]
    result = run("segment", *([sample] if form == "study" else pair), "--out", out, "--model", model)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == sorted([*NAMES, "report.json"])
    source = nib.load(sample / "venous.nii.gz")
    for name in NAMES:
        written = nib.load(out / name)
        assert written.shape == source.shape
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    report = json.loads((out / "report.json").read_text())
    assert report["transform"]["quality"]["sentence"]  # it was registered; at 6 mm that may end in "identity"
    assert {p["sha256"] for p in report["inputs"].values()}.isdisjoint({""})
    assert "liver" in result.stdout
    assert "report.json" in result.stdout
    assert list((tmp_path / "scratch").iterdir()) == []


def test_segment_takes_a_workspace_with_its_transform(run, sample, model, tmp_path):
    from napari_multiphase.studies import Workspace, open_study
    from napari_multiphase.study import PhaseTransform

    moved = np.eye(4)
    moved[2, 3] = 6.0
    workspace = Workspace.create(tmp_path / "study", open_study([sample]))
    workspace.set_transform(PhaseTransform(moved, "rigid", {"by": "hand"}))
    result = run("segment", tmp_path / "study", "--out", tmp_path / "out", "--model", model)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["transform"] == {
        "venous_to_arterial_mm": moved.tolist(),
        "method": "rigid",
        "quality": {"by": "hand"},
    }
    assert report["study"] == workspace.id


def test_segment_one_phase_says_what_is_missing(run, sample, model, tmp_path):
    result = run("segment", "--venous", sample / "venous.nii.gz", "--out", tmp_path / "o", "--model", model)
    assert result.exit_code == 0, result.output
    assert "arterial scan is missing" in result.stdout
    fused, venous = (nib.load(tmp_path / "o" / f"{n}_labels.nii.gz") for n in ("fused", "venous"))
    np.testing.assert_array_equal(fused.get_fdata(), venous.get_fdata())


def test_segment_prints_pure_json(run, sample, model, tmp_path):
    args = ("segment", sample, "--out", tmp_path / "o", "--model", model, "--json", "--no-register")
    report = json.loads(run(*args, "--phase-weight", "0.25").stdout)
    assert report["options"]["phase_weight"] == 0.25
    assert report["transform"]["method"] == "identity"
    assert report["transform"]["quality"] == {}
    assert "report.json" in report["files"]


def test_segment_dicom_writes_dicom_seg_as_well(run, sample_dicom, model, tmp_path):
    out = tmp_path / "o"
    result = run("segment", sample_dicom, "--out", out, "--model", model, "--format", "dicom-seg")
    assert result.exit_code == 0, result.output
    assert {"arterial_labels.dcm", "venous_labels.dcm", *NAMES} <= {p.name for p in out.iterdir()}


def test_segment_keeps_other_files_of_the_folder(run, sample, model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert run("segment", sample, "--out", out, "--model", model).exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"


def test_evaluate_files_and_folders(run, sample, tmp_path):
    file = sample / "venous_labels.nii.gz"
    rows = json.loads(run("evaluate", file, file, "--json").stdout)
    assert {row["dsc"] for row in rows} == {1.0}
    assert {row["hd_mm"] for row in rows} == {0.0}
    cases = json.loads(run("evaluate", sample, sample, "--json").stdout)
    assert set(cases) == {"arterial_labels.nii.gz", "venous_labels.nii.gz"}
    assert "mean DSC 1.000" in run("evaluate", file, file).stdout


def test_evaluate_refuses_other_grids_unless_told(run, sample, tmp_path):
    image = nib.load(sample / "venous_labels.nii.gz")
    shifted = image.affine.copy()
    shifted[2, 3] += 6
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), shifted), tmp_path / "shifted.nii.gz")
    args = ("evaluate", tmp_path / "shifted.nii.gz", sample / "venous_labels.nii.gz")
    refused = run(*args)
    assert refused.exit_code == 2
    assert "shifted.nii.gz" in refused.stderr
    rows = json.loads(run(*args, "--resample", "--json").stdout)
    assert 0.3 < next(row["dsc"] for row in rows if row["name"] == "liver") < 1.0


def test_models_info_shows_the_card(run, model):
    text = run("models", "info", model).stdout
    assert "tiny" in text
    assert "phantoms only" in text
    assert json.loads(run("models", "info", model, "--json").stdout)["labels"] == [0, 1, 2, 5]
    assert run("models", "list").exit_code == 0
    assert isinstance(json.loads(run("models", "list", "--json").stdout), list)


def test_doctor_finds_the_core_working(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    checks = {c["name"]: c for c in json.loads(result.stdout)}
    assert checks["Python"]["level"] == "ok"
    assert checks["torch"]["level"] == "ok"
    assert checks["codec gdcm"]["level"] == "ok"
    assert not any("could not be checked" in c["text"] for c in checks.values())


def test_doctor_names_the_packages_that_bring_missing_libraries():
    def load(name):
        if "xcb-cursor" in name or name == "libGL.so.1":
            raise OSError

    assert missing_libraries(load) == ["libGL.so.1", "libxcb-cursor.so.0"]


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from napari_multiphase.cli import app;"
        "r = CliRunner().invoke(app, ['--help']); assert 'segment' in r.output;"
        "print([m for m in ('torch', 'numpy', 'SimpleITK', 'napari', 'pydicom') if m in sys.modules])"
    )
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert time.perf_counter() - began < 3.0  # 0.2 s on a free machine
