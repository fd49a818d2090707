"""All that reaches into napari where it has no public door yet: an update of napari breaks this file alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels
    from qtpy.QtWidgets import QDockWidget, QWidget


class ListedTask:
    """A long job in napari's task list (asked about when the window closes) and in its activity dock."""

    def __init__(self, viewer: napari.Viewer, description: str, cancel: Callable[[], object]) -> None:
        from napari.utils import progress
        from napari.utils.task_status import Status

        self._status = Status
        self._window: Any = getattr(viewer, "window", None)
        self._id: Any = None
        self._bar = progress(total=1000, desc=description, gui=True)
        if self._window is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                self._id = self._window._register_task_status(
                    "multiphase", Status.BUSY, description, lambda: bool(cancel()) or True
                )

    def step(self, description: str, fraction: float | None) -> None:
        """Say what is being done now."""
        self._bar.set_description(description)
        if fraction is not None:
            self._bar.update(max(0, round(1000 * fraction) - self._bar.n))
        self._update(self._status.BUSY, description)

    def close(self, outcome: str) -> None:
        """The job ended: "completed", "cancelled" or "failed"."""
        self._bar.close()
        self._update(self._status(outcome), "")

    def _update(self, status: Any, description: str) -> None:
        if self._id is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._window._update_task_status(self._id, status, description)


def dock_of(widget: QWidget) -> QDockWidget:
    """The dock that holds a widget, whatever napari wrapped around it."""
    from qtpy.QtWidgets import QDockWidget

    parent: Any = widget
    while not isinstance(parent, QDockWidget):
        parent = parent.parent()
        if parent is None:
            raise LookupError("the widget is not in a dock")
    return parent


def qt_window(viewer: napari.Viewer) -> Any:
    """The main window as a Qt object, or None where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(getattr(viewer, "window", None), "_qt_window", None)


def drop_targets(viewer: napari.Viewer) -> list[Any]:
    """The Qt widgets around the canvas that take dropped files."""
    from qtpy.QtWidgets import QWidget

    window = qt_window(viewer)
    centre = window.centralWidget() if window is not None else None
    if centre is None:
        return []
    return [widget for widget in (centre, *centre.findChildren(QWidget)) if widget.acceptDrops()]


def put_in_middle(viewer: napari.Viewer, widget: QWidget) -> None:
    """Put `widget` into the middle of the window, at the right of napari's canvas and sliders."""
    window = qt_window(viewer)
    if window is not None and window.centralWidget() is not None:
        layout = window.centralWidget().layout()
        layout.addWidget(widget, 1)
        layout.setStretch(0, 1)  # the canvas takes no more than its half


def show_canvas(viewer: napari.Viewer, shown: bool) -> None:
    """Show napari's canvas and sliders, or leave the middle of the window to what `put_in_middle` put there."""
    window = qt_window(viewer)
    if window is not None and window.centralWidget() is not None:
        window.centralWidget().layout().itemAt(0).widget().setVisible(shown)


def hold_drawing(viewer: napari.Viewer, hold: bool) -> None:
    """Let the window wait with drawing, so that a layer addition and the drawing after it are two short steps."""
    window = qt_window(viewer)
    if window is not None:
        window.setUpdatesEnabled(not hold)


def apart(viewer: napari.Viewer, step: Callable[[], object]) -> list[Callable[[], object]]:
    """`step`, and in a turn of the event loop of its own the drawing that follows from it."""

    def held() -> None:
        hold_drawing(viewer, True)
        try:
            step()
        except BaseException:
            hold_drawing(viewer, False)
            raise

    return [held, lambda: hold_drawing(viewer, False)]


@contextmanager
def choice_kept(viewer: napari.Viewer) -> Iterator[None]:
    """A layer that is added herein is not chosen: what the user had chosen stays so, and napari lays out no controls
    for it now, a fifth of what adding it costs."""
    layers: Any = viewer.layers
    before = getattr(layers, "_activate_on_insert", True)
    layers._activate_on_insert = False
    try:
        yield
    finally:
        layers._activate_on_insert = before


def warm_results(viewer: napari.Viewer, colormap: Any) -> Callable[[], None]:
    """Pay now for what napari sets up with the first Labels layer and the first draw (over a second), while the user
    waits anyway; call what is returned once they were drawn. `colormap` is the confidence overlay's."""
    import numpy as np

    like, chosen = viewer.layers[0], list(viewer.layers.selection)
    place = {"scale": like.scale, "translate": like.translate, "units": like.units, "axis_labels": like.axis_labels}
    data = np.zeros((1, 2, 2), np.uint8)
    made = [
        viewer.add_labels(data, name="warming up", **place),
        viewer.add_image(data, name="warming up", colormap=colormap, contrast_limits=(0, 255), opacity=0.0, **place),
    ]

    def away() -> None:
        for layer in made:
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        viewer.layers.selection = {layer for layer in chosen if layer in viewer.layers}

    return away


def axes_in_view(layer: Labels) -> list[int]:
    """The layer's axes that the slice drawn last lies along: two, or three in a view of the volume."""
    return list(layer._slice_input.displayed)


def forget_history(layer: Labels) -> None:
    """Empty napari's own undo history of a label layer: the stack of `edits` has taken the stroke over."""
    for name in ("_undo_history", "_redo_history"):
        getattr(layer, name, []).clear()


def lead_undo(layer: Labels, undo: Callable[[], object], redo: Callable[[], object]) -> None:
    """Let `layer.undo` and `layer.redo`, which napari's keys and the Compare panes call, do something else."""
    vars(layer).update(undo=undo, redo=redo)
