"""Every item of the list of bad input, through the command line: code 2, one sentence, nothing left behind."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid


@pytest.fixture
def refused(run, model, tmp_path):
    """``refused(args..., names="file")``: `segment` refuses in one sentence and leaves nothing behind; the sentence."""

    def check(*args: object, names: str, out: Path | None = None, use: Path | None = None) -> str:
        out = out or tmp_path / "out"
        before = sorted(out.rglob("*")) if out.is_dir() else None
        result = run("segment", *args, "--out", out, "--model", use or model)
        assert result.exit_code == 2, result.output
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, result.stderr
        assert result.stderr.strip().splitlines()[-1] == errors[0], "the sentence is the last word, and one line"
        assert "Traceback" not in result.output
        assert names in errors[0], errors[0]
        assert len(errors[0]) < 600
        if before is None:
            assert not out.exists()
        else:
            assert sorted(out.rglob("*")) == before
        scratch = tmp_path / "scratch"
        assert not scratch.exists() or list(scratch.iterdir()) == []
        return errors[0]

    return check


@pytest.fixture
def pair(sample, tmp_path) -> Path:
    """A copy of the two scans, to be damaged."""
    folder = tmp_path / "pair"
    folder.mkdir()
    for name in ("arterial.nii.gz", "venous.nii.gz"):
        shutil.copy(sample / name, folder / name)
    return folder


@pytest.fixture
def series(sample_dicom, tmp_path) -> Path:
    """A copy of the two DICOM series, to be damaged."""
    shutil.copytree(sample_dicom, tmp_path / "dicom")
    return tmp_path / "dicom"


def _both(pair: Path) -> list[object]:
    return ["--arterial", pair / "arterial.nii.gz", "--venous", pair / "venous.nii.gz"]


def _rewrite(path: Path, change) -> None:
    """Load a NIfTI, let `change(data, header, affine)` return what to save instead."""
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(data, affine), path)


def _edit(folder: Path, change) -> None:
    """Apply `change` to every DICOM file below `folder`."""
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        change(dataset, number)
        dataset.save_as(path)


# --- files that are no image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arterial.nii.gz", "arterial.nii", "arterial.nrrd", "arterial.mha", "arterial.dcm"])
def test_not_an_image(refused, pair, name):
    bad = pair / name
    bad.write_bytes(b"this is a letter, not a scan\n" * 50)
    refused("--arterial", bad, "--venous", pair / "venous.nii.gz", names=name)


def test_an_empty_file(refused, pair):
    (pair / "arterial.nii.gz").write_bytes(b"")
    refused(*_both(pair), names="arterial.nii.gz")


def test_a_file_that_is_not_there(refused, pair):
    (pair / "arterial.nii.gz").unlink()
    refused(*_both(pair), names="arterial.nii.gz")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_truncated_gzip(refused, pair, keep):
    whole = (pair / "venous.nii.gz").read_bytes()
    (pair / "venous.nii.gz").write_bytes(whole[: int(len(whole) * keep)])
    refused(*_both(pair), names="venous.nii.gz")


def test_corrupt_gzip(refused, pair):
    whole = bytearray((pair / "venous.nii.gz").read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    (pair / "venous.nii.gz").write_bytes(whole)
    refused(*_both(pair), names="venous.nii.gz")


def test_a_gzip_that_inflates_beyond_its_header(refused, pair):
    plain = gzip.decompress((pair / "venous.nii.gz").read_bytes())
    header = bytearray(plain[:352])
    header[42:48] = np.array([20000, 20000, 20000], "<i2").tobytes()
    (pair / "venous.nii.gz").write_bytes(gzip.compress(bytes(header) + plain[352:]))
    refused(*_both(pair), names="venous.nii.gz")


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_dicom(refused, series, part):
    for path in (series / "venous").glob("*.dcm"):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * part)])
    refused("--venous", series / "venous", names="venous")


def test_one_truncated_slice(refused, series):
    path = sorted((series / "venous").glob("*.dcm"))[20]
    path.write_bytes(path.read_bytes()[:-3000])
    refused("--venous", series / "venous", names="venous")


# --- images that are no CT volume ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 20, 3)])
def test_two_or_four_dimensions(refused, pair, shape):
    nib.save(nib.Nifti1Image(np.full(shape, 40, np.int16), np.diag([6.0, 6, 6, 1])), pair / "arterial.nii.gz")
    refused(*_both(pair), names="arterial.nii.gz")


def test_an_mr_series(refused, series):
    _edit(series, lambda dataset, _: setattr(dataset, "Modality", "MR"))
    assert "MR" in refused(series, names="MR")


def test_a_localiser(refused, series):
    for path in sorted((series / "venous").glob("*.dcm"))[2:]:
        path.unlink()
    _edit(series / "venous", lambda dataset, _: setattr(dataset, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    refused("--venous", series / "venous", names="venous")


def test_a_label_map_for_a_scan(refused, sample, pair):
    shutil.copy(sample / "arterial_labels.nii.gz", pair / "arterial_labels.nii.gz")
    refused("--arterial", pair / "arterial_labels.nii.gz", names="arterial_labels.nii.gz")


# --- values that cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_hu(refused, pair, value):
    def change(data, affine):
        data = data.astype(np.float32)
        data[10:20, 10:20, 10:20] = value
        return data, affine

    _rewrite(pair / "arterial.nii.gz", change)
    refused(*_both(pair), names="arterial.nii.gz")


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0), (1e12, 0), (1.0, 1e12), (1.0, np.nan), (1e-9, 0)])
def test_slope_and_intercept_of_nifti(refused, pair, slope, intercept):
    path = pair / "arterial.nii.gz"
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(plain)))
    refused(*_both(pair), names="arterial.nii.gz")


@pytest.mark.parametrize(("slope", "intercept"), [("1e12", "0"), ("1", "1e12"), ("0", "0"), ("nan", "0")])
def test_slope_and_intercept_of_dicom(refused, series, slope, intercept):
    def change(dataset, _):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept

    with pydicom.config.disable_value_validation():
        _edit(series / "venous", change)
    refused("--venous", series / "venous", names="venous")


@pytest.mark.parametrize("spacing", [0.0, 1e-6, 500.0, np.nan, np.inf])
def test_spacing(refused, pair, spacing):
    path = pair / "arterial.nii.gz"
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[80:84] = np.array([spacing], "<f4").tobytes()
    plain[280:284] = np.array([-spacing], "<f4").tobytes()  # srow_x[0]
    path.write_bytes(gzip.compress(bytes(plain)))
    refused(*_both(pair), names="arterial.nii.gz")


def test_pixel_spacing_of_dicom(refused, series):
    _edit(series / "venous", lambda dataset, _: setattr(dataset, "PixelSpacing", ["0", "6"]))
    refused("--venous", series / "venous", names="venous")


def test_a_singular_affine(refused, pair):
    path = pair / "arterial.nii.gz"
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[312:328] = plain[280:296]  # srow_z := srow_x
    path.write_bytes(gzip.compress(bytes(plain)))
    refused(*_both(pair), names="arterial.nii.gz")


# --- scans that do not belong together -----------------------------------------------------------------------------


def test_two_patients(refused, series):
    _edit(series / "venous", lambda dataset, _: setattr(dataset, "PatientID", "SOMEBODY-ELSE"))
    assert "SOMEBODY-ELSE" in refused(series, names="patient")
    sentence = refused("--arterial", series / "arterial", "--venous", series / "venous", names="patient")
    assert "SOMEBODY-ELSE" in sentence


def test_no_overlap(refused, pair):
    def change(data, affine):
        affine[2, 3] += 2000
        return data, affine

    _rewrite(pair / "venous.nii.gz", change)
    refused(*_both(pair), names="overlap")


@pytest.mark.parametrize("how", ["same path", "copy"])
def test_the_same_scan_twice(refused, pair, how):
    other = pair / "arterial.nii.gz"
    if how == "copy":
        other = pair / "again.nii.gz"
        shutil.copy(pair / "arterial.nii.gz", other)
    refused("--arterial", pair / "arterial.nii.gz", "--venous", other, names="same")


# --- slices --------------------------------------------------------------------------------------------------------


def test_duplicate_slices_with_other_pixels(refused, series):
    paths = sorted((series / "venous").glob("*.dcm"))
    for number, path in enumerate(paths[5:8]):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PixelData = (dataset.pixel_array + 100).astype("<i2").tobytes()
        dataset.save_as(path.with_name(f"double_{number}.dcm"))
    refused("--venous", series / "venous", names="venous")


def test_too_many_slices_missing(refused, series):
    for path in sorted((series / "venous").glob("*.dcm"))[20:26]:
        path.unlink()
    refused("--venous", series / "venous", names="venous")


def test_unknown_transfer_syntax(refused, series):
    for path in (series / "venous").glob("*.dcm"):
        raw = path.read_bytes()
        assert raw.count(b"1.2.840.10008.1.2.1\0") == 1
        path.write_bytes(raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    assert "transfer syntax" in refused("--venous", series / "venous", names="venous")


# --- folders -------------------------------------------------------------------------------------------------------


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", names="nothing")


def test_a_folder_of_other_things(refused, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    refused(tmp_path / "letters", names="letters")


def test_output_below_a_file(refused, sample, tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    refused(sample, names="file", out=out)
    assert (tmp_path / "file").read_text() == "in the way"


def test_output_that_may_not_be_written(refused, sample):
    place = Path("/proc/multiphase-results")
    if not place.parent.is_dir():
        pytest.skip("needs a folder nobody can write to (/proc)")
    refused(sample, names="multiphase-results", out=place)


def test_a_disk_that_fills_while_results_are_written(refused, sample, monkeypatch):
    from napari_multiphase.io import images

    written = []
    real = images.write_nifti

    def write(path, *args, **options):
        real(path, *args, **options)
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(images, "write_nifti", write)
    assert "disk is full" in refused(sample, names="out")
    assert len(written) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_disk_too_small_for_intermediate_results(sample, model, tmp_path):
    """A limit on file size stands for the full disk: a write fails half-way with an error."""
    code = (
        "import resource; from napari_multiphase.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); main()"
    )
    out = tmp_path / "out"
    environment = {**os.environ, "MULTIPHASE_SCRATCH": str(tmp_path / "scratch")}
    args = [sys.executable, "-B", "-c", code, "segment", str(sample), "--out", str(out), "--model", str(model)]
    ran = subprocess.run(args, capture_output=True, text=True, env=environment)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "space" in last
    assert not out.exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_sample_and_its_output(run, tmp_path):
    (tmp_path / "file").write_text("x")
    small = ("--shape", 48, 48, 48)
    for args, name in [
        ((tmp_path / "file" / "x", *small), "file"),
        ((tmp_path / "x", "--shape", 4, 4, 4), "shape"),
        ((tmp_path / "x", *small, "--spacing-mm", 0, 1, 1), "spacing"),
        ((tmp_path / "x", *small, "--seed", -1), "seed"),
    ]:
        result = run("sample", *args)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert name in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "scratch") == ["file"]


# --- models --------------------------------------------------------------------------------------------------------


def _model_with(model: Path, tmp_path: Path, fault: str) -> Path:
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    card, weights = folder / "model.json", folder / "weights.safetensors"
    values = json.loads(card.read_text())
    if fault == "wrong hash":
        values["weights_sha256"] = "0" * 64
    elif fault == "other bytes":
        raw = bytearray(weights.read_bytes())
        raw[-1] ^= 1
        weights.write_bytes(raw)
    elif fault == "no weights":
        weights.unlink()
    elif fault == "no card":
        card.unlink()
        return folder
    elif fault == "label count":
        values["labels"] = [*values["labels"], 6]
    elif fault == "link outside":
        shutil.move(weights, tmp_path / "elsewhere.safetensors")
        weights.symlink_to(tmp_path / "elsewhere.safetensors")
    elif fault == "pickle":
        (folder / "extra.pt").write_bytes(b"\x80\x04.")
    elif fault == "unknown method":
        values["method"] = "magic"
    elif fault == "unknown field":
        values["run_this"] = "rm -rf"
    elif fault == "no JSON":
        card.write_text("{")
        return folder
    card.write_text(json.dumps(values))
    return folder


FAULTS = [
    "wrong hash",
    "other bytes",
    "no weights",
    "no card",
    "label count",
    "link outside",
    "pickle",
    "unknown method",
    "unknown field",
    "no JSON",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_model(refused, sample, model, tmp_path, fault):
    words = {"unknown method": "magic"}.get(fault, "damaged")
    refused(sample, names=words, use=_model_with(model, tmp_path, fault))


def test_a_model_that_is_not_there(refused, sample, tmp_path):
    refused(sample, names="no-such-model", use=Path("no-such-model"))


# --- what is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        (["--phase-weight", 2], "phase-weight"),
        (["--phase-weight", "nan"], "phase-weight"),
        (["--branch-weight", 1.5], "from 0 (synthetic) to 1 (the scan)"),
        (["--branch-weight", 0.5], "leave it out, or choose a model that translates"),
        (["--device", "mps"], "mps"),
        (["--format", "dicom-seg"], "DICOM SEG"),
        (["--venous", "x.nii.gz"], "STUDY"),
    ],
)
def test_requests_that_cannot_be(refused, sample, extra, names):
    refused(sample, *extra, names=names)


def test_no_study_at_all(refused):
    refused(names="STUDY")


@pytest.mark.parametrize(
    "args", [["info"], ["evaluate"], ["segment"], ["nonsense"], ["segment", "x", "--device", "abacus"]]
)
def test_wrong_usage_is_code_two(run, args):
    assert run(*args).exit_code == 2


def test_info_and_evaluate_refuse_in_words_too(run, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no")
    for args in (["info", bad], ["evaluate", bad, bad], ["evaluate", tmp_path, tmp_path], ["info", tmp_path / "none"]):
        result = run(*args)
        assert result.exit_code == 2, args
        assert "error: " in result.stderr
        assert "Traceback" not in result.output


def test_info_json_of_a_bad_study_still_lists_the_scans(run, pair):
    (pair / "arterial.nii.gz").write_bytes(b"no")
    result = run("info", pair, "--json")
    answer = json.loads(result.stdout)
    assert len(answer["scans"]) == 2
