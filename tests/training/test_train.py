"""Whole, tiny training runs: what they leave behind, that they learn, stop, go on exactly, and refuse in words."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_runs import TINY, tiny_run

from napari_multiphase.config import method_config
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.io.models import read_model
from napari_multiphase.methods import METHODS
from napari_multiphase.training import train as training
from napari_multiphase.training.loop import Loop, Means
from napari_multiphase.training.plan import plan_training
from napari_multiphase.training.record import read_metrics
from napari_multiphase.training.train import check_start, resume, train


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
    assert not (tmp_path / "wrong").exists()


def test_what_does_not_fit_a_model_is_named_before_the_data_are_prepared(finished):
    model = read_model(finished("pcn")[0] / "model")
    wider = TINY["pcn"]["method_config"] | {"segmentor": {"widths": [6, 8]}}
    named = r"another network than this run's \(segmentor.widths \[4, 8\], not \[6, 8\]\); .*--from"
    with pytest.raises(UserError, match=named):
        check_start(model, tiny_run("pcn", method_config=wider))
    with pytest.raises(UserError, match="is a pcn model, and this run trains hpn"):
        check_start(model, tiny_run("hpn"))
    assert "window_hu" in check_start(model, tiny_run("pcn", window_hu=(-100, 300)))[0]
    assert not check_start(model, tiny_run("pcn"))


def test_a_plan_from_a_model_fits_it(finished):
    folder = finished("pcn")[0] / "model"
    run = plan_training("phantoms", "pcn", "smoke", start_from=str(folder)).run
    assert not check_start(read_model(folder), run)
    config, own = (method_config("pcn", c) for c in (run.method_config, read_model(folder).card.config))
    assert run.start_from == str(folder) and config.optimiser.lr == pytest.approx(0.1 * own.optimiser.lr)
    with pytest.raises(UserError, match="give --method pcn"):
        plan_training("phantoms", "hpn", "smoke", start_from=str(folder))


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


def stopped(folder, looks=8, **changes):
    """A run that stopped with checkpoints of steps 3 and more."""
    with pytest.raises(Cancelled):
        train(tiny_run("pcn", **changes), folder, processes=1, cancel=StopAfter(looks))
    assert "not finished" in (folder / "report.html").read_text()
    return folder


def test_lost_checkpoints_are_refused_and_the_curves_stay(finished, tmp_path):
    folder = stopped(tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(UserError, match=r"no checkpoint is left of a run that reached step \d.*remove metrics\.csv"):
        resume(folder, processes=1)
    assert (folder / "metrics.csv").read_bytes() == before
    (folder / "metrics.csv").unlink()
    events: list[Event] = []
    resume(folder, processes=1, on_event=events.append)
    assert any("begins again at step 0" in event.message for event in events if event.kind == "warning")
    assert_same_run(finished("pcn")[0], folder)


def test_a_damaged_checkpoint_is_told_and_the_one_before_gives_the_same_run(finished, tmp_path):
    folder = stopped(tmp_path / "run")
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    (newest / "state.safetensors").write_bytes(b"torn")
    resume(folder, processes=1)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    text = f"damaged at step {int(newest.name)}; the run goes on from step"
    assert any(text in event["message"] for event in events if event["kind"] == "warning")
    assert_same_run(finished("pcn")[0], folder)


def test_a_lost_list_of_cases_is_told_and_a_damaged_one_refused(finished, tmp_path):
    folder = stopped(tmp_path / "run")
    (folder / "data.json").write_text("[")
    with pytest.raises(UserError, match=r"data\.json is damaged; put it back, or remove it"):
        resume(folder, processes=1)
    (folder / "data.json").unlink()
    events: list[Event] = []
    resume(folder, processes=1, on_event=events.append)
    assert any("data.json is gone" in event.message for event in events if event.kind == "warning")
    assert_same_run(finished("pcn")[0], folder)


def test_a_folder_whose_configuration_is_lost_is_not_trained_in(tmp_path):
    folder = stopped(tmp_path / "run")
    (folder / "run.yaml").unlink()
    with pytest.raises(UserError, match=r"checkpoints of a run whose run\.yaml is gone"):
        train(tiny_run("pcn"), folder, processes=1)
    assert not (folder / "run.yaml").exists() and any((folder / "checkpoints").iterdir())


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
    assert "failed: the loss" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(("spoilt_at", "what"), [(2, "a weight"), (1, "the loss")])
def test_a_checkpoint_with_what_is_no_number_is_never_written(tmp_path, monkeypatch, spoilt_at, what):
    real = Loop._move

    def spoil(self, stage, mover, step, batches):
        real(self, stage, mover, step, batches)
        if step == spoilt_at:
            next(iter(mover.parameters.values())).data.fill_(float("nan"))

    monkeypatch.setattr(Loop, "_move", spoil)
    run = tiny_run("pcn", validation={"every": 100})
    with pytest.raises(UserError, match=f"{what}.* no longer a number at step 3 of stage shared"):
        train(run, tmp_path / "run", processes=1)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_look_that_was_cut_short_is_taken_again(finished, tmp_path, monkeypatch, method):
    """Killed within the look of step 5, when its figures are half written; stopped within the last one."""
    whole, _ = finished(method)
    folder, cancel = tmp_path / "run", Cancel()
    real = training.validate

    def killed(*args):
        real(*args)
        (folder / "metrics.csv").open("a").write("5,shared,valid")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_run(method, checkpoint_every=100), folder, processes=1)
    assert [int(path.name) for path in (folder / "checkpoints").iterdir()] == [5]

    def late(*args):
        cancel.set()
        return real(*args)

    monkeypatch.setattr(training, "validate", late)
    with pytest.raises(Cancelled):
        resume(folder, processes=1, cancel=cancel)
    monkeypatch.setattr(training, "validate", real)
    resume(folder, processes=1)
    assert_same_run(whole, folder)


def test_a_stop_does_not_wait_for_a_look(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "validate", lambda *_: pytest.fail("looked"))
    cancel = Cancel()
    real = training.save_checkpoint

    def save(folder, step, checkpoint):
        cancel.set()
        return real(folder, step, checkpoint)

    monkeypatch.setattr(training, "save_checkpoint", save)
    with pytest.raises(Cancelled):
        train(tiny_run("pcn", checkpoint_every=4), tmp_path / "run", processes=1, cancel=cancel)


def test_accumulated_micro_batches_are_the_same_step(finished, tmp_path):
    """The segmentors normalise per item, and sums of losses are per micro-batch: equal up to the Dice's grouping."""
    train(tiny_run("pcn", accumulate=2), tmp_path / "run", processes=1)
    whole, _ = finished("pcn")
    one, other = (
        [row.value for row in read_metrics(f) if row.name == "cross_entropy"] for f in (whole, tmp_path / "run")
    )
    assert np.allclose(one, other, rtol=2e-2)


def test_a_turn_may_sit_out_steps_and_its_losses_are_means_of_its_own_moves(tmp_path, monkeypatch):
    moves: list[tuple[str, str, int]] = []
    real = Loop._move

    def note(self, stage, mover, step, batches):
        moves.append((stage.name, mover.turn.name, step))
        real(self, stage, mover, step, batches)

    monkeypatch.setattr(Loop, "_move", note)
    train(tiny_run("csgan"), tmp_path / "run", processes=1)  # discriminator_moves: 2
    joint = [(turn, step) for stage, turn, step in moves if stage == "joint"]
    both, alone = ("generators", "discriminators", "segmentors"), ("discriminators",)
    assert joint == [(turn, step) for step in range(4) for turn in (alone if step % 2 else both)]


def test_running_means_are_over_each_terms_own_micro_batches():
    class One:
        count = 1

        def total(self, values):
            return values

    means = Means()
    means.add({"often": torch.tensor(1.0), "seldom": torch.tensor(5.0)})
    means.add({"often": torch.tensor(3.0)})
    assert means.take(One()) == {"often": 2.0, "seldom": 5.0}
    assert means.take(One()) == {}
