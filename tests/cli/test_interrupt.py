"""Ctrl+C: code 130, and nothing is left half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def _interrupted(args, scratch, when):
    """Start the command, send it Ctrl+C once a line of its progress contains `when`; code and last line."""
    command = [sys.executable, "-m", "napari_multiphase", *map(str, args)]
    environment = {**os.environ, "MULTIPHASE_SCRATCH": str(scratch)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as ran:
        lines = []
        for line in ran.stderr:
            lines.append(line.strip())
            if when in line:
                ran.send_signal(signal.SIGINT)
                break
        lines += [line.strip() for line in ran.stderr]
    assert "Traceback" not in "\n".join(lines)
    return ran.returncode, lines[-1]


@pytest.mark.parametrize("when", ["registering", "tile 1"])
def test_segment(sample, model, tmp_path, when):
    args = ("segment", sample, "--out", tmp_path / "out", "--model", model)
    code, last = _interrupted(args, tmp_path / "scratch", when)
    assert code == 130
    assert last == "cancelled: nothing was written"
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_sample(tmp_path):
    args = ("sample", tmp_path / "out", "--shape", 96, 192, 192)
    code, _ = _interrupted(args, tmp_path / "scratch", "making")
    assert code == 130
    assert not (tmp_path / "out").exists()


def test_a_killed_run_is_cleared_away_by_the_next(sample, model, tmp_path, run):
    command = [
        sys.executable,
        "-m",
        "napari_multiphase",
        "sample",
        str(tmp_path / "out"),
        "--shape",
        "96",
        "192",
        "192",
    ]
    environment = {**os.environ, "MULTIPHASE_SCRATCH": str(tmp_path / "scratch")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as ran:
        ran.stderr.readline()
        ran.kill()
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert run("evaluate", sample, sample).exit_code == 0
    assert list((tmp_path / "scratch").iterdir()) == []
