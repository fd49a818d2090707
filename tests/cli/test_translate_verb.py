"""``multiphase translate``: files, sentences, exit codes; and which models translate."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest


def one_line(result) -> str:
    """The error that a verb ended with, after lines of progress."""
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and result.stderr.count("error: ") == 1
    return last


@pytest.mark.parametrize("to", ["arterial", "venous"])
def test_translate_writes_a_marked_image_on_the_source_s_grid(run, sample, translator, tmp_path, to):
    out = tmp_path / "out"
    result = run("translate", sample, "--to", to, "--model", translator, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == [f"synthetic_{to}.json", f"synthetic_{to}.nii.gz"]
    source = "venous" if to == "arterial" else "arterial"
    made, real = nib.load(out / f"synthetic_{to}.nii.gz"), nib.load(sample / f"{source}.nii.gz")
    assert made.shape == real.shape
    np.testing.assert_allclose(made.affine, real.affine, atol=1e-4)
    assert f"Makes a synthetic {to} scan from the {source} one" in result.stdout
    assert f"note: the {to} image is synthetic" in result.stdout
    assert f"synthetic_{to}.nii.gz synthetic_{to}.json" in result.stdout
    assert list((tmp_path / "scratch").iterdir()) == []


def test_one_scan_named_is_enough_and_json_is_pure(run, sample, translator, tmp_path):
    args = ("--arterial", sample / "arterial.nii.gz", "--to", "venous", "--model", translator, "--out", tmp_path / "o")
    result = run("translate", *args, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["synthetic"] == "venous"
    assert report["plan"]["source"] == "arterial"
    assert report["options"]["device"] == "cpu"
    assert report["files"] == ["synthetic_venous.nii.gz", "synthetic_venous.json"]
    assert "compared" not in report, "there is no real venous scan to compare with"


def test_a_pair_is_compared_with_the_real_scan(run, sample, translator, model, tmp_path):
    common = ("translate", sample, "--to", "venous", "--model", translator)
    labels = ("--labels", sample / "arterial_labels.nii.gz", "--judge", model)
    result = run(*common, "--out", tmp_path / "o", *labels)
    assert result.exit_code == 0, result.output
    for words in ("compared: against the real venous scan, inside the body: MAE", "untranslated", "S-score"):
        assert words in result.stdout
    compared = json.loads((tmp_path / "o" / "synthetic_venous.json").read_text())["compared"]
    assert compared["aligned"]["method"] == "mind" and compared["data_range_hu"] == 600
    assert compared["synthetic"]["mae_hu"] > 0 and compared["untranslated"]["voxels"] > 1000
    assert {row["name"] for row in compared["structures"]["rows"]} >= {"liver", "aorta"}
    assert compared["s_score"]["judge"] == "tiny"
    plain = run(*common, "--out", tmp_path / "plain", "--no-compare", "--json")
    assert "compared" not in json.loads(plain.stdout)
    wrong = run(*common, "--out", tmp_path / "w", "--labels", sample / "venous.nii.gz")
    assert "venous.nii.gz" in one_line(wrong) and not (tmp_path / "w").exists()


def test_options_that_would_do_nothing_are_refused(run, sample, translator, model, tmp_path):
    alone = ("translate", "--to", "venous", "--model", translator, "--out", tmp_path / "o")
    labels = ("--labels", sample / "arterial_labels.nii.gz")
    for words, args in {
        "leave --no-compare out": (sample, *labels, "--no-compare"),
        "and there is none": ("--arterial", sample / "arterial.nii.gz", *labels),
        "give them with --labels": (sample, "--judge", model),
    }.items():
        assert words in one_line(run(*alone, *args))
        assert not (tmp_path / "o").exists()


def test_dicom_gives_nifti(run, sample_dicom, translator, tmp_path):
    result = run("translate", sample_dicom, "--to", "venous", "--model", translator, "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    assert nib.load(tmp_path / "o" / "synthetic_venous.nii.gz").get_data_dtype() == np.int16


def test_a_folder_with_a_synthetic_image_says_so(run, sample, translator, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "arterial.nii.gz").write_bytes((sample / "arterial.nii.gz").read_bytes())
    assert run("translate", out, "--to", "venous", "--model", translator, "--out", out).exit_code == 0
    answer = json.loads(run("info", out, "--json").stdout)
    assert {s["title"]: s["kind"] for s in answer["scans"]}["synthetic_venous.nii.gz"] == "synthetic"
    assert set(answer["study"]["phases"]) == {"arterial"}
    assert "synthetic_venous.nii.gz is a synthetic image, not a scan" in run("info", out).stdout


def test_without_a_model_that_translates_there_is_one_sentence(run, sample, model, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_multiphase.io.models.bundled", lambda: [model])
    said = one_line(run("translate", sample, "--to", "venous", "--out", tmp_path / "o"))
    assert "no model here translates between the phases" in said and "--model" in said
    said = one_line(run("translate", sample, "--to", "venous", "--out", tmp_path / "o", "--model", model))
    assert "the model 'tiny' does not translate" in said and "models list" in said
    assert not (tmp_path / "o").exists()


def test_the_default_is_the_first_model_that_translates(run, sample, model, translator, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_multiphase.io.models.bundled", lambda: [model, translator])
    result = run("translate", sample, "--to", "venous", "--out", tmp_path / "o", "--json")
    assert json.loads(result.stdout)["model"]["name"] == "tiny csgan"


def test_bad_input_is_one_sentence(run, sample, translator, tmp_path):
    venous = ("--venous", sample / "venous.nii.gz", "--model", translator, "--out", tmp_path / "o")
    assert "open the arterial scan, or translate to arterial" in one_line(run("translate", *venous, "--to", "venous"))
    assert "no such file" in one_line(run("translate", tmp_path / "x", *venous[2:], "--to", "venous"))
    assert run("translate", sample, *venous[2:], "--to", "portal").exit_code == 2
    assert not (tmp_path / "o").exists()


def test_models_list_and_info_say_which_translate(run, model, translator, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    for folder in (model, translator):
        assert run("models", "add", folder).exit_code == 0
    header, *lines = run("models", "list").stdout.splitlines()
    assert "translates" in header
    told = {line.split("  ")[0]: line.split() for line in lines}
    assert "yes" in told["tiny csgan"] and "no" in told["tiny"]
    listed = {m["name"]: m["translates"] for m in json.loads(run("models", "list", "--json").stdout)}
    assert listed["tiny csgan"] is True and listed["tiny"] is False
    assert "each phase into the other" in run("models", "info", translator).stdout
