"""A small phantom pair, a tiny model with random weights, and the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_multiphase.cli import app


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """Folder of `multiphase sample` at the smallest size; not to be changed."""
    folder = tmp_path_factory.mktemp("sample") / "phantom"
    args = ["sample", str(folder), "--shape", "48", "64", "64", "--spacing-mm", "6", "6", "6"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def sample_dicom(tmp_path_factory) -> Path:
    """The same as two DICOM series; not to be changed."""
    folder = tmp_path_factory.mktemp("sample") / "phantom_dicom"
    args = ["sample", str(folder), "--shape", "48", "64", "64", "--spacing-mm", "6", "6", "6", "--format", "dicom"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return folder


def tiny_card(**changes):
    """The card of a model that is small and knows nothing."""
    card = {
        "name": "tiny",
        "method": "pcn",
        "config": {"segmentor": {"widths": [4, 8]}},
        "labels": [0, 1, 2, 5],
        "phases": ["arterial", "venous"],
        "window_hu": [-200, 400],
        "spacing_mm": [6, 6, 6],
        "tile_vox": [48, 64, 64],
        "overlap": 0.25,
        "summary": "Random weights, for tests.",
        "training_data": "none",
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
    }
    return {**card, **changes}


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """Folder of a tiny model with random weights; not to be changed."""
    import numpy as np
    import torch

    from napari_multiphase.config import method_config
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods.pcn import PcnSegmentors

    card = tiny_card()
    torch.manual_seed(0)
    nets = PcnSegmentors(method_config("pcn", card["config"]), len(card["labels"]))
    tensors = {name: value.numpy().astype(np.float16) for name, value in nets.state_dict().items()}
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_model(folder, card, tensors)
    return folder


@pytest.fixture(scope="session")
def translator(tmp_path_factory) -> Path:
    """Folder of a tiny csgan model with random weights; not to be changed."""
    import torch

    from napari_multiphase.config import method_config
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods import method

    card = tiny_card(
        name="tiny csgan", method="csgan", config={"segmentor": {"widths": [4, 6]}, "generator": {"widths": [4, 6]}}
    )
    torch.manual_seed(0)
    nets = method("csgan").nets(method_config("csgan", card["config"]), len(card["labels"]))
    folder = tmp_path_factory.mktemp("model") / "tiny-csgan"
    write_model(folder, card, {name: value.numpy() for name, value in nets.state_dict().items()})
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("segment", ...)`` -> result with exit_code, stdout, stderr; scratch files stay under the test's folder."""
    monkeypatch.setenv("MULTIPHASE_SCRATCH", str(tmp_path / "scratch"))

    def invoke(*args: object):
        return CliRunner().invoke(app, [str(a) for a in args])

    return invoke
