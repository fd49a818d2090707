"""Painting in a pane with napari's own brush: its layer, label, size and mode, and its undo history."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from napari_multiphase.gui.comparison import Comparison
from napari_multiphase.gui.contents import overlays, space_of
from napari_multiphase.gui.planes import Point
from napari_multiphase.gui.scene import View
from napari_multiphase.study import PhaseTransform

if TYPE_CHECKING:
    from napari.layers import Labels


class Brush:
    """Sets the voxels of the active label layer under a disc that lies in the pane's plane.

    What is painted is what the pane shows: where the layer lies in the other scan's space, the disc is carried there
    through the transform. The disc is round in millimetres.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._stroke: ExitStack | None = None

    def layer(self, view: View) -> Labels | None:
        """The layer a stroke in this view would change: the viewer's active label layer, if its mode is to paint or to
        erase and the view shows it."""
        comparison = self._comparison
        active = comparison.session.viewer.layers.selection.active
        if active is None or str(getattr(active, "mode", "")).lower() not in ("paint", "erase") or not active.visible:
            return None
        return (
            active if active is overlays(comparison.session, comparison.content(view), comparison.labels)[0] else None
        )

    def radius_mm(self, layer: Labels) -> float:
        """Of the disc, at the layer's finest spacing."""
        return float(layer.brush_size) / 2 * float(np.min(layer.scale))

    def press(self, layer: Labels) -> None:
        """A stroke begins; all of it is undone at once."""
        self._stroke = ExitStack()
        self._stroke.enter_context(layer.block_history())

    def release(self) -> None:
        """The stroke ends."""
        if self._stroke is not None:
            self._stroke.close()
            self._stroke = None

    def move(self, view: View, layer: Labels, start: Point, end: Point) -> None:
        """Paint from one point (z, y, x) mm of the view's space to another, both in its plane."""
        comparison, study = self._comparison, self._comparison.session.study
        grid = comparison.slices.grid_of(layer)
        if grid is None or study is None:
            return
        plane = comparison.plane(view)
        radius, fine = self.radius_mm(layer), float(np.min(grid.spacing_mm)) / 2
        reach = max(0, int(np.ceil(radius / fine)))
        offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T * fine
        offsets = offsets[np.hypot(*offsets.T) <= radius + 1e-6]
        length = float(np.linalg.norm(np.subtract(end, start)))
        steps = np.linspace(0, 1, 2 + int(length / max(radius / 2, fine)))[:, None]
        points = np.array(start) + steps * np.subtract(end, start)
        disc = np.zeros((len(offsets), 3))
        disc[:, plane.shown] = offsets
        points = (points[:, None] + disc[None]).reshape(-1, 3)
        space, own = comparison.space(view), space_of(comparison.session, layer)
        if space is not own:
            points = (study.transform or PhaseTransform.identity()).map(points[:, ::-1], own)[:, ::-1]
        index = np.unique(np.rint((points - grid.origin_mm) / grid.spacing_mm).astype(np.intp), axis=0)
        index = index[((index >= 0) & (index < grid.shape)).all(axis=1)]
        erase = str(layer.mode).lower() == "erase"
        if layer.preserve_labels:
            wanted = layer.data[tuple(index.T)]
            index = index[wanted == layer.selected_label if erase else wanted == 0]
        if len(index):
            layer.data_setitem(tuple(index.T), 0 if erase else layer.selected_label)
