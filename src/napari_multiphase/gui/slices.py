"""The slices that were cut for the panes lately: from the layers' own arrays, through the transform where needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.contents import grid_of, space_of
from napari_multiphase.gui.planes import Plane, cut
from napari_multiphase.gui.session import Session
from napari_multiphase.volume import Grid, Phase

if TYPE_CHECKING:
    from napari.layers import Layer

MOST_KEPT = 32


class Slices:
    """Cuts slices and keeps the newest that had to be computed; views into a layer's own array are not kept."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._stamps: dict[int, int] = {}
        self._grids: dict[int, Grid | None] = {}

    @property
    def kept_bytes(self) -> int:
        """What the kept slices take."""
        return sum(flat.nbytes for flat in self._kept.values())

    def forget(self, layer: Layer | None = None) -> None:
        """Slices of this layer, or all, are cut anew."""
        self._grids.clear()
        if layer is None:
            self._kept.clear()
        else:
            self._stamps[id(layer)] = self._stamps.get(id(layer), 0) + 1

    def grid_of(self, layer: Layer) -> Grid | None:
        """The layer's grid, see `contents.grid_of`; napari takes half a millisecond to say it, so it is kept."""
        if id(layer) not in self._grids:
            self._grids[id(layer)] = grid_of(layer)
        return self._grids[id(layer)]

    def cut(self, layer: Layer, plane: Plane, space: Phase, order: Literal[0, 1], background: float) -> NDArray[Any]:
        """(h, w) of a layer's array on a plane of `space`, in the layer's dtype."""
        study, grid = self._session.study, self.grid_of(layer)
        assert study is not None and grid is not None
        own = space_of(self._session, layer)
        through = study.transform.into(own) if own is not space and study.transform is not None else None
        key = (id(layer), self._stamps.get(id(layer), 0), plane, id(study.transform), space, order)
        if key in self._kept:
            return self._kept[key]
        made = cut(layer.data, grid, plane, order, through, background)
        if not np.may_share_memory(made, layer.data):
            if len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = made
        return made
