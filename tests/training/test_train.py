"""Whole, tiny training runs: what they leave behind, that they learn, stop, go on exactly, and refuse in words."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_runs import TINY, tiny_run

from napari_multiphase.config.files import read_run
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.methods import METHODS
from napari_multiphase.training import train as training
from napari_multiphase.training.record import read_metrics
from napari_multiphase.training.train import resume, train


class StopAfter(Cancel):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0

    def check(self) -> None:
        """Preparing cases is never interrupted here."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run of each method, made when it is asked for."""
    done = {}

    def of(method: str):
        if method not in done:
            folder, events = tmp_path_factory.mktemp(method) / "run", []
            train(tiny_run(method), folder, processes=1, on_event=events.append)
            done[method] = folder, events
        return done[method]

    return of


def assert_same_run(one, other):
    """Bit for bit: weights, optimisers, duals, pools, place, curves."""
    for name in ("metrics.csv", "model/weights.safetensors", "split.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = (sorted((run / "checkpoints").iterdir())[-1] for run in (one, other))
    assert a.name == b.name
    assert (a / "state.safetensors").read_bytes() == (b / "state.safetensors").read_bytes()
    assert json.loads((a / "checkpoint.json").read_text()) == json.loads((b / "checkpoint.json").read_text())


def test_every_method_has_a_tiny_run():
    assert set(TINY) == set(METHODS)


def test_the_run_folder_explains_itself(finished):
    folder, events = finished("pcn")
    run = read_run(folder / "run.yaml")
    assert run.method_config["segmentor"]["widths"] == [4, 8] and run.method_config["phase_lr_factor"] == 0.4
    split = json.loads((folder / "split.json").read_text())
    assert len(split["train"]) == 2 and len(split["validation"]) == 1
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert len(lines) == len(events) and lines[-1]["kind"] == "done" and "machine" in lines[0]["data"]
    rows = read_metrics(folder)
    assert list(dict.fromkeys(row.stage for row in rows)) == ["shared", "arterial", "venous"]
    assert {row.name for row in rows if row.split == "train"} == {"cross_entropy", "dice"}
    assert {"dice liver", "dice mean"} <= {row.name for row in rows if row.split == "validation"}
    assert "<svg" in (folder / "report.html").read_text()
    assert list((folder / "previews").glob("*.png"))


def test_a_run_learns(tmp_path):
    config = TINY["pcn"]["method_config"] | {"shared_steps": 60, "phase_steps": 0}
    config["optimiser"] = {"kind": "adamw", "lr": 1e-2}
    train(tiny_run("pcn", method_config=config, batch=1, validation={"every": 60}), tmp_path / "run", processes=1)
    losses = [row.value for row in read_metrics(tmp_path / "run") if row.name == "cross_entropy"]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_goes_on_exactly(finished, tmp_path, method):
    whole, _ = finished(method)
    steps = read_metrics(whole)[-1].step
    for trial, stop in enumerate(sorted(random.Random(method).sample(range(1, steps), 2))):
        folder = tmp_path / str(trial)
        with pytest.raises(Cancelled):
            train(tiny_run(method), folder, processes=1, cancel=StopAfter(stop))
        assert not (folder / "model").exists()
        resume(folder, processes=1)
        assert_same_run(whole, folder)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(finished, tmp_path, method):
    whole, _ = finished(method)
    train(tiny_run(method, seed=1), tmp_path / "other", processes=1)
    one, other = (load_file(folder / "model" / "weights.safetensors") for folder in (whole, tmp_path / "other"))
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_finished_run_is_left_as_it_is(finished):
    folder, _ = finished("pcn")
    before = (folder / "metrics.csv").stat().st_mtime_ns
    events: list[Event] = []
    assert resume(folder, on_event=events.append).card.name == "tiny"
    assert "finished" in events[-1].message and (folder / "metrics.csv").stat().st_mtime_ns == before


def test_fine_tuning_starts_from_the_model(finished, tmp_path):
    folder, _ = finished("pcn")
    none = TINY["pcn"]["method_config"] | {"shared_steps": 0, "phase_steps": 1}
    none["optimiser"] = {"kind": "sgd", "lr": 1e-9}
    run = tiny_run("pcn", method_config=none, start_from=str(folder / "model"), seed=5)
    train(run, tmp_path / "run", processes=1)
    one, other = (load_file(f / "model" / "weights.safetensors") for f in (folder, tmp_path / "run"))
    assert all(np.allclose(one[name], other[name], atol=1e-3) for name in one)
    wrong = tiny_run("pcn", labels=(0, 2, 18), start_from=str(folder / "model"))
    with pytest.raises(UserError, match="other labels"):
        train(wrong, tmp_path / "wrong", processes=1)


def test_a_folder_that_holds_a_run_is_not_overwritten(finished):
    folder, _ = finished("pcn")
    with pytest.raises(UserError, match="--resume"):
        train(tiny_run("pcn"), folder, processes=1)


def test_resuming_with_other_data_is_refused(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Cancelled):
        train(tiny_run("pcn"), folder, processes=1, cancel=StopAfter(4))
    known = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(dict.fromkeys(known, "0" * 8)))
    with pytest.raises(UserError, match="not what it was"):
        resume(folder, processes=1)
    with pytest.raises(UserError, match="holds no run"):
        resume(tmp_path / "nothing")


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(finished, tmp_path, monkeypatch):
    whole, _ = finished("pcn")
    real, refused, events = training.save_checkpoint, [], []

    def full(folder, step, checkpoint):
        if step in (6, 9):
            refused.append(step)
            raise UserError("cannot write it: the disk is full")
        return real(folder, step, checkpoint)

    monkeypatch.setattr(training, "save_checkpoint", full)
    train(tiny_run("pcn"), tmp_path / "run", processes=1, on_event=events.append)
    assert refused and any("no checkpoint at step 6" in e.message for e in events if e.kind == "warning")
    assert_same_run(whole, tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run_in_words(tmp_path):
    config = TINY["pcn"]["method_config"] | {"optimiser": {"kind": "sgd", "lr": 1e18}}
    events: list[Event] = []
    run = tiny_run("pcn", method_config=config, validation={"every": 100})
    with pytest.raises(UserError, match="lower learning rate"):
        train(run, tmp_path / "run", processes=1, on_event=events.append)
    assert events[-1].kind == "failed"


def test_accumulated_micro_batches_are_the_same_step(finished, tmp_path):
    """The segmentors normalise per item, and sums of losses are per micro-batch: equal up to the Dice's grouping."""
    train(tiny_run("pcn", accumulate=2), tmp_path / "run", processes=1)
    whole, _ = finished("pcn")
    one, other = (
        [row.value for row in read_metrics(f) if row.name == "cross_entropy"] for f in (whole, tmp_path / "run")
    )
    assert np.allclose(one, other, rtol=2e-2)
