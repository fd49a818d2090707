"""Records survive kills, full disks and lost files; a resumed run's curves equal an uninterrupted one's."""

import os
import sys
from types import ModuleType

import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.training import record
from napari_multiphase.training.record import Recorder, Row, read_events, read_metrics


def fill(recorder: Recorder, first: int, last: int) -> None:
    for step in range(first, last + 1):
        recorder.metrics("train", "shared", step, {"dice": 1 / step, "cross, entropy": float(step)})
    recorder.metrics("validation", "shared", last, {"Dice liver": 0.1 + 0.2})


def test_what_is_written_is_read_back(tmp_path):
    fill(Recorder(tmp_path), 1, 3)
    rows = read_metrics(tmp_path)
    assert rows[0] == Row(1, "shared", "train", "dice", 1.0)
    assert rows[3] == Row(2, "shared", "train", "cross, entropy", 2.0)
    assert rows[-1].value == 0.1 + 0.2
    assert (tmp_path / "metrics.csv").read_text().startswith("step,stage,split,name,value\n1,shared,train,dice,1.0\n")


def test_not_a_number_is_read_back(tmp_path):
    Recorder(tmp_path).metrics("train", "s", 1, {"a": float("nan"), "b": float("-inf")})
    a, b = read_metrics(tmp_path)
    assert a.value != a.value and b.value == float("-inf")


@pytest.mark.parametrize("torn", [b"", b"9,shared,tra"])
def test_a_resumed_run_has_the_file_of_an_uninterrupted_one(tmp_path, torn):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    uninterrupted = Recorder(whole)
    fill(uninterrupted, 1, 4)
    fill(uninterrupted, 5, 8)
    first = Recorder(killed)
    fill(first, 1, 4)
    position = first.position()
    fill(first, 5, 6)
    with (killed / "metrics.csv").open("ab") as handle:
        handle.write(torn)
    again = Recorder(killed)
    again.rewind(position)
    assert again.position() == position
    fill(again, 5, 8)
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_torn_line_is_dropped_without_a_rewind_too(tmp_path):
    fill(Recorder(tmp_path), 1, 2)
    good = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(good + b"3,sha")
    assert len(read_metrics(tmp_path)) == 5
    Recorder(tmp_path).metrics("train", "shared", 3, {"dice": 0.5})
    assert (tmp_path / "metrics.csv").read_bytes() == good + b"3,shared,train,dice,0.5\n"


def test_starting_over_leaves_no_old_row(tmp_path):
    fill(Recorder(tmp_path), 1, 2)
    fresh = Recorder(tmp_path)
    fresh.rewind({"metrics_bytes": 0})
    assert fresh.position() == {"metrics_bytes": 0}
    fresh.metrics("train", "shared", 1, {"dice": 0.5})
    assert read_metrics(tmp_path) == [Row(1, "shared", "train", "dice", 0.5)]


def test_a_file_shorter_than_the_checkpoint_says_is_refused_in_words(tmp_path):
    recorder = Recorder(tmp_path)
    fill(recorder, 1, 4)
    position = recorder.position()
    os.truncate(tmp_path / "metrics.csv", 40)
    with pytest.raises(UserError, match=r"metrics\.csv has 40 bytes where the checkpoint counts \d+.*remove it"):
        Recorder(tmp_path).rewind(position)
    (tmp_path / "metrics.csv").unlink()
    warnings: list[Event] = []
    again = Recorder(tmp_path, warnings.append)
    again.rewind(position)
    assert [e.kind for e in warnings] == ["warning"] and "is gone" in warnings[0].message
    again.metrics("train", "shared", 5, {"dice": 0.5})
    assert read_metrics(tmp_path) == [Row(5, "shared", "train", "dice", 0.5)]


def test_events_are_read_back_and_a_torn_line_is_left_out(tmp_path):
    Recorder(tmp_path).tell(Event("started", "one"))
    with (tmp_path / "events.jsonl").open("ab") as handle:
        handle.write(b'{"kind":"prog')
    Recorder(tmp_path).tell(Event("done", "two"))
    assert [e.message for e in read_events(tmp_path)] == ["one", "two"]


def test_a_refusing_disk_is_reported_once_and_the_rows_come_later(tmp_path, monkeypatch):
    warnings: list[Event] = []
    recorder = Recorder(tmp_path, warnings.append)
    recorder.metrics("train", "shared", 1, {"dice": 1.0})
    write = record._write

    def full(handle, block):
        handle.write(block[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "_write", full)
    for step in (2, 3):
        recorder.metrics("train", "shared", step, {"dice": 1.0})
        recorder.tell(Event("progress"))
    assert [e.message.split(" ")[0] for e in warnings] == ["metrics.csv", "events.jsonl"]
    assert "no space left on device" in warnings[0].message
    before = recorder.position()
    assert (tmp_path / "metrics.csv").stat().st_size == before["metrics_bytes"]
    monkeypatch.setattr(record, "_write", write)
    recorder.metrics("train", "shared", 4, {"dice": 1.0})
    assert [row.step for row in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_folder_that_went_away_does_not_end_the_run(tmp_path):
    warnings: list[Event] = []
    recorder = Recorder(tmp_path / "gone", warnings.append)
    recorder.metrics("train", "shared", 1, {"dice": 1.0})
    recorder.tell(Event("progress"))
    assert recorder.position() == {"metrics_bytes": 0}
    assert len(warnings) == 2


def test_a_report_that_cannot_be_written_ends_nothing(tmp_path):
    warnings: list[Event] = []
    recorder = Recorder(tmp_path, warnings.append)
    for error in (OSError(30, "Read-only file system"), UserError("cannot write: the disk is full")):
        for _ in range(2):
            recorder.attempt(type(error).__name__, lambda error=error: (_ for _ in ()).throw(error))
    assert len(warnings) == 2
    assert "read-only file system" in warnings[0].message and "the disk is full" in warnings[1].message
    with pytest.raises(ZeroDivisionError):
        recorder.attempt("x", lambda: 1 / 0)


def test_a_file_removed_during_the_run_is_reported_and_begun_anew(tmp_path):
    warnings: list[Event] = []
    recorder = Recorder(tmp_path, warnings.append)
    fill(recorder, 1, 2)
    (tmp_path / "metrics.csv").unlink()
    recorder.metrics("train", "shared", 3, {"dice": 1.0})
    recorder.metrics("train", "shared", 4, {"dice": 1.0})
    assert [row.step for row in read_metrics(tmp_path)] == [3, 4]
    assert len(warnings) == 1 and "shortened" in warnings[0].message


def test_a_damaged_line_is_named(tmp_path):
    fill(Recorder(tmp_path), 1, 1)
    with (tmp_path / "metrics.csv").open("a") as handle:
        handle.write("x,y\n")
    with pytest.raises(UserError, match="line 5 is damaged"):
        read_metrics(tmp_path)


def test_a_tensorboard_that_does_not_work_is_told_once_and_left(tmp_path, monkeypatch):
    tries = []

    def broken(*_args, **_options):
        tries.append(1)
        raise TypeError("Descriptors cannot be created directly")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = broken
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(record, "find_spec", lambda name: name == "tensorboard")
    warnings: list[Event] = []
    recorder = Recorder(tmp_path, warnings.append)
    fill(recorder, 1, 3)
    assert len(tries) == 1 and len(read_metrics(tmp_path)) == 7
    assert len(warnings) == 1
    assert "tensorboard of this run cannot be written (TypeError: Descriptors" in warnings[0].message


def test_tensorboard_gets_the_points_where_it_is_installed(tmp_path, monkeypatch):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            made.append((folder, purge_step, self))
            self.points = []

        def add_scalar(self, name, value, step):
            self.points.append((name, value, step))

        def flush(self):
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(record, "find_spec", lambda name: name == "tensorboard")
    Recorder(tmp_path).metrics("train", "shared", 7, {"dice": 0.5})
    again = Recorder(tmp_path)
    again.rewind(again.position())
    again.metrics("validation", "shared", 8, {"dice": 0.25})
    assert [purge for _, purge, _ in made] == [None, 8]
    assert made[0][0] == str(tmp_path / "tensorboard")
    assert made[1][2].points == [("shared/dice (validation)", 0.25, 8)]
