"""``multiphase sample --atlas --labels``: files on disk, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_multiphase.cli.app import app

RUN = CliRunner()


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A box of a body with a liver and a spleen, and the names of its values."""
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    values = np.zeros((40, 30, 40), np.uint8)
    values[4:36, 4:26] = 7
    values[6:18, 6:22, 12:34] = 3
    values[26:34, 12:22, 18:30] = 4
    nib.save(nib.Nifti1Image(values, np.diag([-8.0, -8.0, 8.0, 1.0])), tmp_path / "map.nii.gz")
    (tmp_path / "names.json").write_text(json.dumps({"3": "Liver", "4": "spleen", "7": "body"}))
    return tmp_path / "map.nii.gz", tmp_path / "names.json"


def test_a_study_is_written(person: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--shape", "48", "48", "56", "--spacing-mm", "6", "6", "6", "--seed", "4", "--warp", "0"]
    atlas = ["--atlas", str(person[0]), "--labels", str(person[1])]
    done = RUN.invoke(app, ["sample", str(tmp_path / "out"), *atlas, *options])
    assert done.exit_code == 0, done.output
    labels = np.asarray(nib.load(tmp_path / "out" / "venous_labels.nii.gz").dataobj)
    image = np.asarray(nib.load(tmp_path / "out" / "arterial.nii.gz").dataobj)
    assert labels.shape == image.shape == (56, 48, 48) and {1, 2} <= set(np.unique(labels).tolist())
    assert (tmp_path / "out" / "motion_mm.nii.gz").exists()


@pytest.mark.parametrize("given", [["--atlas", "map.nii.gz"], ["--labels", "names.json"], ["--warp", "0.5"]])
def test_both_files_or_neither(tmp_path: Path, given: list[str]) -> None:
    done = RUN.invoke(app, ["sample", str(tmp_path / "out"), *given])
    assert done.exit_code == 2 and "belong together" in done.output + done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_is_a_sentence(person: tuple[Path, Path], tmp_path: Path) -> None:
    person[1].write_text(json.dumps({"3": "flux capacitor", "4": "spleen", "7": "body"}))
    done = RUN.invoke(app, ["sample", str(tmp_path / "out"), "--atlas", str(person[0]), "--labels", str(person[1])])
    assert done.exit_code == 2 and "flux capacitor" in done.output + done.stderr
    assert not (tmp_path / "out").exists()
