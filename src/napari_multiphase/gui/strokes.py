"""Where the layer that is being corrected changes: by a tool, by a stroke, or by someone who drew it anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_multiphase.gui.edits import Box, Edit
from napari_multiphase.gui.private import axes_in_view

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Labels


class Strokes:
    """Calls `touch` with the box that changed, or with None where it may be anywhere."""

    def __init__(self, viewer: Viewer, layer: Labels, touch: Callable[[Box | None], object]) -> None:
        self._viewer, self._layer, self._touch = viewer, layer, touch
        self._own = False
        self._at: Any = None
        layer.events.labels_update.connect(self._on_stroke)
        layer.events.set_data.connect(self._on_redrawn)
        layer.events.data.connect(lambda _event: touch(None))

    def edited(self, edit: Edit) -> None:
        """A tool changed labels or marks: show it."""
        self._touch(edit.box)
        if len(edit.labels.where):
            self._own = True
            try:
                self._layer.refresh(extent=False, thumbnail=False, highlight=False)
            finally:
                self._own = False

    def _on_stroke(self, event: Any) -> None:
        """A stroke goes on, in the slice in view: it is saved even before it ends."""
        layer = self._layer
        shown = axes_in_view(layer)
        if len(shown) != 2 or layer.n_edit_dimensions != 2:
            self._touch(None)
            return
        at = layer.world_to_data(self._viewer.dims.point)
        box = [slice(round(float(p)), round(float(p)) + 1) for p in at]
        for axis, start, size in zip(shown, event.offset, event.data.shape, strict=False):
            box[axis] = slice(int(start), int(start) + int(size))
        self._touch((box[0], box[1], box[2]))

    def _on_redrawn(self, _event: Any) -> None:
        """Drawn anew in the same place: someone changed the array and called `refresh`."""
        dims = self._viewer.dims
        at, self._at = self._at, (dims.point, dims.displayed)
        if at == self._at and not self._own:
            self._touch(None)
