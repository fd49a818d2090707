"""What a user does, by mouse, for the tests of this folder."""

from __future__ import annotations

WAIT_MS = 240_000


def click(qtbot, button) -> None:
    from qtpy.QtCore import Qt

    assert button.isVisible()
    assert button.isEnabled(), button.toolTip()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def open_sample(qtbot, study_dock, session) -> None:
    shown = []
    session.bridge.changed.connect(lambda topic: shown.append(topic) if topic == "shown" else None)
    click(qtbot, study_dock.open_sample)
    qtbot.waitUntil(lambda: bool(shown), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.model is not None, timeout=WAIT_MS)


def segment(qtbot, segment_dock, session) -> None:
    from napari_multiphase.gui.workbench import bring_forward

    bring_forward(segment_dock)
    shown = []
    session.bridge.changed.connect(lambda topic: shown.append(topic) if topic == "shown" else None)
    click(qtbot, segment_dock.segment)
    qtbot.waitUntil(lambda: bool(shown) or segment_dock.error.isVisible(), timeout=WAIT_MS)
    assert not segment_dock.error.isVisible(), segment_dock.error.sentence.text()


def drag(qtbot, viewer, points_mm) -> None:
    """The mouse on the canvas, as Qt sends it: pressed at the first point, moved to the others, released."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    viewer.reset_view()
    QApplication.processEvents()
    canvas = viewer.window._qt_viewer.canvas
    shown = list(viewer.dims.displayed)
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

    def send(kind, point, button, held) -> None:
        y, x = (point[axis] for axis in shown)
        place = canvas.view.scene.transform.map([x, y, 0, 1])
        at = QPointF(*(float(v) / place[3] for v in place[:2]))
        assert canvas.native.rect().contains(at.toPoint())
        event = QMouseEvent(
            kind, at, canvas.native.mapToGlobal(at.toPoint()).toPointF(), button, held, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(canvas.native, event)

    send(QEvent.Type.MouseButtonPress, points_mm[0], left, left)
    for point in points_mm[1:]:
        send(QEvent.Type.MouseMove, point, none, left)
        qtbot.wait(20)  # napari takes one move every 5 ms
    send(QEvent.Type.MouseButtonRelease, points_mm[-1], left, none)
