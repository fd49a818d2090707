"""A real, tiny run in a process of its own: started, found again, stopped by a message, gone on with exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny_runs import tiny_run

from napari_multiphase.config.files import write_run
from napari_multiphase.errors import UserError
from napari_multiphase.jobs import training
from napari_multiphase.jobs.following import Follower

STEPS = {"shared_steps": 60, "phase_steps": 1}


def planned(folder, **changes):
    run = tiny_run("pcn", **changes)
    folder.mkdir(parents=True)
    write_run(run, folder / "plan.yaml")
    return folder


def until(follower, *states, seconds=120):
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        now = follower.read()
        if now.state not in seen:
            seen.append(now.state)
        if now.state in states:
            return now, seen
        time.sleep(0.05)
    raise AssertionError(f"never {states}: {seen}, {now.cause} {now.log}")


def number_of(folder):
    return next(iter(training._known(folder)))["pid"]


def test_a_run_is_stopped_by_a_message_and_goes_on_exactly(tmp_path):
    config = tiny_run("pcn").method_config | STEPS
    folders = [planned(tmp_path / name, method_config=config, batch=1, validation={"every": 30, "cases": 1})
               for name in ("whole", "stopped")]  # fmt: skip
    whole, stopped = folders
    assert Follower(whole).read().state == "ready"
    assert training.list_runs(tmp_path) and set(training.list_runs(tmp_path)) == set(folders)
    training.start(whole)
    with pytest.raises(UserError, match="at work already"):
        training.start(whole)
    now, seen = until(Follower(whole), "finished", "failed", "lost")
    assert now.state == "finished", now.cause + now.log
    assert seen[0] == "starting" and "training" in seen
    assert now.dice["liver"] and now.losses["cross_entropy"] and now.previews and now.fraction == 1
    assert "training 'tiny': pcn from scratch, on 3 phantoms, seed 0" in (whole / "trainer.log").read_text()

    training.start(stopped)
    if sys.platform != "win32":
        assert os.getsid(number_of(stopped)) != os.getsid(0), "the window's end must not reach it"
    follower = Follower(stopped)
    while not any(follower.read().losses.values()):
        time.sleep(0.05)
    training.stop(stopped)
    now, _ = until(follower, "stopped", "finished", "failed", "lost")
    assert now.state == "stopped", now.cause + now.log
    until_gone(stopped)
    assert not (stopped / "stop").exists() and not (stopped / "model").exists()
    assert training.exit_code(stopped) == 130
    assert training.command_of(stopped)[-2:] == ["--resume", str(stopped)]
    training.start(stopped)
    assert follower.read().state == "starting", "what the first process said is over"
    now, _ = until(follower, "finished", "failed", "lost")
    assert now.state == "finished", now.cause + now.log
    for name in ("metrics.csv", "model/weights.safetensors", "split.json"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name
    with pytest.raises(UserError, match="is finished"):
        training.start(stopped)


def until_gone(folder):
    end = time.monotonic() + 60
    while training.is_alive(folder):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_model_knew_before_is_looked_at_and_shown(tmp_path):
    first = planned(tmp_path / "first")
    training.start(first)
    assert until(Follower(first), "finished", "failed", "lost")[0].state == "finished"
    tuned = planned(tmp_path / "tuned", start_from=str(first / "model"), seed=3)
    training.start(tuned)
    now, _ = until(Follower(tuned), "finished", "failed", "lost")
    assert now.state == "finished", now.cause + now.log
    before = Follower(first).read().dice["mean"][-1]
    assert now.dice["mean"][0][0] == 0 and now.dice["mean"][-1][0] == now.step
    # Stored in float16 and looked at again, on the same case: the same model, nearly the same figure.
    assert now.dice["mean"][0][1] == pytest.approx(before[1], abs=0.01)
    assert now.previews[0].name == "000000.png"
    assert int(now.previews[-1].stem) == now.step


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_is_told_and_one_that_cannot_begin_says_why(tmp_path):
    config = tiny_run("pcn").method_config | {"shared_steps": 5000}
    folder = planned(tmp_path / "killed", method_config=config)
    training.start(folder)
    now, _ = until(Follower(folder), "training", "failed", "lost")
    assert now.state == "training", now.log
    os.kill(number_of(folder), signal.SIGKILL)
    until_gone(folder)
    now = Follower(folder).read()
    assert now.state == "lost" and "SIGKILL" in now.cause and "out of memory" in now.cause

    wrong = planned(tmp_path / "wrong")
    (wrong / "plan.yaml").write_text("batch: 3\naccumulate: 2\n")
    training.start(wrong)
    now, _ = until(Follower(wrong), "failed", "finished")
    assert "batch (3) must be a multiple of accumulate (2)" in now.cause and "$ " in now.log


def test_a_run_outlives_the_process_that_started_it(tmp_path):
    folder = planned(tmp_path / "run", method_config=tiny_run("pcn").method_config | {"shared_steps": 5000})
    code = (
        f"from pathlib import Path; from napari_multiphase.jobs import training; training.start(Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    follower = Follower(folder)
    assert until(follower, "training", "failed", "lost")[0].state == "training"
    assert psutil.Process(number_of(folder)).nice() != 0
    training.stop(folder)
    now, _ = until(follower, "stopped", "failed", "lost")
    assert now.state == "stopped" and training.exit_code(folder) is None
    until_gone(folder)
