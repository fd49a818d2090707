"""``multiphase plan`` writes a run to standard output, and nothing else."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from napari_multiphase.cli.app import app
from napari_multiphase.cli.plan import _structures
from napari_multiphase.errors import UserError


def test_standard_output_is_the_file():
    result = CliRunner().invoke(app, ["plan", "phantoms", "--method", "pcn", "--preset", "smoke", "--memory-gb", "4"])
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["method"] == "pcn" and result.stdout.startswith("# multiphase plan")


def test_a_wrong_method_ends_with_one_sentence():
    result = CliRunner().invoke(app, ["plan", "phantoms", "--method", "unet"])
    assert result.exit_code == 2 and "there is no method 'unet'" in result.stderr and not result.stdout


def test_labels_of_the_data_set_are_named_on_the_command_line():
    assert _structures(["cancer=22", "1=liver", "blob="]) == {"cancer": 22, "1": 1, "blob": None}
    with pytest.raises(UserError, match="NAME=ID"):
        _structures(["cancer"])
