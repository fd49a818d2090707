"""What is read of a run while another process writes it: whole lines once, torn ends later, cut files anew."""

import json
import os
import random
import socket
import time

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.events import Event
from napari_multiphase.io.lock import whoami
from napari_multiphase.jobs import training
from napari_multiphase.jobs.following import Follower, GrowingFile
from napari_multiphase.training.lock import LOCK_FILE
from napari_multiphase.training.record import Recorder

MACHINE = {"machine": {"cores": "2"}}


@pytest.fixture
def run(tmp_path):
    """A run folder whose process is this one."""
    (tmp_path / "run.yaml").write_text("name: x\n")
    (tmp_path / LOCK_FILE).write_text(json.dumps(whoami()))
    return tmp_path


def dead(folder):
    (folder / LOCK_FILE).write_text(json.dumps({**whoami(), "created_s": whoami()["created_s"] - 100}))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"x")), max_size=12), st.randoms())
def test_every_line_is_read_once_however_it_was_written(tmp_path_factory, lines, rng):
    path = tmp_path_factory.mktemp("grow") / "file"
    block, found, reader = b"".join(line + b"\n" for line in lines), [], GrowingFile(path)
    assert reader.read() == (False, [])
    while block:
        size = rng.randint(1, len(block))
        with path.open("ab") as handle:
            handle.write(block[:size])
        block = block[size:]
        anew, new = reader.read()
        assert not anew
        found += new
    assert "\n".join(found).encode(errors="replace") == b"\n".join(lines).decode(errors="replace").encode()


def test_a_file_that_was_cut_and_grew_past_the_place_is_read_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a\nb\nc\n")
    reader = GrowingFile(path)
    assert reader.read() == (False, ["a", "b", "c"])
    os.truncate(path, 4)
    with path.open("a") as handle:
        handle.write("other\nlonger\n")
    assert reader.read() == (True, ["a", "b", "other", "longer"])
    path.unlink()
    assert reader.read() == (True, [])
    path.write_text("z\n")
    assert reader.read() == (False, ["z"])


def test_what_a_recorder_rewinds_is_forgotten(run):
    recorder, follower = Recorder(run), Follower(run)
    recorder.tell(Event("started", "training", data=MACHINE))
    recorder.metrics("train", "one", 5, {"dice": 0.5})
    place = recorder.position()
    recorder.metrics("train", "one", 10, {"dice": 0.4})
    recorder.metrics("validation", "one", 10, {"dice liver": 0.7, "dice mean": 0.7})
    assert follower.read().losses == {"dice": [(5, 0.5), (10, 0.4)]}
    assert follower.read().dice == {"liver": [(10, 0.7)], "mean": [(10, 0.7)]}
    again = Recorder(run)
    again.rewind(place)
    again.metrics("train", "one", 10, {"dice": 0.25})
    for step in range(11, 60):
        again.metrics("train", "one", step, {"dice": 0.1})
    state = follower.read()
    assert state.losses["dice"][:2] == [(5, 0.5), (10, 0.25)] and state.step == 59 and not state.dice


def test_states_in_the_order_of_a_life(run):
    recorder, follower = Recorder(run), Follower(run)
    assert follower.read().state == "starting"

    def after(kind, message="", fraction=None, left=None, **data):
        recorder.tell(Event(kind, message, fraction, left, data))
        return follower.read()

    assert after("started", "training", **MACHINE).state == "preparing"
    now = after("progress", "preparing cases, 1 of 2", 0.5)
    assert now.state == "preparing" and now.fraction == 0.5 and now.message == "preparing cases, 1 of 2"
    now = after("started", "stage one: 9 steps", stage="one")
    assert now.state == "training" and now.fraction == 0.0
    now = after("metric", "one 3 of 9", 1 / 3, 60.0, step=3, stage="one")
    assert now.state == "training" and now.fraction == 1 / 3 and 55 < now.left_s() <= 60
    assert after("warning", "the disk is slow").warnings == ["the disk is slow"]
    assert after("progress", "looking at 1 held-out case", 0.4, validation=True).state == "validating"
    assert after("metric", "held-out", validation=True).state == "training"
    training.stop(run)
    assert follower.read().stopping
    now = after("warning", "stopped; go on with", stopped=True)
    assert now.state == "training" and now.stopping, "its process still has to end"
    dead(run)
    now = follower.read()
    assert now.state == "stopped" and not now.working and now.warnings == ["the disk is slow"]
    (run / LOCK_FILE).write_text(json.dumps(whoami()))
    assert after("started", "going on", **MACHINE).state == "preparing"
    dead(run)
    (run / "trainer.log").write_text("$ python\nTraceback\nValueError: x\n")
    now = after("failed", "ValueError: x")
    assert now.state == "failed" and now.cause == "ValueError: x" and "Traceback" in now.log


def test_a_number_that_was_given_anew_is_another_process(run):
    Recorder(run).tell(Event("started", "training", data=MACHINE))
    assert training.is_alive(run)
    dead(run)
    assert not training.is_alive(run)
    now = Follower(run).read()
    assert now.state == "lost" and "ended without a word" in now.cause and "Resume" in now.cause


def test_a_process_that_ended_before_it_said_anything(run):
    (run / LOCK_FILE).unlink()
    follower = Follower(run)
    assert follower.read().state == "ready"
    gone = {"pid": 1, "host": socket.gethostname(), "created_s": time.time() + 10}
    Recorder(run).tell(Event("warning", "stopped", data={"stopped": True}))
    assert follower.read().state == "stopped"
    (run / training.PROCESS_FILE).write_text(json.dumps(gone))
    (run / "trainer.log").write_text("$ python -m\nsome noise\nerror: case 'x' is not what it was\n")
    now = follower.read()
    assert now.state == "failed" and now.cause == "case 'x' is not what it was"


def test_a_run_on_another_computer_is_neither_dead_nor_ours(run):
    (run / LOCK_FILE).write_text(json.dumps({**whoami(), "host": "elsewhere"}))
    Recorder(run).tell(Event("started", "training", data=MACHINE))
    now = Follower(run).read()
    assert now.working and now.message.startswith("on elsewhere: ")


def test_torn_and_foreign_lines_are_passed_over(run):
    events = [Event("started", "training", data=MACHINE), Event("metric", "one 1 of 2", 0.5, 1.0, {"step": 1})]
    (run / "events.jsonl").write_text(f'{events[0].to_json()}\n{{"kind": "met\n[1]\n{events[1].to_json()}\n{{"ki')
    (run / "metrics.csv").write_text("step\n1,one,train,loss,0.5\n2,one,tr\n3,one,train,loss,x\n")
    now = Follower(run).read()
    assert now.state == "training" and now.losses == {"loss": [(1, 0.5)]}


def test_reading_a_long_run_again_costs_nothing(run):
    rows = "".join(f"{step},one,train,loss,{random.random()}\n" for step in range(100_000))
    (run / "metrics.csv").write_text("step,stage,split,name,value\n" + rows)
    follower = Follower(run)
    follower.read()
    used = psutil.Process().io_counters().read_chars if hasattr(psutil.Process(), "io_counters") else 0
    follower.read()
    if used:
        assert psutil.Process().io_counters().read_chars - used < 100_000
