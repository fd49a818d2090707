"""``multiphase segment`` with a model that reads both phases at once."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture(scope="module")
def pair_model(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained HPN of two tiny networks."""
    import torch

    from napari_multiphase.config import HpnConfig
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods import METHODS
    from napari_multiphase.methods.base import stored_state

    config = HpnConfig(width=2, levels=3)
    torch.manual_seed(0)
    state = stored_state(METHODS["hpn"].nets(config, 4))
    card = json.loads((model / "model.json").read_text())
    del card["weights_sha256"]
    card |= {"name": "tiny pair", "method": "hpn", "config": config.model_dump(mode="json")}
    folder = tmp_path_factory.mktemp("model") / "pair"
    write_model(folder, card, {name: value.numpy().astype(np.float16) for name, value in state.items()})
    return folder


def test_both_phases_give_one_result(run, sample, pair_model, tmp_path):
    out = tmp_path / "o"
    result = run("segment", sample, "--out", out, "--model", pair_model, "--no-register")
    assert result.exit_code == 0, result.output
    assert "Reads both phases at once" in result.stdout
    assert "the model reads both phases at once; the phases were not registered" in " ".join(result.stdout.split())
    fused, venous = (nib.load(out / f"{name}_labels.nii.gz").get_fdata() for name in ("fused", "venous"))
    np.testing.assert_array_equal(fused, venous)
    assert (out / "arterial_labels.nii.gz").is_file()
    report = json.loads((out / "report.json").read_text())
    assert report["network_inputs"]["arterial"] == "the scan, resampled onto the venous grid"
    assert report["network_inputs"]["aligned_by"] == "identity"


def test_one_phase_and_a_weight_are_refused(run, sample, pair_model, tmp_path):
    where = ("--out", tmp_path / "o", "--model", pair_model)
    for args, words in (
        (("--venous", sample / "venous.nii.gz"), "open the arterial scan as well"),
        ((sample, "--phase-weight", "0.5"), "reads both phases at once and gives one"),
    ):
        result = run("segment", *args, *where)
        assert result.exit_code != 0
        assert words in " ".join(result.output.split())
    assert not (tmp_path / "o").exists()
