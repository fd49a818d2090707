"""The part of a body model that is being painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.phantom.atlas_fields import Array, Fields
from napari_multiphase.volume import Grid


@dataclass
class Canvas:
    """A part of a body model: grid, tissue per voxel, depth inside it (mm), label, fields of two scales."""

    grid: Grid
    tissue: NDArray[np.uint8]
    depth_mm: Array
    labels: NDArray[np.uint8]
    coarse: Array
    fine: Array
    fields: Fields

    @property
    def axes_mm(self) -> tuple[Array, Array, Array]:
        """z, y, x of the voxels, to be broadcast."""
        z, y, x = (
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.grid.origin_mm, self.grid.spacing_mm, self.grid.shape, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]
