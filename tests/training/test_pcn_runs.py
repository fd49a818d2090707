"""PCN with its translators as tiny runs: both forms go on exactly, histories included, and two processes equal one."""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.numpy import load_file
from test_train import StopAfter, assert_same_run
from tiny_runs import tiny_run
from two_processes import assert_two_processes_equal_one

from napari_multiphase.config import RunConfig
from napari_multiphase.errors import Cancelled
from napari_multiphase.training.record import read_metrics
from napari_multiphase.training.train import resume, train

SGD = {"kind": "sgd", "lr": 0.02, "schedule": "constant"}
TRANSLATION: dict[str, Any] = {
    "resnet": {"width": 2, "blocks": 1},
    "unet": {"widths": [2, 3], "norm": "none"},
    "judge": {"width": 2, "halvings": 1},
    "pool": 3,
    "steps": 2,
    "joint_steps": 4,
    "joint_segmentors": SGD,
}
FORMS: dict[str, dict[str, Any]] = {
    "unet3d": {
        "patch_vox": (16, 24, 24),
        "method_config": {
            "segmentor": {"widths": [4, 6]},
            "shared_steps": 1,
            "phase_steps": 1,
            "optimiser": SGD,
            "translation": TRANSLATION,
        },
    },
    "rstn": {
        "patch_vox": (4, 24, 24),
        "method_config": {
            "form": "rstn",
            "rstn": {
                "net": {"width_mult": 0.02, "dropout": 0.0},
                "margin_vox": 2,
                "random_margin_vox": [0, 4],
                "separate_steps": 2,
                "raw_share": 0.5,
                "joined_steps": 1,
                "optimiser": {**SGD, "bias_factor": 2.0, "weight_decay": 5e-4, "momentum": 0.9},
                "most_rounds": 2,
            },
            "translation": TRANSLATION,
        },
    },
}
EACH = pytest.mark.parametrize("form", FORMS)


def tiny(form: str, **changes: Any) -> RunConfig:
    return tiny_run("pcn", labels=(0, 1), validation={"folds": 3, "every": 100, "cases": 1}, **FORMS[form], **changes)


@EACH
def test_a_run_that_stopped_in_the_joint_stage_goes_on_exactly(form, tmp_path):
    run = tiny(form, checkpoint_every=2)
    train(run, tmp_path / "whole", processes=1)
    rows = read_metrics(tmp_path / "whole")
    assert {row.stage for row in rows} >= {"translators", "joint"}
    with pytest.raises(Cancelled):
        train(run, tmp_path / "stopped", processes=1, cancel=StopAfter(10))  # step 2 of 4
    newest = sorted((tmp_path / "stopped" / "checkpoints").iterdir())[-1]
    state = load_file(newest / "state.safetensors")
    pools = [state[f"objective.pools.{phase}.count"] for phase in ("arterial", "venous")]
    assert all(count > 0 for count in pools) and any("discriminators" in name for name in state)
    resume(tmp_path / "stopped", processes=1)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def joint_alone(form: str) -> RunConfig:
    """Three steps in which everything moves."""
    config = FORMS[form]["method_config"] | {"shared_steps": 0, "phase_steps": 0}
    config["translation"] = TRANSLATION | {"steps": 0, "joint_steps": 3}
    if form == "rstn":
        config["rstn"] = config["rstn"] | {"separate_steps": 0, "joined_steps": 0}
    return tiny(form).model_copy(update={"method_config": config})


@EACH
def test_two_processes_equal_one(form, tmp_path):
    assert_two_processes_equal_one(joint_alone(form), tmp_path)
