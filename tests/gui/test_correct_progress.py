"""Between *Correct* and its labels: told at once, in words, and taken back by Cancel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from window_steps import WAIT_MS, click

from napari_multiphase.jobs.client import Client

pytestmark = [pytest.mark.gui, pytest.mark.timeout(600)]
SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def opened(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    """(session, correct dock) with the sample's venous scan open."""
    from napari_multiphase.gui import workbench
    from napari_multiphase.gui.correct_dock import CorrectDock
    from napari_multiphase.gui.session import get_session

    monkeypatch.setattr(workbench, "_WARM_MS", 3_600_000)
    viewer = make_napari_viewer(show=True)
    dock = CorrectDock(viewer)
    viewer.window.add_dock_widget(dock, name="Correct (Multiphase)", area="right")
    workbench.bring_forward(dock)
    session, topics = get_session(viewer), []
    session.bridge.changed.connect(topics.append)
    scan = tmp_path / "venous.nii.gz"
    scan.write_bytes((SAMPLE / scan.name).read_bytes())
    session.open_paths([scan])
    qtbot.waitUntil(lambda: "shown" in topics and "recalled" in topics, timeout=WAIT_MS)
    yield session, dock
    session.close()


@pytest.fixture
def gate(opened, monkeypatch):
    """Requests wait for it, as on a computer that is busy with other things."""
    opening, deliver = threading.Event(), Client._deliver
    monkeypatch.setattr(Client, "_deliver", lambda *request: opening.wait(60) and deliver(*request))
    yield opening
    opening.set()


def test_correct_says_at_once_what_it_prepares_and_can_be_cancelled(opened, gate, qtbot, tmp_path):
    session, dock = opened
    annotating = session.annotating
    click(qtbot, dock.begin)
    assert dock.preparing.isVisible() and dock.preparing.text.text() == "Preparing the venous labels"
    assert not dock.begin.isEnabled() and dock.begin.toolTip() == "Preparing the venous labels..."
    token = annotating._asked
    click(qtbot, dock.preparing.cancel)
    assert not dock.preparing.isVisible() and dock.begin.isEnabled()
    late = {"fresh": True, "file": "", "confidence": None}
    annotating._made(token, session.study.fused_phase, late, None)
    assert annotating._autosave is None and not dock.preparing.isVisible()

    gate.set()
    home = annotating.folder
    (tmp_path / "file").write_text("no folder")
    annotating._folder = tmp_path / "file" / "study"
    click(qtbot, dock.begin)
    qtbot.waitUntil(dock.error.isVisible, timeout=WAIT_MS)
    assert not dock.preparing.isVisible() and dock.begin.isEnabled() and annotating.layer is None

    annotating._folder = home
    click(qtbot, dock.begin)
    assert dock.preparing.isVisible() and dock.preparing.cancel.isEnabled() and not dock.error.isVisible()
    qtbot.waitUntil(lambda: annotating.layer is not None, timeout=WAIT_MS)
    assert not dock.preparing.isVisible() and not dock.error.isVisible()
