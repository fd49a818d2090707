"""``multiphase share``: from what segment wrote, and from a workspace."""

import json
import shutil
import zipfile

import pytest


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))


def test_results_are_exported_as_one_zip(run, sample, model, tmp_path):
    scans = shutil.copytree(sample, tmp_path / "jane")
    assert run("segment", scans, "--model", model, "--out", tmp_path / "results").exit_code == 0
    shared = run("share", tmp_path / "results", "--out", tmp_path / "for you.zip")
    assert shared.exit_code == 0, shared.output
    with zipfile.ZipFile(tmp_path / "for you.zip") as archive:
        facts = json.loads(archive.read("share.json"))
        assert {"arterial_labels.nii.gz", "venous_labels.nii.gz", "report.html"} <= set(archive.namelist())
    assert facts["model"]["name"] == "tiny" and facts["transform"]["method"] == "rigid"
    report = json.loads((tmp_path / "results" / "report.json").read_text())
    told = {row["name"]: row["ml"] for row in facts["structures"]}
    for row in report["structures"]:
        for phase in ("arterial", "venous"):
            if phase in row["ml"]:
                assert told[row["name"]][phase] == pytest.approx(row["ml"][phase], abs=0.01)
    shutil.rmtree(scans)
    gone = run("share", tmp_path / "results", "--out", tmp_path / "again")
    assert gone.exit_code == 2 and "is gone" in gone.stderr and not (tmp_path / "again").exists()


def test_what_is_no_study_is_said_in_a_sentence(run, sample, tmp_path):
    refused = run("share", sample, "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "neither a study's workspace" in refused.stderr
    assert not (tmp_path / "out").exists()
