"""Correcting in the window: what is painted is saved by itself, comes back, and is never written over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from window_steps import WAIT_MS, click, open_sample, segment

from napari_multiphase.volume import Phase

pytestmark = pytest.mark.gui
SAVED_MS = 5000
"""The promise of the issue."""


def begin(qtbot, session, phase=Phase.VENOUS) -> None:
    session.annotating.begin(phase)
    qtbot.waitUntil(lambda: session.annotating.layer is not None, timeout=WAIT_MS)


def wait_saved(qtbot, session, revision: int) -> None:
    annotating = session.annotating
    qtbot.waitUntil(
        lambda: annotating.save_state.kind == "saved" and annotating._autosave._annotation.revision > revision,
        timeout=SAVED_MS,
    )


def revision(session) -> int:
    return session.annotating._autosave._annotation.revision


def paint(session, at=(30, 60, 60), label=6) -> None:
    layer = session.annotating.layer
    session.viewer.dims.set_point(range(3), layer.data_to_world(at))
    layer.brush_size, layer.preserve_labels = 9, False  # the Correct dock keeps other structures unless told otherwise
    with layer.block_history():
        for step in range(4):
            layer.paint((at[0], at[1], at[2] + 3 * step), label)


def kept(session, phase=Phase.VENOUS):
    from napari_multiphase.studies import Annotation, Workspace

    with Annotation.open(Workspace.open(session.annotating.folder).annotation_file(phase)) as found:
        return found.labels(), found.reviewed(), found.states


@pytest.fixture
def opened(workbench, qtbot):
    _, study_dock, _, session = workbench
    open_sample(qtbot, study_dock, session)
    qtbot.waitUntil(lambda: session.annotating.folder is not None, timeout=WAIT_MS)
    return workbench


def test_strokes_tools_undo_and_states_are_saved_within_5_s(opened, qtbot):
    session = opened[3]
    annotating = session.annotating
    assert annotating.saved == ""
    begin(qtbot, session)
    layer, before = annotating.layer, revision(session)
    assert layer.editable and layer.visible and annotating.saved.startswith("Saved")
    assert not np.shares_memory(layer.data, session.study.volumes[Phase.VENOUS].data)

    paint(session)  # napari's brush
    assert annotating.saved == "Not yet saved"
    wait_saved(qtbot, session, before)
    labels, reviewed, states = kept(session)
    assert np.array_equal(labels, layer.data) and (labels == 6).sum() > 50
    assert np.array_equal(reviewed, labels == 6) and states[6] == "corrected"
    qtbot.waitUntil(lambda: annotating.states.get(6) == "corrected")

    before = revision(session)  # a tool, a mark, a state
    box = (slice(10, 14), slice(20, 40), slice(20, 40))
    annotating.apply(box, np.full((4, 20, 20), 3, np.uint8), "grow")
    annotating.mark_reviewed((slice(0, 1), slice(0, 5), slice(0, 5)), np.ones((1, 5, 5), bool))
    annotating.set_state(3, "complete")
    wait_saved(qtbot, session, before)
    labels, reviewed, states = kept(session)
    assert (labels[box] == 3).all() and reviewed[box].all() and reviewed[0, :5, :5].all() and states[3] == "complete"

    before = revision(session)  # Ctrl+Z three times: the mark, the tool, the stroke
    for _ in range(3):
        annotating.undo()
    wait_saved(qtbot, session, before)
    labels, reviewed, _ = kept(session)
    assert not labels.any() and not reviewed.any()

    before = revision(session)  # napari's fill, and the redo of nothing
    layer.fill((5, 5, 5), 2)
    wait_saved(qtbot, session, before)
    assert np.array_equal(kept(session)[0], layer.data) and (layer.data[5] == 2).all()

    before = revision(session)  # someone's script
    layer.data[20, 3:9, 3:9] = 12
    layer.refresh()
    wait_saved(qtbot, session, before)
    labels, reviewed, _ = kept(session)
    assert (labels[20, 3:9, 3:9] == 12).all() and reviewed[20, 3:9, 3:9].all()


def test_after_reopening_everything_is_there(opened, qtbot):
    viewer, _, segment_dock, session = opened
    segment(qtbot, segment_dock, session)
    predicted = np.array(session.run.prediction.phases[Phase.VENOUS].labels)
    from napari_multiphase.studies import Workspace

    folder = session.annotating.folder
    qtbot.waitUntil(lambda: bool(Workspace.open(folder).predictions), timeout=WAIT_MS)
    begin(qtbot, session)
    annotating = session.annotating
    assert np.array_equal(annotating.layer.data, predicted)
    assert annotating.confidence is not None and annotating.model == "tiny"
    assert set(annotating.states.values()) <= {"predicted"}
    before = revision(session)
    paint(session, label=21)
    wait_saved(qtbot, session, before)
    mine = annotating.layer.data.copy()

    segment(qtbot, segment_dock, session)  # a new prediction leaves the annotation alone; a snapshot was taken before
    assert np.array_equal(annotating.layer.data, mine) and annotating.layer in viewer.layers
    from napari_multiphase.studies.snapshots import snapshots

    path = annotating._autosave.path
    qtbot.waitUntil(lambda: [kept.name for kept in snapshots(path)] == ["segment"], timeout=WAIT_MS)
    qtbot.waitUntil(lambda: len(Workspace.open(folder).predictions) == 2, timeout=WAIT_MS)
    transform = session.study.transform.venous_to_arterial_mm
    session.close()

    from napari_multiphase.gui.session import Session

    again = Session(viewer)  # as after a new start
    try:
        for layer in list(viewer.layers):
            viewer.layers.remove(layer)
        again.open_paths([folder])
        qtbot.waitUntil(lambda: again.annotating.layer is not None and again.run is not None, timeout=WAIT_MS)
        assert np.array_equal(again.annotating.layer.data, mine)
        assert (
            again.annotating.states[21] == "corrected" and again.annotating.reviewed.sum() == (mine != predicted).sum()
        )
        assert np.array_equal(again.study.transform.venous_to_arterial_mm, transform)
        assert np.array_equal(again.run.prediction.phases[Phase.VENOUS].labels, predicted)
        assert again.annotating.confidence is not None
        qtbot.wait(1500)
        assert len(Workspace.open(folder).predictions) == 2  # what comes back is not kept twice
    finally:
        again.close()


def test_a_failed_save_is_loud_and_is_tried_again(opened, qtbot):
    from napari_multiphase.gui.saved_state import SavedState

    session = opened[3]
    begin(qtbot, session)
    shown = SavedState(session)
    qtbot.addWidget(shown)
    shown.show()
    errors = []
    session.bridge.failed.connect(lambda task, words, log: errors.append(words))
    connection = session.annotating._autosave._annotation._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite calls a full disk
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 24, (32, 64, 64)).astype(np.uint8)
    session.annotating.apply((slice(0, 32), slice(0, 64), slice(0, 64)), noise, "noise")
    qtbot.waitUntil(lambda: session.annotating.save_state.kind == "failed", timeout=SAVED_MS)
    assert "the disk is full" in session.annotating.saved and session.annotating.saved.startswith("NOT SAVED")
    qtbot.waitUntil(lambda: shown.text.text().startswith("NOT SAVED") and "bold" in shown.text.styleSheet())
    assert len(errors) == 1 and "corrections are not saved" in errors[0]
    connection.execute("PRAGMA max_page_count = 1000000")
    qtbot.waitUntil(lambda: session.annotating.save_state.kind == "saved", timeout=8000)
    assert np.array_equal(kept(session)[0], session.annotating.layer.data)
    qtbot.waitUntil(lambda: shown.text.text().startswith("Saved"))


def test_a_last_save_that_fails_is_tried_until_it_is_done(opened, qtbot):
    from napari_multiphase.studies import Annotation

    viewer, session = opened[0], opened[3]
    annotating = session.annotating
    begin(qtbot, session)
    errors = []
    session.bridge.failed.connect(lambda task, words, log: errors.append(words))
    autosave, layer = annotating._autosave, annotating.layer
    connection = autosave._annotation._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    noise = np.random.default_rng(0).integers(0, 24, (32, 64, 64)).astype(np.uint8)
    annotating.apply((slice(0, 32), slice(0, 64), slice(0, 64)), noise, "noise")
    wanted = layer.data.copy()
    annotating.end()
    qtbot.waitUntil(lambda: layer.name.startswith("NOT SAVED"), timeout=SAVED_MS)
    qtbot.wait(4000)  # it is tried again, and told once
    assert len(errors) == 1 and "not saved" in errors[0] and autosave.is_alive() and layer in viewer.layers
    connection.execute("PRAGMA max_page_count = 1000000")
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=8000)
    autosave.join(5)
    with Annotation.open(autosave.path, write=False) as again:
        assert np.array_equal(again.labels(), wanted)


def test_correct_waits_until_it_is_known_where_the_study_keeps_its_labels(opened, qtbot):
    session = opened[3]
    annotating = session.annotating
    qtbot.waitUntil(lambda: annotating.folder is not None, timeout=WAIT_MS)
    home = annotating.folder
    session.bridge.changed.emit("study")
    annotating.begin(session.study.fused_phase)
    assert annotating._asked is None and annotating.preparing, "the answer is not there yet"
    qtbot.waitUntil(lambda: annotating.layer is not None, timeout=WAIT_MS)
    assert annotating.folder == home and home in annotating._autosave.path.parents


OTHER = """
import sys, time
from pathlib import Path
import numpy as np
from napari_multiphase.studies.annotation import Annotation
made = Annotation.open(Path(sys.argv[1]), write=True)
labels, reviewed = made.labels(), made.reviewed()
labels[7] = 5
made.save(labels, reviewed)
print("held", flush=True)
time.sleep(300)
"""


def test_a_second_window_looks_and_a_killed_one_gives_way(opened, qtbot):
    session = opened[3]
    begin(qtbot, session)
    path = session.annotating._autosave.path
    session.annotating.end()
    qtbot.waitUntil(lambda: not path.with_name(path.name + "-wal").exists(), timeout=SAVED_MS)
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    try:
        errors = []
        session.bridge.failed.connect(lambda task, words, log: errors.append(words))
        begin(qtbot, session)
        assert (session.annotating.layer.data[7] == 5).all()
        assert not session.annotating.layer.editable and "another window" in session.annotating.saved
        assert f"process {other.pid}" in errors[0]
        session.annotating.apply((slice(0, 1),) * 3, np.ones((1, 1, 1), np.uint8), "nothing happens")
        assert not session.annotating.layer.data[0, 0, 0]
        session.annotating.end()
        assert session.annotating.layer is None
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    begin(qtbot, session)
    assert session.annotating.layer.editable and (session.annotating.layer.data[7] == 5).all()


def test_a_damaged_file_offers_its_last_snapshot(opened, qtbot):
    from napari_multiphase.gui.saved_state import SavedState

    session = opened[3]
    shown = SavedState(session)
    qtbot.addWidget(shown)
    shown.show()
    begin(qtbot, session)
    before = revision(session)
    paint(session)
    wait_saved(qtbot, session, before)
    mine, path = session.annotating.layer.data.copy(), session.annotating._autosave.path
    session.annotating.snapshot("train")
    qtbot.waitUntil(lambda: len(list(path.parent.glob("snapshots/*.sqlite"))) == 1, timeout=SAVED_MS)
    session.annotating.end()
    qtbot.waitUntil(lambda: not path.with_name(path.name + "-wal").exists(), timeout=SAVED_MS)
    path.write_bytes(path.read_bytes()[:5000])
    session.annotating.begin(Phase.VENOUS)
    qtbot.waitUntil(lambda: session.annotating.damaged is not None, timeout=WAIT_MS)
    assert "damaged" in shown.text.text()
    click(qtbot, shown.recover)
    qtbot.waitUntil(lambda: session.annotating.layer is not None, timeout=WAIT_MS)
    assert np.array_equal(session.annotating.layer.data, mine)


def test_strokes_stay_with_their_study(opened, qtbot, tmp_path: Path):
    """Another study is opened in the middle of a stroke: what was painted lies in the first one's file."""
    viewer, _, _, session = opened
    begin(qtbot, session)
    paint(session)
    mine, folder = session.annotating.layer.data.copy(), session.annotating.folder
    session.swap()
    qtbot.waitUntil(lambda: session.annotating.folder not in (None, folder), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not [one for one in viewer.layers if "annotation" in one.name], timeout=SAVED_MS)
    from napari_multiphase.studies import Annotation, Workspace

    with Annotation.open(Workspace.open(folder).annotation_file(Phase.VENOUS), write=True) as found:
        assert np.array_equal(found.labels(), mine)


def test_the_case_list_shows_states_and_opens(opened, qtbot):
    _, study_dock, segment_dock, session = opened
    cases = study_dock.cases
    segment(qtbot, segment_dock, session)
    begin(qtbot, session)
    from napari_multiphase.gui.workbench import bring_forward

    bring_forward(study_dock)
    cases.fold.setChecked(True)
    qtbot.waitUntil(lambda: [row["state"] for row in cases.rows] == ["predicted"], timeout=WAIT_MS)
    assert cases.rows[0]["title"] == "sample" and 0 < cases.rows[0]["uncertainty"] < 1
    paint(session)
    qtbot.waitUntil(lambda: [row["state"] for row in cases.rows] == ["corrected"], timeout=WAIT_MS)
    first = session.study
    cases.open_row(0)
    qtbot.waitUntil(lambda: session.study is not first and session.study is not None, timeout=WAIT_MS)
    assert session.study.id == first.id and session.title == "sample"


def test_the_next_case_is_the_most_uncertain_that_is_not_complete():
    from napari_multiphase.gui.case_list import next_case

    row = {"problem": "", "state": "predicted"}
    rows = [
        {**row, "id": "a", "uncertainty": 0.1},
        {**row, "id": "b", "uncertainty": 0.4},
        {**row, "id": "c", "uncertainty": None},
        {**row, "id": "d", "uncertainty": 0.3, "state": "complete"},
        {**row, "id": "e", "uncertainty": 0.9, "problem": "gone"},
    ]
    order = [next_case(rows, current)["id"] for current in ("", "b", "a", "c", "e")]
    assert order == ["b", "a", "c", "b", "b"]
    assert next_case(rows[:1], "a") is None
    assert next_case([{**row, "id": "a", "uncertainty": 0.1, "state": "complete"}], "") is None
