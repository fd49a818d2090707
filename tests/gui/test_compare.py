"""The Compare dock in a real window, by its buttons, over a pair whose motion is known to the voxel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from window_steps import click

from napari_multiphase.field import DenseField
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Grid, Phase, Volume

pytestmark = [pytest.mark.gui, pytest.mark.timeout(300)]

SPACING_MM = (3.0, 2.0, 2.0)
MOVED_VOX = (2, 1, -3)
"""Where the anatomy of a venous voxel lies in the arterial scan."""


def pair(seed: int = 0) -> Study:
    """Noise with structure in it; the arterial scan is the venous one moved by whole voxels, and brighter."""
    rng = np.random.default_rng(seed)
    venous = rng.integers(-150, 200, (24, 48, 56)).astype(np.int16)
    arterial = np.roll(venous, MOVED_VOX, (0, 1, 2)) + np.int16(30)
    matrix = np.eye(4)
    matrix[:3, 3] = [v * s for v, s in zip(MOVED_VOX, SPACING_MM, strict=True)][::-1]
    volumes = {
        Phase.ARTERIAL: Volume.from_array(arterial, SPACING_MM, (-30.0, 5.0, -8.0)),
        Phase.VENOUS: Volume.from_array(venous, SPACING_MM, (-30.0, 5.0, -8.0)),
    }
    return Study("pair", volumes, transform=PhaseTransform(matrix, "rigid"))


@pytest.fixture
def window(make_napari_viewer, qtbot, monkeypatch) -> Iterator[tuple]:
    """(viewer, session, compare dock) of a window in which nothing is open yet, and no process is started."""
    from napari_multiphase.gui import workbench
    from napari_multiphase.gui.compare_dock import CompareDock
    from napari_multiphase.gui.session import get_session

    monkeypatch.setattr(workbench, "_WARM_MS", 3_600_000)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    dock = CompareDock(viewer)
    viewer.window.add_dock_widget(dock, name="Compare (Multiphase)", area="right")
    workbench.bring_forward(dock)
    qtbot.wait(50)
    session = get_session(viewer)
    yield viewer, session, dock
    dock.stop()
    session.close()


@pytest.fixture
def compared(window, qtbot) -> tuple:
    """The same with the pair open and *Compare* clicked."""
    _viewer, session, dock = window
    shown = []
    session.bridge.changed.connect(lambda topic: shown.append(topic) if topic == "shown" else None)
    session._opened(pair())
    qtbot.waitUntil(lambda: bool(shown), timeout=60_000)
    click(qtbot, dock.compare)
    qtbot.waitUntil(lambda: all(pane.draws for pane in dock.panes.in_use), timeout=20_000)
    return window


def labels_of(viewer, session, phase: str, value: int = 1):
    from napari_multiphase.gui.layers import add_labels

    grid = session.study.volumes[Phase.VENOUS].grid
    data = np.zeros(grid.shape, np.uint8)
    data[8:16, 10:30, 12:40] = value
    return add_labels(viewer, data, grid, f"pair {phase} labels", kind="labels", phase=phase, study="pair", run=1)


def choose(box, key) -> None:
    index = box.findData(key)
    assert index >= 0, key
    box.setCurrentIndex(index)
    box.activated.emit(index)


def middle(dock) -> tuple[float, float, float]:
    grid = dock.comparison.grid
    return tuple(o + s * (n // 2) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))


def test_an_empty_dock_says_what_to_do_first(window, qtbot):
    viewer, _session, dock = window
    assert dock.empty.isVisible()
    assert dock.go_open.isVisible()
    assert not dock.compare.isEnabled()
    assert dock.compare.toolTip() == "Open a study first"
    assert dock.save.toolTip() == "Press Compare first"
    click(qtbot, dock.go_open)
    assert viewer.window.dock_widgets["Study (Multiphase)"].isVisible()


def test_panes_show_the_same_anatomy(compared):
    """Moved: the same pixels. As scanned: the slice, and the cursor, that the transform says."""
    _viewer, session, dock = compared
    comparison = dock.comparison
    arterial, venous = (view for view in comparison.views[:2])
    a, v = comparison.scene(arterial), comparison.scene(venous)
    inside = a.hu > -3000
    assert inside.mean() > 0.8
    np.testing.assert_array_equal(a.hu[inside], v.hu[inside] + 30)
    assert np.shares_memory(v.hu, session.study.volumes[Phase.VENOUS].data)

    dock.looks.moved.setChecked(False)
    comparison.point_at(venous, middle(dock), click=True)
    a, v = comparison.scene(arterial), comparison.scene(venous)
    assert a.plane.index == v.plane.index + MOVED_VOX[0]
    assert np.shares_memory(a.hu, session.study.volumes[Phase.ARTERIAL].data)
    at = comparison.place(arterial, arterial.point_mm)
    expected = [p + n * s for p, n, s in zip(middle(dock), MOVED_VOX, SPACING_MM, strict=True)]
    np.testing.assert_allclose(at, expected)
    np.testing.assert_allclose(comparison.place_back(arterial, at), middle(dock))
    size = (300, 300)
    frames = [comparison.frame(view, size) for view in (arterial, venous)]
    spots = [f.to_px(p[1], p[2]) for f, p in zip(frames, (at, middle(dock)), strict=True)]
    np.testing.assert_allclose(spots[0], spots[1], err_msg="the cursor stands at one place of the screen in both panes")


def test_a_dense_transform_leads_the_cursor_too(compared, qtbot):
    _viewer, session, dock = compared
    coarse = Grid((4, 5, 6), (25.0, 24.0, 24.0), (-32.0, 0.0, -10.0))
    by = np.zeros((*coarse.shape, 3), np.float32)
    by[...] = (4.0, -2.0, 6.0)
    transform = PhaseTransform(np.eye(4), "mind", {}, DenseField(by, coarse), DenseField(-by, coarse))
    session.study = session.study.with_transform(transform)
    session.bridge.changed.emit("transform")
    dock.looks.moved.setChecked(False)
    view = dock.comparison.views[0]
    dock.comparison.point_at(view, middle(dock), click=True)
    z, y, x = middle(dock)
    np.testing.assert_allclose(dock.comparison.place(view, view.point_mm), (z + 6, y - 2, x + 4), atol=1e-4)
    dock.looks.moved.setChecked(True)
    scenes = [dock.comparison.scene(view) for view in dock.comparison.shown]
    assert scenes[0].plane == scenes[1].plane
    qtbot.wait(20)


def test_mouse_and_keys_move_linked_panes_together(compared, qtbot):
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    _viewer, _session, dock = compared
    first, second = dock.panes.in_use
    comparison = dock.comparison
    at = QPointF(first.width() / 2, first.height() / 2)

    def wheel(pane, turns, modifier=Qt.KeyboardModifier.NoModifier):
        event = QWheelEvent(
            at, QPointF(pane.mapToGlobal(at.toPoint())), QPoint(), QPoint(0, 120 * turns), Qt.MouseButton.NoButton,
            modifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(pane, event)

    before = comparison.plane(second.view).index
    wheel(first, 2)
    assert comparison.plane(second.view).index == before + 2
    qtbot.keyClick(second, Qt.Key.Key_Down)
    assert comparison.plane(first.view).index == before + 1
    wheel(first, 2, Qt.KeyboardModifier.ControlModifier)
    assert second.view.zoom == first.view.zoom > 1.5
    qtbot.keyClick(first, Qt.Key.Key_Home)
    assert second.view.zoom == 1.0
    qtbot.mouseMove(first, QPoint(40, 60))
    qtbot.waitUntil(lambda: first.view.point_mm == second.view.point_mm, timeout=2000)
    _drag(first, QPoint(100, 100), QPoint(120, 100), Qt.MouseButton.RightButton)
    assert comparison.window_of(first.view) == comparison.window_of(second.view) == (-180.0, 260.0)
    assert "by mouse" in dock.looks.window_chooser.box.currentText()

    for box in dock.looks.links.values():
        click(qtbot, box)
    wheel(first, 3)
    assert comparison.plane(first.view).index == comparison.plane(second.view).index + 3
    wheel(first, 1, Qt.KeyboardModifier.ControlModifier)
    assert second.view.zoom == 1.0 < first.view.zoom
    click(qtbot, dock.looks.links["slice"])
    assert comparison.plane(first.view).index == comparison.plane(second.view).index, "the first pane leads"


def _drag(pane, start, end, button) -> None:
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    none = Qt.KeyboardModifier.NoModifier
    for kind, position, held in (
        (QEvent.Type.MouseButtonPress, start, button),
        (QEvent.Type.MouseMove, end, button),
        (QEvent.Type.MouseButtonRelease, end, Qt.MouseButton.NoButton),
    ):
        pressed = button if kind != QEvent.Type.MouseMove else Qt.MouseButton.NoButton
        place = QPointF(pane.mapToGlobal(position))
        QApplication.sendEvent(pane, QMouseEvent(kind, QPointF(position), place, pressed, held, none))


def test_other_orientations(compared, qtbot):
    _viewer, _session, dock = compared
    for orientation, axis in (("coronal", 1), ("sagittal", 2), ("axial", 0)):
        click(qtbot, dock.orientations[orientation])
        scenes = [dock.comparison.scene(view) for view in dock.comparison.shown]
        assert scenes[0].plane.axis == axis
        inside = scenes[0].hu > -3000
        assert inside.mean() > 0.8
        np.testing.assert_array_equal(scenes[0].hu[inside], scenes[1].hu[inside] + 30)


def test_what_happens_to_layers_is_seen_and_no_array_is_copied(compared, qtbot):
    viewer, session, dock = compared
    comparison = dock.comparison
    for phase in Phase:
        layer = comparison.known[str(phase)].image
        assert layer in viewer.layers
        assert layer.data is session.study.volumes[phase].data

    choose(dock.count, 3)
    fused = dock.panes.in_use[2]
    assert "make them in the Segment dock" in fused._missing()
    layer = labels_of(viewer, session, "fused")
    layer.visible = True
    assert comparison.content(fused.view).labels is layer
    z = comparison.plane(fused.view).index
    scene = comparison.scene(fused.view)
    assert np.shares_memory(scene.labels, layer.data)
    qtbot.waitUntil(lambda: fused._base is not None, timeout=5000)
    draws = fused.draws
    layer.data_setitem((np.array([z]), np.array([2]), np.array([2])), 5)
    qtbot.waitUntil(lambda: fused.draws > draws, timeout=5000)
    assert fused.scene.labels[2, 2] == 5
    arterial = comparison.scene(comparison.views[0])
    assert arterial.labels is not None, "labels of the fused result lie over the scans too"
    choose(dock.looks.labels, "none")
    assert comparison.scene(comparison.views[0]).labels is None
    for step in range(40):
        comparison.step(comparison.views[0], 1 if step % 20 < 10 else -1)
        for view in comparison.shown:
            comparison.scene(view)
    kept, volume = comparison.slices.kept_bytes, session.study.volumes[Phase.VENOUS].data
    print(f"{kept / 1e6:.2f} MB of slices are kept")
    assert kept <= 32 * volume[0].nbytes
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: fused.scene is None, timeout=5000)
    viewer.layers.remove(comparison.known["venous"].image)
    assert "was removed" in comparison.content(comparison.views[1]).missing


def test_painting_in_a_pane_is_napari_painting(compared, qtbot):
    """Through the transform where the layer lies in the other scan's space; one stroke is undone at once."""
    from qtpy.QtCore import QPoint, Qt

    viewer, session, dock = compared
    pane = dock.panes.panes[0]  # the arterial scan, moved onto the venous one
    layer = labels_of(viewer, session, "arterial")
    layer.data[:] = 0
    layer.visible = True
    viewer.layers.selection.active = layer
    layer.mode, layer.brush_size, layer.selected_label = "paint", 6, 9
    qtbot.waitUntil(lambda: pane.scene is not None and pane.scene.labels is not None, timeout=5000)
    middle = QPoint(pane.width() // 2, pane.height() // 2)
    index = dock.comparison.plane(pane.view).index
    _drag(pane, middle, middle + QPoint(60, 0), Qt.MouseButton.LeftButton)
    painted = np.argwhere(layer.data == 9)
    assert len(painted) > 30
    assert set(painted[:, 0]) == {index + MOVED_VOX[0]}, "in the arterial slice that holds what was painted on"
    qtbot.waitUntil(lambda: pane.scene is not None and (pane.scene.labels == 9).sum() == len(painted), timeout=5000)
    layer.mode = "erase"
    _drag(pane, middle, middle, Qt.MouseButton.LeftButton)
    assert 0 < (layer.data == 9).sum() < len(painted)
    qtbot.keyClick(pane, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert (layer.data == 9).sum() == len(painted)
    qtbot.keyClick(pane, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not layer.data.any()
    layer.mode = "pan_zoom"
    _drag(pane, middle, middle + QPoint(40, 0), Qt.MouseButton.LeftButton)
    assert not layer.data.any()
    assert pane.view.centre_mm != dock.comparison.middle_mm, "without a brush, dragging moves the picture"


def test_closing_leaves_the_viewer_as_it_was(window, compared, qtbot):
    from napari_multiphase.gui.private import qt_window

    viewer, session, dock = compared
    click(qtbot, dock.compare)
    labels_of(viewer, session, "fused").visible = True
    viewer.dims.set_point(0, -30.0 + 3.0 * 7)
    viewer.scene.camera.zoom = 3.3

    def state():
        layers = [
            (layer.name, id(layer), id(layer.data), layer.visible, layer.opacity, str(layer.colormap), layer.blending,
             tuple(getattr(layer, "contrast_limits", ())), tuple(layer.scale), tuple(layer.translate))
            for layer in viewer.layers
        ]  # fmt: skip
        camera, dims = viewer.scene.camera, viewer.dims
        canvas = [child.isVisible() for child in qt_window(viewer).centralWidget().children() if child.isWidgetType()]
        return layers, viewer.layers.selection.active, camera.zoom, camera.center, dims.point, dims.order, canvas

    before = state()
    click(qtbot, dock.compare)
    assert state()[-1] != before[-1], "the canvas makes room"
    comparison, first = dock.comparison, dock.panes.panes[0]
    comparison.step(first.view, 3)
    comparison.set_window(first.view, (-30.0, 150.0))
    comparison.look_around(first.view, middle(dock), 3.0)
    for mode in ("fade", "swipe", "checkerboard", "flicker", "panes"):
        choose(dock.mode, mode)
        qtbot.wait(20)
    click(qtbot, dock.orientations["coronal"])
    click(qtbot, dock.compare)
    qtbot.wait(50)
    assert state() == before

    click(qtbot, dock.compare)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    assert dock.panes is None, "a dock that is closed takes its panes with it"
    assert state() == before


def test_two_images_in_one_pane(compared, qtbot):
    from qtpy.QtCore import QPoint, Qt

    _viewer, _session, dock = compared
    pane = dock.panes.panes[0]
    for mode in ("fade", "swipe", "checkerboard", "flicker"):
        choose(dock.mode, mode)
        qtbot.wait(30)
        assert dock.panes.in_use == [pane]
        assert pane.isVisible() and not dock.panes.panes[1].isVisible()
        assert not dock.looks.moved.isEnabled()
    assert dock.mixing.speed.maximum() <= 3.0
    speed = 3.0
    dock.mixing.speed.setValue(speed)
    was = dock.mix.second
    qtbot.waitUntil(lambda: dock.mix.second != was, timeout=3000)
    qtbot.keyClick(pane, Qt.Key.Key_Space)
    was = dock.mix.second
    qtbot.wait(500)
    assert dock.mix.paused and dock.mix.second == was
    assert pane.scene.titles == (("venous",) if was else ("arterial",))

    choose(dock.mode, "swipe")
    qtbot.wait(30)
    x = round(dock.mix.share * pane.width())
    _drag(pane, QPoint(x, 40), QPoint(x + 90, 40), Qt.MouseButton.LeftButton)
    assert dock.mix.share == pytest.approx((x + 90) / pane.width(), abs=0.01)
    assert dock.mixing.share.value() == round(100 * dock.mix.share)
    qtbot.wait(30)
    hu, venous = pane.scene.hu, dock.comparison.scene(dock.comparison.views[1]).hu
    row = 20
    differs = np.flatnonzero(hu[row] != venous[row])
    line = int(np.ceil((pane.frame_now.to_mm(dock.mix.share * pane.width(), 0)[1] + 8.0) / 2.0))
    assert differs.max() == line - 1, "arterial up to the line, venous from there on"


def test_figures(compared, qtbot, tmp_path):
    from qtpy.QtGui import QImage

    from napari_multiphase.gui.figure import Page, save_figure
    from napari_multiphase.gui.layers import add_image

    viewer, session, dock = compared
    labels_of(viewer, session, "fused", 6)
    choose(dock.count, 4)
    study = session.study
    made = study.volumes[Phase.ARTERIAL].with_data(study.volumes[Phase.ARTERIAL].data - 20)
    add_image(viewer, made, "pair synthetic venous", (-160.0, 240.0), kind="synthetic", phase="venous", study="pair")
    choose(dock.pickers.boxes[3], "synthetic venous")
    assert dock.comparison.scene(dock.comparison.views[3]).synthetic
    page = Page(dock.comparison, dock.mix, (300, 320))
    assert "pancreas" in [name for name, _ in page._swatches]
    assert any("SYNTHETIC" in note for note in page.notes)
    assert any("rigid" in note for note in page.notes)
    for name in ("figure.png", "figure.pdf"):
        dock.save_to(tmp_path / name)
        assert dock.save.toolTip() == "The figure is being written"
        qtbot.waitUntil(lambda: dock.saving is None, timeout=20_000)
    image = QImage(str(tmp_path / "figure.png"))
    assert image.width() > 4 * dock.panes.panes[0].width()
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert save_figure(tmp_path / "other", page).name == "other.png"
    (tmp_path / "file").write_text("no folder")
    dock.save_to(tmp_path / "file" / "figure.png")
    qtbot.waitUntil(lambda: dock.saving is None, timeout=20_000)
    assert dock.error.isVisible()
    assert "not saved" in dock.error.sentence.text()


def test_the_dock_fits_and_every_control_explains_itself(compared, qtbot):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QComboBox, QDoubleSpinBox, QScrollBar

    _viewer, _session, dock = compared
    for mode in ("swipe", "panes"):
        choose(dock.mode, mode)
        choose(dock.count, 4)
        qtbot.wait(50)
        assert dock.width() <= 360
        assert dock.scroll_area.widget().width() <= dock.scroll_area.viewport().width()
        assert dock.compare.isVisible() and dock.save.isVisible()
    for kind in (QAbstractButton, QComboBox, QAbstractSlider, QDoubleSpinBox):
        for control in dock.findChildren(kind):
            if isinstance(control, QScrollBar) or control.objectName().startswith("qt_") or control.parent() is None:
                continue
            if control in dock.error.findChildren(QAbstractButton):
                continue
            assert control.toolTip(), f"{control} has no tooltip"
    for control in (dock.compare, dock.save, dock.looks.contours, dock.orientations["axial"]):
        assert control.shortcut().toString() in control.toolTip()
