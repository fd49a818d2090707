"""The Correct dock in a real window, by its buttons, the mouse and the keys; the prediction is made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy import ndimage
from window_steps import WAIT_MS, click, drag

from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.study import PhasePrediction, PhaseTransform, Prediction
from napari_multiphase.volume import Phase

pytestmark = [pytest.mark.gui, pytest.mark.timeout(600)]

SURE, UNSURE, TIE = encode_confidence(np.array([800.0, 2.0, 1.1]))
LARGE, SMALL = (40, 60, 30), (20, 40, 70)


def ball(shape, centre, radius_vox: float) -> np.ndarray:
    z, y, x = ((np.arange(n) - c) ** 2 for n, c in zip(shape, centre, strict=True))
    return z[:, None, None] + y[None, :, None] + x[None, None, :] <= radius_vox**2


def prediction(study) -> Prediction:
    """A liver and a spleen, unsure in two places."""
    phases = {}
    for phase, volume in study.volumes.items():
        labels = np.where(ball(volume.shape, LARGE, 16), 1, 0).astype(np.uint8)
        labels[ball(volume.shape, SMALL, 9)] = 2
        labels[3:5, 3:6, 3:6] = 1  # an island
        confidence = np.full(volume.shape, SURE, np.uint8)
        confidence[ball(volume.shape, LARGE, 1.5)] = UNSURE
        confidence[ball(volume.shape, SMALL, 1)] = TIE
        phases[phase] = PhasePrediction(labels, confidence, None)
    venous = phases[Phase.VENOUS]
    grid = study.volumes[Phase.VENOUS].grid
    return Prediction(study.id, "by hand", phases, venous.labels, venous.confidence, grid, Phase.VENOUS)


@pytest.fixture
def window(make_napari_viewer, session_of, qtbot, monkeypatch) -> Iterator[tuple]:
    """(viewer, session, correct dock), nothing open yet."""
    from napari_multiphase.gui import workbench
    from napari_multiphase.gui.correct_dock import CorrectDock

    monkeypatch.setattr(workbench, "_WARM_MS", 3_600_000)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    session = session_of(viewer)
    dock = CorrectDock(viewer)
    viewer.window.add_dock_widget(dock, name="Correct (Multiphase)", area="right")
    workbench.bring_forward(dock)
    qtbot.wait(50)
    yield viewer, session, dock
    session.close()


def write_pair(folder: Path) -> Path:
    """The sample's scans alone, in a folder of the test's own."""
    for name in ("arterial.nii.gz", "venous.nii.gz"):
        source = Path(__file__).parents[2] / "sample_data" / name
        (folder / name).write_bytes(source.read_bytes())
    return folder


@pytest.fixture
def begun(window, qtbot, tmp_path) -> tuple:
    """The same with the sample open, a prediction there and *Correct* clicked."""
    _viewer, session, dock = window
    pair = tmp_path / "pair"
    pair.mkdir()
    shown = []
    session.bridge.changed.connect(lambda topic: shown.append(topic))
    session.open_paths([write_pair(pair)])
    qtbot.waitUntil(lambda: "shown" in shown and "recalled" in shown, timeout=WAIT_MS)
    session.study = session.study.with_transform(PhaseTransform.identity())
    assert "Segment first" in dock.empty.text()
    assert dock.go.isVisible()
    shown.clear()
    session.new_run(prediction(session.study), frozenset({"labels", "fused", "confidence"}))
    qtbot.waitUntil(lambda: "shown" in shown, timeout=WAIT_MS)
    assert not dock.go.isVisible()
    click(qtbot, dock.begin)
    qtbot.waitUntil(lambda: session.annotating.layer is not None, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: dock.correcting.regions is not None, timeout=WAIT_MS)
    return window


def press(viewer, key: str) -> None:
    """A key with the canvas in front."""
    viewer.window._qt_viewer._key_map_handler.press_key(key)


def world(session, voxel) -> tuple[float, float, float]:
    grid = session.annotating.grid
    return tuple(o + s * v for o, s, v in zip(grid.origin_mm, grid.spacing_mm, voxel, strict=True))


def pick(qtbot, box, index: int) -> None:
    """An entry of a combo box, by keys."""
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Home)
    for _ in range(index):
        qtbot.keyClick(box, Qt.Key.Key_Down)


def done(qtbot, session, change) -> None:
    """Click and wait for the worker."""
    change()
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    qtbot.wait(20)


def test_an_empty_dock_says_what_to_do_first(window, qtbot):
    viewer, _session, dock = window
    assert dock.empty.text() == "Open a study first: its labels are corrected here."
    assert not dock.begin.isEnabled()
    assert dock.begin.toolTip() == "Open a study first"
    assert not dock.working.isVisible() and not dock.tools.isVisible()
    click(qtbot, dock.go)
    assert viewer.window.dock_widgets["Study (Multiphase)"].isVisible()


def test_regions_keys_tools_and_undo(begun, qtbot):
    viewer, session, dock = begun
    annotating, correcting = session.annotating, dock.correcting
    layer, start = annotating.layer, annotating.layer.data.copy()
    assert dock.minimumSizeHint().width() <= 360 and dock.width() <= 360

    # --- the list: N, R, ticks
    assert [region.structure for region in correcting.regions] == [1, 2]
    assert dock.regions.rowCount() == 2
    assert not dock.reviewed.isEnabled() and dock.reviewed.toolTip() == "Go to a region with Next first"
    press(viewer, "N")
    assert correcting.at == 0
    assert viewer.dims.point[0] == pytest.approx(world(session, correcting.regions[0].centre)[0])
    assert ball(layer.data.shape, LARGE, 1.5)[correcting.regions[0].centre]
    assert layer.selected_label == correcting.structure == 1
    zoomed = viewer.scene.camera.zoom
    viewer.reset_view()
    assert zoomed > 1.2 * viewer.scene.camera.zoom
    press(viewer, "R")
    first = correcting.regions[0]
    assert first.reviewed and annotating.reviewed[first.box][first.mask].all()
    assert annotating.reviewed.sum() == first.mask.sum()
    assert dock.regions.item(0, 0).text().startswith("✓")
    assert correcting.at == 1 and correcting.structure == 2
    assert dock.listed.currentText() == "Uncertain: 1 of 2 left"
    click(qtbot, dock.undo)
    assert not first.reviewed and not annotating.reviewed.any()
    click(qtbot, dock.redo)
    assert first.reviewed

    # --- one structure's regions alone: list, Next and Reviewed keep to them
    assert [dock.listed.itemText(n) for n in (1, 2)] == ["liver: 0 left", "spleen: 1 left"]
    pick(qtbot, dock.listed, 2)
    assert dock.regions.rowCount() == 1 and dock.regions.item(0, 0).text() == "spleen"
    assert not dock.reviewed.isEnabled()
    press(viewer, "N")
    assert correcting.at == 0 and correcting.structure == 2 and dock.reviewed.isEnabled()
    pick(qtbot, dock.listed, 1)
    assert dock.regions.item(0, 0).text() == "✓ liver" and not dock.next.isEnabled()
    click(qtbot, dock.again)
    qtbot.waitUntil(lambda: correcting.found is not None, timeout=WAIT_MS)
    assert dock.listed.currentText() == "liver: 0 left" and dock.regions.rowCount() == 1
    pick(qtbot, dock.listed, 0)
    assert dock.regions.rowCount() == 2 and dock.next.isEnabled()

    # --- structures by key, by click and by napari's picker
    press(viewer, "6")
    assert correcting.structure == layer.selected_label == 6
    press(viewer, "T")
    assert correcting.structure == 21
    assert dock.structures.selectedItems()[0].text() == "liver tumour"
    layer.selected_label = 1
    assert correcting.structure == 1 and dock.chosen.text() == "Liver:"
    dock.state.setCurrentIndex(dock.state.findData("complete"))
    dock.state.activated.emit(dock.state.currentIndex())
    assert annotating.states[1] == "complete"
    assert dock.structures.item(0, 2).text() == "complete"

    # --- a stroke of napari's own brush, on the same stack
    viewer.dims.set_point(range(3), world(session, (40, 20, 20)))
    layer.mode, layer.brush_size = "paint", 5
    press(viewer, "3")
    drag(qtbot, viewer, [world(session, (40, 20, 20)), world(session, (40, 20, 30))])
    painted = layer.data == 3
    assert painted.sum() > 40 and painted[40, 20, 20:31].all() and set(np.argwhere(painted)[:, 0]) == {40}
    assert dock.undo.toolTip().startswith("Take back: paint")
    press(viewer, "Control-Z")
    np.testing.assert_array_equal(layer.data, start)
    press(viewer, "Control-Y")
    np.testing.assert_array_equal(layer.data == 3, painted)
    press(viewer, "Control-Z")

    # --- tools on the slice, and that neighbours stay
    press(viewer, "1")
    viewer.dims.set_point(range(3), world(session, LARGE))
    dock.tools.mm.setValue(4.0)
    click(qtbot, dock.tools.grow)
    grown = layer.data == 1
    assert grown[40].sum() > (start[40] == 1).sum()
    np.testing.assert_array_equal(np.delete(layer.data, 40, 0), np.delete(start, 40, 0))
    click(qtbot, dock.tools.shrink)
    click(qtbot, dock.undo)
    click(qtbot, dock.undo)
    np.testing.assert_array_equal(layer.data, start)

    # --- over the volume, in the worker
    click(qtbot, dock.tools.in_volume)
    done(qtbot, session, lambda: click(qtbot, dock.tools.largest))
    assert not layer.data[3:5, 3:6, 3:6].any()
    assert ((layer.data == 1) == ((start == 1) & ball(start.shape, LARGE, 16))).all()
    assert (layer.data == 2).sum() == (start == 2).sum()
    click(qtbot, dock.undo)
    dock.tools.smallest.setValue(2.0)
    done(qtbot, session, lambda: click(qtbot, dock.tools.islands))
    assert not layer.data[3:5, 3:6, 3:6].any()
    press(viewer, "2")
    assert correcting.structure == 2
    layer.data[15:25:1, 30:50, 60:80] = np.where(
        np.arange(15, 25)[:, None, None] % 3 == 0, layer.data[15:25, 30:50, 60:80], 0
    )
    gaps = [not (layer.data[z] == 2).any() for z in range(15, 25)]
    assert any(gaps)
    done(qtbot, session, lambda: click(qtbot, dock.tools.between))
    assert all((layer.data[z] == 2).any() for z in range(15, 25))
    overlap = (layer.data == 2) & (start == 2)
    assert 2 * overlap.sum() / ((layer.data == 2).sum() + (start == 2).sum()) > 0.95

    # --- taken from the prediction of the same phase, and of the other one through the registration
    texts = [dock.tools.source.itemText(i) for i in range(dock.tools.source.count())]
    assert texts[-1] == "arterial, as corrected" and any(t.startswith("venous, prediction") for t in texts)
    dock.tools.source.setCurrentIndex(next(i for i, t in enumerate(texts) if t.startswith("venous, prediction")))
    done(qtbot, session, lambda: click(qtbot, dock.tools.take))
    np.testing.assert_array_equal(layer.data == 2, start == 2)
    annotating.apply(tuple(slice(0, n) for n in start.shape), np.where(start == 2, 0, start).astype(np.uint8), "x")
    dock.tools.source.setCurrentIndex(next(i for i, t in enumerate(texts) if t.startswith("arterial, prediction")))
    done(qtbot, session, lambda: click(qtbot, dock.tools.take))
    assert (layer.data == 2).sum() > 0.8 * (start == 2).sum()
    dock.tools.source.setCurrentIndex(len(texts) - 1)
    done(qtbot, session, lambda: click(qtbot, dock.tools.take))
    assert dock.error.isVisible() and "othing was corrected in the arterial scan" in dock.error.sentence.text()

    # --- while a job runs its labels are changed: the answer is dropped, not put over it
    click(qtbot, dock.tools.in_volume)
    dock.tools.mm.setValue(3.0)
    click(qtbot, dock.tools.smooth)
    assert session.job is not None and not dock.tools.smooth.isEnabled()
    annotating.apply((slice(0, 1), slice(0, 3), slice(0, 3)), np.full((1, 3, 3), 7, np.uint8), "meanwhile")
    was = layer.data.copy()
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    qtbot.wait(20)
    np.testing.assert_array_equal(layer.data, was)
    while annotating.edits.undo() is not None:
        pass
    assert annotating.edits.can_redo and not dock.undo.isEnabled()


def test_hand_tools_on_the_canvas(begun, qtbot):
    viewer, session, dock = begun
    annotating, tools = session.annotating, dock.tools
    layer, hu = annotating.layer, annotating.volume.data
    layer.data[:] = 0
    click(qtbot, tools.in_slice)
    press(viewer, "6")
    mean = ndimage.uniform_filter(hu[30].astype(float), 5)
    spread = ndimage.uniform_filter((hu[30] - mean) ** 2, 5)
    near = (np.abs(hu[30] - mean) < 8) & (mean > 80) & (mean < 160)
    at = np.unravel_index(int(np.where(near, spread, np.inf).argmin()), near.shape)  # calm tissue
    seed = (30, int(at[0]), int(at[1]))
    viewer.dims.set_point(range(3), world(session, seed))
    click(qtbot, tools.hands["brush"])
    assert viewer.layers.selection.active is layer and not layer.mouse_pan
    tools.low.setValue(60)
    tools.high.setValue(200)
    tools.radius.setValue(9)
    drag(qtbot, viewer, [world(session, seed), world(session, (30, seed[1] + 1, seed[2] + 4))])
    painted = layer.data == 6
    assert painted.sum() > 5
    assert set(np.argwhere(painted)[:, 0]) == {30}
    assert hu[painted].min() >= 60 and hu[painted].max() <= 200
    assert dock.undo.toolTip().startswith("Take back: HU brush, pancreas")
    click(qtbot, tools.hands["eraser"])
    drag(qtbot, viewer, [world(session, seed)])
    assert (layer.data == 6).sum() < painted.sum()
    press(viewer, "Control-Z")
    np.testing.assert_array_equal(layer.data == 6, painted)
    press(viewer, "Control-Z")
    assert not layer.data.any()

    click(qtbot, tools.hands["grow"])
    assert not tools.hands["eraser"].isChecked()
    drag(qtbot, viewer, [world(session, seed)])
    low, high = tools.low.value(), tools.high.value()
    assert (low, high) != (60, 200) and low < hu[seed] < high
    grown = layer.data == 6
    assert grown.sum() > 20 and grown[30].sum() == grown.sum()
    press(viewer, "Control-Z")
    click(qtbot, tools.in_volume)
    click(qtbot, tools.hands["fill"])
    drag(qtbot, viewer, [world(session, seed)])
    assert (layer.data == 6).sum() > grown.sum()
    layer.mode = "paint"  # napari's own brush puts the tool down
    assert not tools.hands["fill"].isChecked() and tools.hand.tool == ""

    # what was painted in two slices is filled between, over what lies there
    layer.data[:] = 0
    for z in (30, 36):
        viewer.dims.set_point(range(3), world(session, (z, 50, 50)))
        press(viewer, "8")
        layer.brush_size = 9
        drag(qtbot, viewer, [world(session, (z, 50, 50)), world(session, (z, 50, 52))])
    tools.replace.setChecked(True)
    assert dock.correcting.keys() == [30, 36] and tools.between.isEnabled()
    tools.overwrite.setChecked(True)
    done(qtbot, session, lambda: click(qtbot, tools.between))
    assert all((layer.data[z] == 8).sum() > 40 for z in range(30, 37))
    assert not tools.between.isEnabled() and "Paint the structure in two slices" in tools.between.toolTip()


def test_the_other_phase_and_what_was_corrected_there(begun, qtbot):
    _viewer, session, dock = begun
    annotating = session.annotating
    box = (slice(30, 34), slice(10, 20), slice(10, 20))
    annotating.apply(box, np.full((4, 10, 10), 9, np.uint8), "x")
    click(qtbot, dock.phases[Phase.ARTERIAL])
    qtbot.waitUntil(lambda: annotating.layer is not None and annotating.phase is Phase.ARTERIAL, timeout=WAIT_MS)
    assert not (annotating.layer.data == 9).any()
    assert dock.phases[Phase.ARTERIAL].isChecked()
    dock.correcting.choose(9)
    source = dock.tools.source
    source.setCurrentIndex(source.count() - 1)
    assert source.currentText() == "venous, as corrected"
    dock.tools.near.setChecked(False)
    qtbot.waitUntil(lambda: dock.tools.take.isEnabled(), timeout=WAIT_MS)
    done(qtbot, session, lambda: click(qtbot, dock.tools.take))
    assert (annotating.layer.data == 9).sum() > 200
    qtbot.keyClick(dock, "4")  # a key that the dock does not need goes on to the canvas
    assert dock.correcting.structure == 4
    assert (str(dock.next.shortcut().toString()), str(dock.reviewed.shortcut().toString())) == ("N", "R")


def test_the_pair_is_what_the_tests_say(tmp_path):
    image = nib.load(write_pair(tmp_path) / "venous.nii.gz")
    assert min(image.shape) > 44
