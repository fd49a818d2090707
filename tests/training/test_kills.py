"""SIGKILL in the middle of a run, and in the middle of a checkpoint: the finished run is the uninterrupted one.

``benchmarks/resume_kills.py`` does the same at random moments, twenty times for each method.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_runs import tiny_run

from napari_multiphase.config.files import write_run
from napari_multiphase.training.train import resume, train

STEPS = {"shared_steps": 40, "phase_steps": 0}


@pytest.fixture(scope="module")
def run():
    """Long enough to be killed, with a checkpoint in every step."""
    config = tiny_run("pcn").method_config | STEPS
    return tiny_run("pcn", method_config=config, batch=1, checkpoint_every=2, validation={"every": 1000, "cases": 1})


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(run, folder, processes=1)
    return folder


def killed(run, tmp_path, when):
    """A run in a process of its own, killed at the first moment at which `when` of its folder is true."""
    write_run(run, tmp_path / "run.yaml")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "napari_multiphase", "train", str(tmp_path / "run.yaml"), "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not when(folder):
            assert process.poll() is None and time.monotonic() < until, "the run ended before it could be killed"
            time.sleep(0.0005)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (folder / "model").exists()
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group, which Windows does not have")
@pytest.mark.parametrize(
    ("moment", "when"),
    [
        ("after a checkpoint", lambda folder: (folder / "checkpoints" / "00000010").is_dir()),
        ("within a checkpoint", lambda folder: any((folder / "checkpoints").glob(".*.part"))),
    ],
)
def test_a_killed_run_goes_on_exactly(run, whole, tmp_path, moment, when):
    folder = killed(run, tmp_path, when)
    resume(folder, processes=1)
    for name in ("metrics.csv", "model/weights.safetensors", "split.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    last = [sorted((f / "checkpoints").glob("[0-9]*"))[-1] / "state.safetensors" for f in (folder, whole)]
    assert last[0].read_bytes() == last[1].read_bytes()
