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
