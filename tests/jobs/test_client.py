"""The client against a real child process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from napari_multiphase.field import DenseField
from napari_multiphase.jobs import Client
from napari_multiphase.jobs.priority import NICE
from napari_multiphase.jobs.protocol import MAX_LINE_BYTES, URGENT
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Grid, Phase, Volume

WAIT_S = 30.0


def _run(client, task, params=None, **options):
    handle = client.submit(task, params, **options)
    assert handle.wait(WAIT_S), f"{task} did not end"
    return handle


def _until(condition, seconds=WAIT_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_progress_arrives_in_order_and_ends_with_done(client):
    events = []
    handle = _run(client, "count", {"steps": 5}, study_id="case", revision=7, on_event=events.append)
    _until(lambda: events and events[-1].kind == "done")
    assert [e.kind for e in events] == ["started", *["progress"] * 5, "done"]
    assert [e.message for e in events[1:-1]] == [f"step {i}" for i in range(5)]
    assert [e.fraction for e in events[1:-1]] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert (handle.result, handle.error, handle.study_id, handle.revision) == (5, None, "case", 7)


def test_soft_cancel_keeps_the_process(client):
    before = _run(client, "pid").result
    events = []
    handle = client.submit("count", {"steps": 1000, "pause_s": 0.02}, on_event=events.append)
    _until(lambda: len(events) > 2)
    asked = time.monotonic()
    handle.cancel()
    assert handle.wait(WAIT_S)
    assert time.monotonic() - asked < 0.5
    assert handle.cancelled
    assert handle.result is None
    assert _run(client, "pid").result == before


def test_hard_cancel_ends_a_deaf_job_and_the_next_one_runs(client):
    before = _run(client, "pid").result
    handle = client.submit("stubborn")
    _until(lambda: handle.running)
    behind = client.submit("pid")
    asked = time.monotonic()
    handle.cancel()
    assert handle.wait(WAIT_S)
    assert time.monotonic() - asked < client.grace_s + 1.0
    assert handle.cancelled
    assert behind.wait(WAIT_S)
    assert behind.error is None
    assert behind.result != before


def test_a_waiting_job_is_cancelled_at_once_and_the_running_one_goes_on(client):
    first = client.submit("count", {"steps": 60, "pause_s": 0.02})
    second = client.submit("count", {"steps": 1})
    _until(lambda: first.running)
    second.cancel()
    assert second.wait(0.5)
    assert second.cancelled
    assert first.wait(WAIT_S)
    assert first.result == 60


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "out of memory"), (signal.SIGSEGV, "crashed inside")])
def test_a_crash_is_told_in_words_and_costs_one_job(client, number, words):
    dead = client.submit("die", {"number": int(number)})
    behind = client.submit("count", {"steps": 2})
    assert dead.wait(WAIT_S)
    assert behind.wait(WAIT_S)
    assert dead.error.kind == "Crashed"
    assert words in dead.error.sentence
    assert "nothing was changed" in dead.error.sentence
    assert behind.result == 2


def test_a_child_that_cannot_start_says_so_and_is_not_tried_for_ever(tmp_path):
    with Client(tmp_path, tasks="there_is_no_such_module") as client:
        handle = _run(client, "count")
        assert handle.error.kind == "NotStarted"
        assert "there_is_no_such_module" in handle.error.sentence
        assert "doctor" in handle.error.sentence


def test_what_libraries_print_does_not_reach_the_protocol(client):
    assert _run(client, "noisy").result == "clean"


def test_errors_carry_class_sentence_and_log(client):
    user = _run(client, "user_error").error
    assert (user.kind, user.sentence) == ("UserError", "the file is not an image: choose another")
    defect = _run(client, "defect").error
    assert defect.kind == "ZeroDivisionError"
    assert "ZeroDivisionError" in defect.sentence
    assert "fake_tasks.py" in defect.details
    unknown = _run(client, "no_such_task").error
    assert "no_such_task" in unknown.sentence
    assert "count" in unknown.sentence


def test_too_much_memory_is_told_in_words(client):
    assert "not enough memory" in _run(client, "hoard").error.sentence


def test_arrays_cross_as_maps_and_maps_are_not_copied(client):
    array = np.arange(64 * 64 * 4, dtype=np.int16).reshape(4, 64, 64)
    handle = _run(client, "times_two", {"array": array})
    result = handle.result
    assert result["writeable"] is False
    np.testing.assert_array_equal(result["whole"], 2 * array)
    np.testing.assert_array_equal(result["part"], 2 * array[1:3])
    assert not result["whole"].flags.writeable
    assert sorted(p.name for p in client.session.folder(handle.id).rglob("*.npy")) == ["twice.npy"]
    again = _run(client, "times_two", {"array": result["part"]})  # a slice of a map: by its true place in the file
    np.testing.assert_array_equal(again.result["whole"], 4 * array[1:3])


def test_leases_go_with_the_handle_and_the_session(client):
    handle = _run(client, "echo", {"value": np.zeros((20, 20, 20), np.float32)})
    folder = client.session.folder(handle.id)
    assert list(folder.rglob("*.npy"))
    handle.release()
    _until(lambda: not folder.exists())
    root = client.session.root
    client.close()
    gc.collect()
    assert not root.exists()


def test_a_crashed_job_leaves_no_files(client):
    handle = _run(client, "die")
    _until(lambda: not client.session.folder(handle.id).exists())


def test_objects_cross_whole(client):
    data = np.arange(20 * 30 * 40, dtype=np.int16).reshape(20, 30, 40)
    volume = Volume.from_array(data, (3.0, 1.5, 1.5), (-10.0, 20.0, 30.0))
    transform = PhaseTransform(np.eye(4) + 0.5, "rigid", {"mean": 1.5})
    field = DenseField(np.arange(3 * 9 * 10 * 11, dtype=np.float32).reshape(9, 10, 11, 3), Grid((9, 10, 11), (3, 3, 3)))
    transform = replace(transform, to_arterial=field, to_venous=field)
    study = Study("case", {Phase.ARTERIAL: volume, Phase.VENOUS: volume}, transform=transform)
    back = _run(client, "echo", {"value": study}).result
    assert isinstance(back, Study)
    assert back.phases == (Phase.ARTERIAL, Phase.VENOUS)
    np.testing.assert_array_equal(back.volumes[Phase.VENOUS].data, data)
    assert back.volumes[Phase.ARTERIAL].grid == volume.grid
    assert back.transform.quality == {"mean": 1.5}
    np.testing.assert_array_equal(back.transform.venous_to_arterial_mm, np.eye(4) + 0.5)
    np.testing.assert_array_equal(back.transform.into(Phase.VENOUS).displacement_mm, field.displacement_mm)
    assert back.transform.into(Phase.ARTERIAL).grid == field.grid


def test_a_body_longer_than_a_line_crosses(client):
    length = 3 * MAX_LINE_BYTES
    assert _run(client, "long_answer", {"characters": length}).result == "x" * length
    assert _run(client, "echo", {"value": "y" * length}).result == "y" * length


def test_a_preview_carries_its_array(client):
    seen = []
    _run(client, "preview_event", on_event=seen.append)
    _until(lambda: any(e.kind == "done" for e in seen))
    (preview,) = [e for e in seen if e.kind == "preview"]
    np.testing.assert_array_equal(preview.data["slice"], np.arange(10000))


def test_an_urgent_request_runs_between_the_steps_of_a_long_one(client):
    long = client.submit("count", {"steps": 200, "pause_s": 0.02})
    _until(lambda: long.running)
    urgent = client.submit("echo", {"value": 1}, priority=URGENT)
    assert urgent.wait(1.0)
    assert urgent.result == 1
    assert not long.done
    long.cancel()


def test_parser_jobs_run_beside_the_worker_each_in_a_process_of_its_own(client):
    busy = client.submit("stubborn", {"seconds": 20.0})
    pids = {_run(client, "pid", where="parser").result for _ in range(3)}
    assert len(pids) == 3
    assert not busy.done


@pytest.mark.skipif(sys.platform == "win32", reason="the scale of priorities of a POSIX system")
@pytest.mark.parametrize("where", ["worker", "parser"])
def test_what_computes_gives_way_to_the_window(client, where):
    pid = _run(client, "pid", where=where).result
    handle = client.submit("stubborn", {"seconds": 20.0}, where=where)
    _until(lambda: handle.running)
    child = client._children[handle.id]
    assert where == "parser" or child.pid == pid
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def test_the_next_parser_starts_once_what_the_last_one_read_was_drawn(client):
    _run(client, "pid", where="parser")
    ended = time.monotonic()
    assert client._spare is None
    _until(lambda: client._spare is not None)
    assert time.monotonic() - ended > 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_silent_process_counts_as_lost(client):
    _run(client, "pid")
    child = client._worker
    child._silence_s = 2.0  # set now: starting may take longer on a busy machine
    handle = client.submit("stubborn")
    _until(lambda: handle.running)
    child._process.send_signal(signal.SIGSTOP)
    assert handle.wait(WAIT_S)
    assert handle.error.kind == "Lost"
    assert "did not answer" in handle.error.sentence
    assert _run(client, "count").result == 3


def test_end_of_input_ends_the_child(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    command = [sys.executable, "-m", "napari_multiphase", "worker", "--folder", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert b'"ready"' in process.stdout.readline()
    process.stdin.close()
    assert process.wait(10.0) == 0
    process.stdout.close()


def test_submit_returns_at_once_even_with_a_large_array(client):
    _run(client, "pid")
    array = np.zeros((128, 512, 512), np.int16)
    asked = time.perf_counter()
    handle = client.submit("times_two", {"array": array})
    assert time.perf_counter() - asked < 0.02
    assert handle.wait(WAIT_S)
    assert handle.error is None


def test_the_client_loads_neither_torch_nor_qt():
    heavy = ("torch", "qtpy", "napari", "pydantic", "SimpleITK")
    code = f"import sys, napari_multiphase.jobs; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
