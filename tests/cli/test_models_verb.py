"""``multiphase models``: what there is, and adding one's own."""

import json
import shutil

import pytest


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))


def test_an_added_model_is_listed_first_and_used_by_name(run, model, tmp_path):
    added = run("models", "add", model)
    assert added.exit_code == 0, added.output
    assert "model 'tiny' is in" in added.stdout and "phantoms only" in added.stdout
    listed = run("models", "list").stdout.splitlines()
    assert listed[1].startswith("tiny") and "(default)" not in listed[1]
    assert json.loads(run("models", "list", "--json").stdout)[0]["name"] == "tiny"
    assert str(tmp_path / "data") in run("models", "info", "tiny").stdout


def test_a_taken_name_ends_with_one_sentence(run, model):
    assert run("models", "add", model).exit_code == 0
    again = run("models", "add", model)
    assert again.exit_code == 2
    assert "--replace" in again.stderr and "\n" not in again.stderr.strip()
    assert run("models", "add", model, "--replace").exit_code == 0


def test_a_damaged_model_is_named_and_the_others_are_listed(run, model, tmp_path):
    run("models", "add", model)
    (tmp_path / "data" / "models" / "tiny" / "weights.safetensors").write_bytes(b"x")
    listed = run("models", "list")
    assert listed.exit_code == 0
    assert "warning:" in listed.stderr and "pcn-phantom" in listed.stdout


def test_a_model_that_cannot_run_here_is_neither_added_nor_used(run, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "copy")
    card = json.loads((folder / "model.json").read_text())
    for changes, words in (({"method": "nomethod"}, "'nomethod'"), ({"config": {"x": 1}}, "config.x")):
        (folder / "model.json").write_text(json.dumps({**card, **changes}))
        for call in (("models", "add", folder), ("models", "info", folder)):
            refused = run(*call)
            assert refused.exit_code == 2
            assert words in refused.stderr and "\n" not in refused.stderr.strip()


def test_what_is_no_model_is_refused(run, tmp_path):
    assert run("models", "add", tmp_path / "none").exit_code == 2
    assert run("models", "add", tmp_path).exit_code == 2


def test_a_model_travels_as_one_zip(run, model, tmp_path):
    out = tmp_path / "tiny.zip"
    exported = run("models", "export", model, out)
    assert exported.exit_code == 0, exported.output
    shown = run("models", "info", out)
    assert (
        shown.exit_code == 0 and "Random weights, for tests." in shown.stdout and f"zip         {out}" in shown.stdout
    )
    assert json.loads(run("models", "info", out, "--json").stdout)["folder"] == str(out)
    assert not (tmp_path / "data" / "models").exists()
    assert run("models", "add", out).exit_code == 0
    assert run("models", "export", "tiny", tmp_path / "again.zip").exit_code == 0
    assert (tmp_path / "again.zip").read_bytes() == out.read_bytes()
    refused = run("models", "export", "tiny", tmp_path / "folder")
    assert refused.exit_code == 2 and ".zip" in refused.stderr
