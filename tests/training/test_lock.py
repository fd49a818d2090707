"""One run at a time in a run folder: who comes second is told who is there, and the dead block nobody."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from tiny_runs import tiny_run

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event, ignore
from napari_multiphase.io import lock
from napari_multiphase.training.lock import LOCK_FILE, locked
from napari_multiphase.training.train import resume, train

HOLD = """
import os, sys, time
from pathlib import Path
from napari_multiphase.events import ignore
from napari_multiphase.training.lock import locked
with locked(Path(sys.argv[1]), ignore):
    if sys.argv[2:] and not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    if not sys.argv[2:]:
        print("held", flush=True)
    time.sleep(60)
"""


def held(folder, *more):
    """A process that holds the folder's lock, and what it said."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_a_second_run_is_refused_in_one_sentence_and_changes_nothing(tmp_path):
    folder, never = tmp_path / "run", Cancel()
    never.set()
    with pytest.raises(Cancelled):
        train(tiny_run("pcn"), folder, processes=1, cancel=never)
    (folder / "metrics.csv").write_text("mine\n")
    process, _ = held(folder)
    try:
        said = f"is being trained by process {process.pid} on {socket.gethostname()}"
        for second in (lambda: train(tiny_run("pcn"), folder), lambda: resume(folder)):
            with pytest.raises(UserError, match=said):
                second()
        assert (folder / "metrics.csv").read_text() == "mine\n"
    finally:
        process.kill()
        process.wait()
    with locked(folder, ignore):  # the killed one left its file behind, and that is all
        assert json.loads((folder / LOCK_FILE).read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match=f"process {os.getpid()} "), locked(folder, ignore):
            pass
    with locked(folder, ignore):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which Windows cannot")
def test_a_forked_helper_that_outlives_a_killed_run_does_not_keep_its_lock(tmp_path):
    process, child = held(tmp_path, "fork")
    process.kill()
    process.wait()
    try:
        with locked(tmp_path, ignore):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_disk_without_locks_is_a_warning(tmp_path, monkeypatch):
    def unavailable(_handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", unavailable)
    told: list[Event] = []
    with locked(tmp_path, told.append):
        pass
    assert [event.kind for event in told] == ["warning"]
    assert "cannot be locked (no locks available)" in told[0].message
