"""The Train dock in a real window, by its buttons: a form becomes a run, a run becomes a model."""

from __future__ import annotations

import os
import signal
import sys
import zipfile
from pathlib import Path

import pytest
from window_steps import click

from napari_multiphase.config.files import read_run
from napari_multiphase.jobs import training

pytestmark = [pytest.mark.gui, pytest.mark.timeout(1800)]
WAIT_MS = 300_000
"""A process that starts torch, in a process that starts torch, beside others: seconds alone, minutes in a crowd."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """Where cases are prepared, once for all tests."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def dock(prepared, data_folder, workbench, qtbot):
    """The Train dock in front, its form filled."""
    from napari_multiphase.gui.workbench import bring_forward, open_workbench

    if sys.platform != "win32":
        data_folder.mkdir(exist_ok=True)
        (data_folder / "training-cache").symlink_to(prepared, target_is_directory=True)
    made = open_workbench(workbench[0])["Train"]
    bring_forward(made)
    qtbot.waitUntil(lambda: made.setup.form.method.count() > 0, timeout=WAIT_MS)
    yield made
    for folder in training.list_runs():
        for known in training._known(folder):
            if training._lives(known):
                os.kill(known["pid"], signal.SIGTERM)


def wait_for(qtbot, dock, *states):
    qtbot.waitUntil(lambda: dock.now is not None and dock.now.state in states, timeout=WAIT_MS)


def begin(qtbot, dock, **fields):
    """Fill the form and press Start; the folder of the run."""
    dock.setup.form.choose(**fields)
    click(qtbot, dock.start)
    qtbot.waitUntil(lambda: dock.feed.folder is not None or dock.error.isVisible(), timeout=WAIT_MS)
    assert not dock.error.isVisible(), dock.error.sentence.text()
    return dock.feed.folder


def test_an_empty_form_says_what_to_do(dock, qtbot):
    assert dock.setup.hint.isVisible() and "press Start training" in dock.setup.hint.text()
    assert [source.title for source in dock.setup.cases.checked()] == ["Phantoms (try it)"]
    assert dock.start.isEnabled() and not dock.view.isVisible()
    dock.setup.cases.check("", on=False)
    assert not dock.start.isEnabled() and dock.start.toolTip() == "Check what to learn from first"
    dock.setup.cases.check("")
    dock.setup.form.choose(name="PCN-phantom")
    assert "already: give this one another name" in dock.start.toolTip()
    dock.setup.form.choose(name=" ")
    assert dock.start.toolTip() == "Give the model a name first"
    dock.setup.form.choose(name="x", start_from="hpn-phantom")
    assert dock.setup.form.method.currentData() == "hpn" and not dock.setup.form.method.isEnabled()
    assert "is a hpn model" in dock.setup.form.method.toolTip()
    assert not dock.setup.form.unreviewed.isVisible(), "of phantoms everything is known"
    assert dock.width() <= 360
    assert dock.scroll_area.widget().width() <= dock.scroll_area.viewport().width()


def test_from_the_form_to_a_model_that_is_used(workbench, dock, qtbot, tmp_path, monkeypatch):
    from qtpy.QtGui import QGuiApplication
    from qtpy.QtWidgets import QFileDialog

    _viewer, _study_dock, segment_dock, session = workbench
    chosen = {"method": "pcn", "preset": "smoke", "length": "steps", "amount": 8, "seed": 5, "name": "mine"}
    dock.setup.form.choose(start_from="", **chosen)
    click(qtbot, dock.check)
    qtbot.waitUntil(lambda: dock.setup.findings.isVisible() or dock.error.isVisible(), timeout=WAIT_MS)
    assert "4 cases read, none of them with a fault." in dock.setup.findings.text()
    assert "8 steps" in dock.setup.estimate.text() and "Held out (1):</b> phantom-1003" in dock.setup.estimate.text()

    folder = begin(qtbot, dock)
    assert not dock.setup.isVisible() and dock.view.isVisible()
    wait_for(qtbot, dock, "finished", "failed", "lost")
    assert dock.now.state == "finished", dock.now.cause + dock.now.log

    run, printed = read_run(folder / "run.yaml"), (folder / "trainer.log").read_text()
    assert dock.setup.form.values() | {"start_from": "", **chosen} == dock.setup.form.values()
    assert (run.method, run.seed, run.name, run.start_from) == ("pcn", 5, "mine", None)
    assert run.spacing_mm == (8, 6, 6) and run.data.cases == 4, "of the preset"
    assert "training 'mine': pcn from scratch, on 4 phantoms, seed 5" in printed
    assert sum(int(line.split(": ")[1].split()[0]) for line in printed.splitlines() if "stage " in line) == 8
    assert "phantom-1003 is held out" in printed and dock.now.step == 8

    view = dock.view
    assert view.losses.isVisible() and view.dice.isVisible() and view.dice.plot.lines[0].dashed
    assert view.pictures.isVisible() and "Held out (1):</b> phantom-1003" in view.split.text()
    steps = [step for step, _ in dock.now.dice["mean"]]
    before, after = dock.now.dice["mean"][0][1], dock.now.dice["mean"][-1][1]
    assert view.changes.rows["mean"] == (f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}") and steps[-1] == 8
    assert list(view.changes.rows)[-1] == "mean" and "liver" in view.changes.rows

    click(qtbot, dock.copy)
    assert training.command_text(folder) in QGuiApplication.clipboard().text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(tmp_path / "mine"), ""))
    click(qtbot, dock.uses.export)
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    assert not dock.error.isVisible(), dock.error.sentence.text()
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert {"model.json", "weights.safetensors", "checksums.json"} <= set(archive.namelist())
    click(qtbot, dock.uses.use)
    picker = segment_dock.picker
    qtbot.waitUntil(lambda: picker.chooser.count() and picker.chooser.itemText(0) == "mine", timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.model is not None and session.model.card.name == "mine", timeout=WAIT_MS)
    assert session.model.folder.parent.name == "models" and picker.chooser.currentText() == "mine"
    from napari_multiphase.io.models import default_model

    assert default_model().name != "mine", "the bundled default stays the default otherwise"


def test_stop_resume_close_reopen_and_a_kill(workbench, dock, qtbot):
    from napari_multiphase.gui.train_dock import TrainDock

    folder = begin(qtbot, dock, start_from="", method="pcn", preset="smoke", length="steps", amount=4000, name="long")
    wait_for(qtbot, dock, "training", "failed", "lost")
    assert dock.stop.isVisible() and not dock.resume.isVisible()
    click(qtbot, dock.stop)
    qtbot.waitUntil(lambda: dock.now.stopping or dock.now.state == "stopped", timeout=WAIT_MS)
    wait_for(qtbot, dock, "stopped", "failed", "lost")
    assert dock.now.state == "stopped" and dock.resume.isVisible() and not dock.stop.isVisible()
    qtbot.waitUntil(lambda: not training.is_alive(folder), timeout=WAIT_MS)
    click(qtbot, dock.resume)
    wait_for(qtbot, dock, "training", "failed", "lost")
    assert dock.now.state == "training", dock.now.cause

    again = TrainDock(workbench[0])  # what a window that is opened anew makes
    qtbot.addWidget(again)
    again.show()
    qtbot.waitUntil(lambda: again.now is not None and again.now.working, timeout=WAIT_MS)
    assert again.feed.folder == folder and again.run.currentText() == "long" and again.stop.isVisible()
    if sys.platform == "win32":
        return
    known = next(iter(training._known(folder)))
    os.kill(known["pid"], signal.SIGKILL)
    qtbot.waitUntil(again.error.isVisible, timeout=WAIT_MS)
    assert "ended by SIGKILL" in again.error.sentence.text() and "Resume" in again.error.sentence.text()
    click(qtbot, again.error.details)
    assert "training 'long'" in again.error.log.toPlainText()
    assert again.resume.isVisible()


def test_a_data_set_that_cannot_be_used_says_why(dock, qtbot, tmp_path):
    path = Path(tmp_path) / "cases.yaml"
    path.write_text("cases: []\n")
    dock.setup.cases.add_data(path)
    qtbot.waitUntil(lambda: [s.title for s in dock.setup.cases.checked()] == ["cases"], timeout=WAIT_MS)
    click(qtbot, dock.check)
    qtbot.waitUntil(dock.error.isVisible, timeout=WAIT_MS)
    assert "cases.yaml" in dock.error.sentence.text()
    path.unlink()
    click(qtbot, dock.setup.cases.again)
    qtbot.waitUntil(lambda: not dock.start.isEnabled(), timeout=WAIT_MS)
    assert "not there any more" in dock.start.toolTip()
