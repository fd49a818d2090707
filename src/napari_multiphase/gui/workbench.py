"""Plugins > Multiphase > Open workbench: the docks as tabs on the right, the Study dock in front."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QMainWindow, QTabBar, QWidget

from napari_multiphase.gui.dock_parts import DOCK_WIDTH, dropped_paths
from napari_multiphase.gui.private import dock_of, drop_targets, qt_window

if TYPE_CHECKING:
    import napari

    from napari_multiphase.gui.session import Session

_WARM_MS = 300
"""The compute processes start this long after the docks, once the window has drawn."""
_THAW_MS = 2000
_MEDICAL = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".zip")


def open_workbench(viewer: napari.Viewer) -> dict[str, QWidget]:
    """The docks, by name; made where they are not there yet, the Study dock in front."""
    from napari_multiphase.gui.compare_dock import CompareDock
    from napari_multiphase.gui.correct_dock import CorrectDock
    from napari_multiphase.gui.segment_dock import SegmentDock
    from napari_multiphase.gui.study_dock import StudyDock
    from napari_multiphase.gui.train_dock import TrainDock
    from napari_multiphase.gui.translate_dock import TranslateDock

    docks: dict[str, QWidget] = {}
    makers = {
        "Study": StudyDock,
        "Segment": SegmentDock,
        "Translate": TranslateDock,
        "Compare": CompareDock,
        "Correct": CorrectDock,
        "Train": TrainDock,
    }
    for name, make in makers.items():
        full_name = f"{name} (Multiphase)"  # as napari's own menu calls it, so that its tick follows the dock
        if full_name not in viewer.window.dock_widgets:
            viewer.window.add_dock_widget(make(viewer), name=full_name, area="right", tabify=bool(docks))
        docks[name] = viewer.window.dock_widgets[full_name]
        dock_of(docks[name]).setWindowTitle(name)
    bring_forward(docks["Study"])
    return docks


def bring_forward(widget: QWidget) -> None:
    """Show the dock of `widget` in front of its neighbours, at its preferred width."""
    dock = dock_of(widget)
    dock.show()
    dock.raise_()
    window = dock.parent()
    if isinstance(window, QMainWindow):
        window.resizeDocks([dock], [DOCK_WIDTH], Qt.Orientation.Horizontal)
        for bar in window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly):
            bar.setStyleSheet("QTabBar::tab { padding: 3px 1px; }")  # six names are readable side by side


class Workbench(QWidget):
    """What napari makes for the menu entry: opens the docks, then puts itself away."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.setFixedSize(0, 0)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(lambda: self._open(napari_viewer))
        self._timer.start(0)

    def _open(self, viewer: napari.Viewer) -> None:
        viewer.window.remove_dock_widget(self)
        open_workbench(viewer)


class Furniture(QObject):
    """What a viewer gets with its session: layers that follow it, marks, status bar, drops."""

    def __init__(self, session: Session) -> None:
        from napari_multiphase.gui.marks import OrientationMarks, SyntheticMark
        from napari_multiphase.gui.readout import Readout
        from napari_multiphase.gui.show import Show

        super().__init__()
        self.session = session
        self.marks = OrientationMarks(session.viewer)
        self.synthetic_mark = SyntheticMark(session.viewer)
        self.show = Show(session, self.synthetic_mark)
        self.readout = Readout(session)
        for widget in drop_targets(session.viewer):
            widget.installEventFilter(self)
        window = qt_window(session.viewer)
        if window is not None:
            window.destroyed.connect(session.close)
        session.bridge.later(_WARM_MS, session.client.start)
        session.bridge.changed.connect(self._on_change)

    def _on_change(self, topic: str) -> None:
        """While a job runs and its layers appear, a full garbage collection (0.2 s for all of napari) must not fall in
        between: what is old is left out of it until then."""
        if topic == "busy" and self.session.job is not None:
            gc.freeze()
        elif topic == "busy":
            self.session.bridge.later(_THAW_MS, self._thaw)

    def _thaw(self) -> None:
        if self.session.job is None:
            gc.unfreeze()

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Take a drop of scans whole, before napari asks who should read each file."""
        if event is not None and event.type() == QEvent.Type.Drop:
            paths = dropped_paths(event.mimeData())  # type: ignore[attr-defined]
            if paths and all(path.is_dir() or path.name.lower().endswith(_MEDICAL) for path in paths):
                event.accept()
                self.session.open_paths(paths)
                return True
        return False


def furnish(session: Session) -> Furniture:
    """Give the session's viewer everything that is not a dock."""
    return Furniture(session)
