"""One run in one process and in two."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from napari_multiphase.config import RunConfig
from napari_multiphase.config.files import write_run
from napari_multiphase.training.record import read_metrics
from napari_multiphase.training.train import train


def assert_two_processes_equal_one(run: RunConfig, tmp_path: Path) -> None:
    """Losses and validation Dice within 1e-5, weights within what float16 keeps."""
    train(run, tmp_path / "one", processes=1)
    write_run(run, tmp_path / "run.yaml")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["napari_multiphase", "train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "two")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [row[:4] for row in one] == [row[:4] for row in two]
    assert {row.split for row in one} == {"train", "validation"}
    for a, b in zip(one, two, strict=True):
        assert abs(a.value - b.value) < 1e-5, (a, b)
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        assert np.allclose(value, weights[1][name], atol=2e-3), name  # stored in float16
