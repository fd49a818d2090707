"""Two processes (gloo) give what one process gives at the same whole batch: losses, validation Dice, weights.

Stated for float32 with dropout off; batch statistics are summed over the processes (`nets.batchnorm`).
"""

import os
import signal
import socket
import subprocess
import sys

import pytest
from tiny_runs import TINY, tiny_run
from two_processes import assert_two_processes_equal_one

from napari_multiphase.config.files import write_run
from napari_multiphase.methods import METHODS
from napari_multiphase.training.record import read_metrics

STEPS = 3
THREE_STEPS = {
    "pcn": {"shared_steps": STEPS, "phase_steps": 0},
    "hpn": {"steps": STEPS, "aug_mode": "none"},
    "urim": {"steps": STEPS},
    "pann": {"first_steps": 1, "second_steps": STEPS - 1},
    "csgan": {"segmentor_steps": 0, "generator_steps": 0, "joint_steps": STEPS, "pool": 2},
}


def short(method: str):
    config = TINY[method]["method_config"] | THREE_STEPS[method]
    if method == "urim":
        config["liver"] = config["liver"] | {"steps": STEPS}
    return tiny_run(method, method_config=config, validation={"folds": 3, "every": 100, "cases": 2})


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(method, tmp_path):
    assert_two_processes_equal_one(short(method), tmp_path)


def started_alone(args: list[str]) -> list[subprocess.Popen[str]]:
    """Two processes of one run without a launcher, as SLURM's srun starts them (docs/training.md)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "napari_multiphase", "train", *args]
    return [
        subprocess.Popen(command, env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_scheduler_stops_both_and_they_go_on(tmp_path):
    config = TINY["pcn"]["method_config"] | {"shared_steps": 40, "phase_steps": 0}
    run = tiny_run("pcn", method_config=config, validation={"every": 100, "cases": 2}, checkpoint_every=100)
    write_run(run, tmp_path / "run.yaml")
    folder = tmp_path / "two"
    both = started_alone([str(tmp_path / "run.yaml"), "--out", str(folder)])
    for line in both[0].stderr:
        if "stage shared" in line:
            break
    for process in both:
        process.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [130, 130], said
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert int(checkpoint.name) < 40 and not (folder / "model").exists()
    both = started_alone(["--resume", str(folder)])
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert read_metrics(folder)[-1].step == 40
