"""The main job in a real window, by its buttons."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from window_steps import WAIT_MS, click, open_sample, segment

from napari_multiphase.volume import Phase

pytestmark = pytest.mark.gui


@pytest.mark.timeout(900)
def test_the_main_job(workbench, qtbot, tmp_path):
    """Open the sample, segment, mix the phases, hide and find structures, save."""
    viewer, study_dock, segment_dock, session = workbench
    assert not segment_dock.segment.isEnabled()
    assert segment_dock.segment.toolTip() == "Open a study first"

    open_sample(qtbot, study_dock, session)
    assert study_dock.choosers["arterial"].currentText() == "arterial.nii.gz"
    assert len(study_dock.scan_list.cards) == 2
    assert study_dock.findings.rows
    assert [layer.name for layer in viewer.layers] == ["sample arterial", "sample venous"]
    venous = viewer.layers["sample venous"]
    grid = session.study.volumes["venous"].grid
    np.testing.assert_allclose(venous.scale, grid.spacing_mm)
    np.testing.assert_allclose(venous.translate, grid.origin_mm)
    assert {str(unit) for unit in venous.units} == {"millimeter"}
    assert venous.visible
    overlays = {name.split("_")[1]: o for name, o in viewer.canvas.overlays.items() if name.startswith("multiphase")}
    marks = {name: overlay.text for name, overlay in overlays.items() if overlay.text}
    assert marks == {"left": "R", "right": "L", "top": "A", "bottom": "P"}

    assert session.unregistered
    segment(qtbot, segment_dock, session)
    assert session.study.transform.method == "rigid", "a pair nobody registered is registered first"
    assert any("rigid" in note for note in session.run.prediction.notes)
    names = [layer.name for layer in viewer.layers]
    assert names[2:] == [
        "sample arterial labels", "sample arterial confidence", "sample venous labels", "sample venous confidence",
        "sample fused labels", "sample fused confidence",
    ]  # fmt: skip
    fused = viewer.layers["sample fused labels"]
    assert fused.visible
    assert not viewer.layers["sample venous labels"].visible
    assert fused.data.dtype == np.uint8
    assert segment_dock.table.rowCount() > 0

    _the_slider(qtbot, viewer, segment_dock, session)
    _the_table(qtbot, viewer, segment_dock, session)
    _the_status_bar(viewer, session)
    _saving(qtbot, segment_dock, session, tmp_path / "out")

    segment(qtbot, segment_dock, session)
    assert names == [layer.name for layer in viewer.layers][: len(names)], "nothing is replaced"
    assert not fused.visible, "older results are hidden"
    assert viewer.layers["sample fused labels (2)"].visible


def _the_slider(qtbot, viewer, segment_dock, session) -> None:
    slider = segment_dock.slider.slider
    fused = viewer.layers["sample fused labels"]
    z = int(viewer.dims.current_step[0])
    before = np.array(fused.data[z])
    began = time.perf_counter()
    slider.setValue(100)
    elapsed_ms = 1000 * (time.perf_counter() - began)
    arterial_alone = np.array(fused.data[z])
    print(f"slice fused and shown in {elapsed_ms:.1f} ms")
    assert (before != arterial_alone).any()
    qtbot.waitUntil(lambda: session.run.prediction.phase_weight == 1.0, timeout=WAIT_MS)
    np.testing.assert_array_equal(viewer.layers["sample fused labels"].data[z], arterial_alone)
    assert elapsed_ms < 100


def _the_table(qtbot, viewer, segment_dock, session) -> None:
    from qtpy.QtCore import Qt

    table, fused = segment_dock.table, viewer.layers["sample fused labels"]
    line = table.rowCount() - 1
    label = table._rows[line].label
    qtbot.waitUntil(lambda: _centre_is_right(session, label), timeout=WAIT_MS)
    table.cellClicked.emit(line, 1)
    at = tuple(viewer.dims.current_step)
    assert (fused.data[at[0]] == label).any(), "the slice shown after a click holds the structure"
    table.item(line, 0).setCheckState(Qt.CheckState.Unchecked)
    assert session.hidden == {label}
    assert fused.colormap.map(np.array([label]))[0, 3] == 0
    table.item(line, 0).setCheckState(Qt.CheckState.Checked)
    assert fused.colormap.map(np.array([label]))[0, 3] > 0


def _centre_is_right(session, label: int) -> bool:
    centre = session.run.centres.get(str(label))
    return centre is not None and session.run.prediction.fused_labels[centre] == label


def _the_status_bar(viewer, session) -> None:
    from napari_multiphase.gui.readout import read_at

    grid = session.study.volumes["venous"].grid
    index = tuple(n // 2 for n in grid.shape)
    point = tuple(o + i * s for o, i, s in zip(grid.origin_mm, index, grid.spacing_mm, strict=True))
    text = read_at(session, point)
    assert f"venous {session.study.volumes['venous'].data[index]:.0f} HU" in text
    assert "arterial" in text
    viewer.cursor.position = point
    viewer.status = "sample venous"
    assert viewer.status == f"sample venous  |  {text}"


def _saving(qtbot, segment_dock, session, out: Path) -> None:
    out.mkdir()
    segment_dock.save_into(out)
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    written = nib.load(out / "fused_labels.nii.gz")
    source = nib.load(session.study.volumes["venous"].source.path)
    assert written.shape == source.shape
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    assert (out / "report.json").is_file()


def test_a_registration_is_kept_for_the_next_time(workbench, qtbot):
    _viewer, study_dock, _segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    box = study_dock.register
    assert box.method.currentText() == "Deformable" and not box.keep.isVisible() and not box.undo.isVisible()
    click(qtbot, box.register)
    qtbot.waitUntil(lambda: not session.unregistered and session.job is None, timeout=WAIT_MS)
    assert session.study.transform.method == "mind" and "not kept yet" in box.state.text()
    rows = study_dock.figures.rows
    assert study_dock.figures.isVisible() and rows["Folded"] == ("0.00%",)
    assert float(rows["Correlation"][1]) > float(rows["Correlation"][0])
    kept = Path(os.environ["MULTIPHASE_DATA_DIR"], "studies", session.study.id, "study.json")
    assert not kept.exists()
    click(qtbot, box.keep)
    qtbot.waitUntil(kept.is_file, timeout=WAIT_MS)
    assert not box.keep.isVisible() and "not kept" not in box.state.text()
    point = np.array([[-40.0, -10.0, 30.0]])
    there, revision = session.study.transform.map(point, Phase.ARTERIAL), session.revision
    qtbot.waitUntil(lambda: '"dense": true' in kept.read_text(), timeout=WAIT_MS)
    session.open_paths(session.inputs)
    qtbot.waitUntil(lambda: session.revision > revision, timeout=WAIT_MS)
    np.testing.assert_allclose(session.study.transform.map(point, Phase.ARTERIAL), there)
    assert not box.keep.isVisible() and study_dock.figures.isVisible()


def test_a_registration_can_be_undone_and_results_follow_it(workbench, qtbot):
    _viewer, study_dock, segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    from napari_multiphase.gui.workbench import bring_forward

    bring_forward(segment_dock)
    click(qtbot, segment_dock.segment)
    qtbot.waitUntil(lambda: session.run is not None and session.job is None, timeout=WAIT_MS)
    rigid, fused = session.study.transform, session.run.prediction.fused_labels
    assert rigid.method == "rigid"
    bring_forward(study_dock)
    click(qtbot, study_dock.register.register)
    qtbot.waitUntil(lambda: session.study.transform is not rigid and session.job is None, timeout=WAIT_MS)
    assert len(study_dock.figures.rows["Structures overlap"]) == 2, "both phases have labels to compare"
    qtbot.waitUntil(lambda: session.run.prediction.fused_labels is not fused, timeout=WAIT_MS)
    assert any("deformable" in note for note in session.run.prediction.notes)
    assert session.run.prediction.report["transform"]["method"] == "mind"
    click(qtbot, study_dock.register.undo)
    assert session.study.transform is rigid and not study_dock.register.undo.isVisible()
    qtbot.waitUntil(lambda: session.run.prediction.report["transform"]["method"] == "rigid", timeout=WAIT_MS)
    np.testing.assert_array_equal(session.run.prediction.fused_labels, fused)


def test_what_is_no_scan_is_refused_in_one_sentence(workbench, qtbot, tmp_path):
    from napari.utils.notifications import notification_manager

    _viewer, study_dock, _segment_dock, session = workbench
    path = tmp_path / "note.nii.gz"
    path.write_text("not an image")
    session.open_paths([path])
    qtbot.waitUntil(study_dock.error.isVisible, timeout=WAIT_MS)
    sentence = study_dock.error.sentence.text()
    assert "note.nii.gz" in sentence
    assert "Traceback" not in sentence
    assert "defect" not in sentence
    assert any(sentence == n.message for n in notification_manager.records)
    assert session.study is None
    assert study_dock.open_sample.isVisible(), "the empty dock still says what to do"


def test_cancel_answers_within_a_second(workbench, qtbot):
    _viewer, study_dock, segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    from napari_multiphase.gui.workbench import bring_forward

    bring_forward(segment_dock)
    click(qtbot, segment_dock.segment)
    qtbot.waitUntil(lambda: "tile" in segment_dock.progress.text.text() or session.job is None, timeout=WAIT_MS)
    assert session.job is not None, "it was over before it could be cancelled"
    began = time.perf_counter()
    click(qtbot, segment_dock.progress.cancel)
    qtbot.waitUntil(lambda: session.job is None, timeout=10_000)
    elapsed_s = time.perf_counter() - began
    print(f"cancelled after {elapsed_s:.2f} s")
    assert elapsed_s < 1.0
    assert session.run is None
    assert segment_dock.segment.isEnabled()
    assert not segment_dock.error.isVisible(), "cancelling is not a failure"


def test_docks_fit_the_smallest_window(workbench, qtbot):
    """At most 360 px wide, nothing to scroll sideways, the main button in sight at 1280 x 800."""
    from napari_multiphase.gui.workbench import bring_forward

    viewer, study_dock, segment_dock, session = workbench
    viewer.window.resize(1280, 800)
    open_sample(qtbot, study_dock, session)
    for dock, main in ((study_dock, study_dock.register.register), (segment_dock, segment_dock.segment)):
        bring_forward(dock)
        qtbot.wait(100)
        assert dock.width() <= 360
        inner, view = dock.scroll_area.widget(), dock.scroll_area.viewport()
        assert inner.width() <= view.width()
        assert main.isVisible()
        bottom = main.mapTo(main.window(), main.rect().bottomLeft()).y()
        assert bottom <= 800


def test_swapped_roles_are_pointed_out_and_scans_are_not_doubled(workbench, qtbot):
    """Also with a Study dock that was closed and opened again."""
    from napari_multiphase.gui.workbench import open_workbench

    viewer, study_dock, _segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    viewer.window.remove_dock_widget(study_dock)
    study_dock = open_workbench(viewer)["Study"]
    assert study_dock.choosers["arterial"].currentText() == "arterial.nii.gz"
    revision = session.revision
    shown = []
    session.bridge.changed.connect(lambda topic: shown.append(topic) if topic == "shown" else None)
    click(qtbot, study_dock.swap)
    qtbot.waitUntil(lambda: bool(shown), timeout=WAIT_MS)
    assert session.revision == revision + 1
    assert study_dock.choosers["arterial"].currentText() == "venous.nii.gz"
    assert any("swapped" in finding.text for finding in session.study.findings)
    assert [layer.name for layer in viewer.layers] == ["sample arterial", "sample venous"]
