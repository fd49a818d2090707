"""``multiphase train`` and ``export``: what they accept, how they stop, how a person goes on."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from napari_multiphase.cli.watch import LINES_EVERY_S, left_words, watch
from napari_multiphase.errors import Cancelled
from napari_multiphase.events import Event
from napari_multiphase.io.models import read_model

TINY = """
name: tiny
method_config: {segmentor: {widths: [4, 8]}, shared_steps: 60, phase_steps: 2}
labels: [0, 1, 18]
spacing_mm: [8, 8, 8]
patch_vox: [16, 24, 24]
data: {kind: phantom, cases: 2, case_vox: [48, 48, 48]}
validation: {every: 1000, cases: 1}
checkpoint_every: 10
threads: 1
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def trained(monkeypatch, model):
    """Calls of the trainer, which does nothing here."""
    import napari_multiphase.training.train as module

    calls = []

    def begin(run, folder, *, processes, on_event, cancel):
        on_event(Event("started", "stage shared: 60 steps"))
        on_event(Event("metric", "held-out cases: mean Dice 0.5", data={"validation": True}))
        calls.append((run, folder))
        return read_model(model)

    def go_on(folder, *, processes, on_event, cancel):
        calls.append((None, folder))
        return read_model(model)

    monkeypatch.setattr(module, "train", begin)
    monkeypatch.setattr(module, "resume", go_on)
    return calls


def test_the_run_folder_is_named_after_the_run(run, config, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("train", config)
    assert result.exit_code == 0, result.output
    assert trained[0][1].as_posix() == "runs/tiny"
    assert "report.html" in result.stdout and "held-out cases" in result.stderr
    run("train", config, "--seed", "7", "--name", "tiny s/7")
    assert trained[1][1].as_posix() == "runs/tiny-s-7"
    assert trained[1][0].seed == 7 and trained[1][0].name == "tiny s/7"


def test_a_model_to_start_from_is_found_before_anything_runs(run, config, trained, model, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert run("train", config, "--out", tmp_path / "r", "--from", model.name).exit_code == 0
    assert trained[0][0].start_from == str(model)
    wrong = run("train", config, "--out", tmp_path / "r", "--from", "nobody")
    assert wrong.exit_code == 2 and "there is no model 'nobody'" in wrong.stderr
    assert len(trained) == 1


def test_resume_takes_a_folder_alone(run, config, trained, tmp_path):
    assert run("train", "--resume", tmp_path).exit_code == 0
    assert trained == [(None, tmp_path)]
    for more in ([config], ["--out", tmp_path], ["--seed", "1"], ["--from", "x"], ["--name", "x"]):
        wrong = run("train", "--resume", tmp_path, *more)
        assert wrong.exit_code == 2 and "give it alone" in wrong.stderr
    assert "RUN.YAML" in run("train").stderr


def test_only_the_first_of_several_processes_speaks(run, config, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = run("train", config, "--out", tmp_path / "r")
    assert result.exit_code == 0 and result.output == ""


@pytest.mark.parametrize("error", [Cancelled(), RuntimeError("a worker was interrupted")])
def test_a_stopped_run_is_no_failure(run, config, tmp_path, monkeypatch, error):
    import napari_multiphase.training.train as module

    def begin(run, folder, *, processes, on_event, cancel):
        cancel.set()
        raise error

    monkeypatch.setattr(module, "train", begin)
    result = run("train", config, "--out", tmp_path / "r")
    assert result.exit_code == 130
    assert "nothing was written" not in result.output


def test_stopping_at_once_says_what_is_there(run, config, tmp_path, monkeypatch):
    import napari_multiphase.training.train as module

    folder = tmp_path / "r"

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", interrupted)
    nothing = run("train", config, "--out", folder)
    assert nothing.exit_code == 130 and "nothing was written" in nothing.stderr
    folder.mkdir()
    (folder / "run.yaml").write_text("")
    monkeypatch.setattr(module, "resume", interrupted)
    for args in ((config, "--out", folder), ("--resume", folder)):
        stopped = run("train", *args)
        assert stopped.exit_code == 130 and "nothing was written" not in stopped.output
        assert f"--resume {folder}` goes on from the last checkpoint" in stopped.stderr


def test_cases_are_prepared_without_a_run(run, config, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    result = run("train", config, "--prepare", "--processes", "1", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    cache = tmp_path / "data" / "training-cache"
    assert f"2 cases are prepared in {cache}" in result.stdout and len(list(cache.iterdir())) == 2
    assert not trained and not (tmp_path / "r").exists()
    assert "give it alone" in run("train", "--resume", tmp_path, "--prepare").stderr


def test_export_never_takes_the_place_of_something_else(run, model, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "run.yaml").write_text("")
    unfinished = run("export", run_dir, tmp_path / "m")
    assert unfinished.exit_code == 2 and f"--resume {run_dir}" in unfinished.stderr
    (run_dir / "model").symlink_to(model)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    refused = run("export", run_dir, mine)
    assert refused.exit_code == 2 and "holds other files" in refused.stderr
    assert (mine / "thesis.txt").read_text() == "x"
    for _ in range(2):
        assert run("export", run_dir, tmp_path / "m").exit_code == 0
    assert read_model(tmp_path / "m").card == read_model(model).card


def test_ctrl_c_stops_after_the_step_and_the_run_goes_on(run, config, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "napari_multiphase", "train", str(config), "--out", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        for line in ran.stderr:
            if "stage shared" in line:
                ran.send_signal(signal.SIGINT)
                break
        rest = ran.stderr.read()
    assert ran.returncode == 130, rest
    assert "stopping after this step" in rest and f"--resume {folder}" in rest and "Traceback" not in rest
    assert not (folder / "model").exists()
    done = run("train", "--resume", folder)
    assert done.exit_code == 0, done.output
    assert read_model(folder / "model").card.name == "tiny"
    kinds = [json.loads(line)["kind"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert kinds.count("done") == 1 and "failed" not in kinds


# --- what a person sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, ""), (40, "about 40 s left"), (600, "about 10 min left"), (9000, "about 2.5 h left")]
)
def test_time_left_in_words(seconds, words):
    assert left_words(seconds) == words


def test_a_log_gets_losses_now_and_then_and_the_rest_always(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("napari_multiphase.cli.watch.time.monotonic", lambda: now[0])
    with watch() as on_event:
        for step in range(4):
            on_event(Event("metric", f"loss {step}", step / 4, 60.0, {"step": step}))
            now[0] += LINES_EVERY_S / 2
        on_event(Event("metric", "held-out", data={"validation": True}))
        on_event(Event("warning", "careful"))
        on_event(Event("failed", "told by the error"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  0% loss 0, about 60 s left", " 50% loss 2, about 60 s left", "held-out", "warning: careful"]


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    with watch() as on_event:
        on_event(Event("started", "stage shared: 60 steps"))
        on_event(Event("metric", "shared 5 of 60: [loss] 1.0", 0.5, 30.0, {"step": 5}))
        on_event(Event("warning", "[careful]"))
    text = terminal.getvalue()
    assert "stage shared" in text and "warning: [careful]" in text and "[loss]" in text and "50%" in text
