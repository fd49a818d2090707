"""Where the patient is: a coarse mask that tells the engine which tiles are worth running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.imaging.components import largest_component
from napari_multiphase.volume import Grid

COARSE_MM = 4.0
TISSUE_HU = -300.0
MARGIN_MM = 4.0
_OPENING_MM = 8.0  # thinner sheets (table top, blanket, tubes) are cut off the body


@dataclass(frozen=True)
class Body:
    """The body with a margin, on a coarse grid, to be asked about any grid in the same space.

    `coarse` is bool (d, h, w) with (z, y, x) `spacing_mm` and `origin_mm` as in `Grid`; `found` is False where nothing
    in the scan looks like a body, and then the mask is True everywhere, so that nothing is left out.
    """

    coarse: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    found: bool = True

    def indices(self, target: Grid, axis: int) -> NDArray[np.intp]:
        """Coarse index of every index of `target` along `axis` (nearest; ascending)."""
        at_mm = target.origin_mm[axis] + target.spacing_mm[axis] * np.arange(target.shape[axis])
        at = (at_mm - self.origin_mm[axis]) / self.spacing_mm[axis]
        return np.clip(np.rint(at), 0, self.coarse.shape[axis] - 1).astype(np.intp)

    def on(self, target: Grid, slices: slice | None = None) -> NDArray[np.bool_]:
        """bool (D, H, W) of `target`, or of its z range `slices`."""
        z, y, x = (self.indices(target, axis) for axis in range(3))
        return self.coarse[z[slices or slice(None)]][:, y][:, :, x]


def find_body(data_hu: NDArray[Any], grid: Grid, margin_mm: float = MARGIN_MM) -> Body:
    """Where the patient is in a scan (D, H, W) on `grid`, without the table, holes (lungs, bowel gas) filled.

    Found on every n-th voxel, about 4 mm apart: threshold -300 HU, opening by 8 mm in plane, largest component, filling
    slice by slice, growth by `margin_mm`. A mask for saving work, not a segmentation of the skin.
    """
    steps = [max(1, round(COARSE_MM / s)) for s in grid.spacing_mm]
    coarse = np.asarray(data_hu[:: steps[0], :: steps[1], :: steps[2]]) > TISSUE_HU
    z, y, x = (s * n for s, n in zip(grid.spacing_mm, steps, strict=True))
    if not coarse.any():
        return Body(np.ones((1, 1, 1), bool), (z, y, x), grid.origin_mm, found=False)
    return Body(_body(coarse, (z, y, x), margin_mm), (z, y, x), grid.origin_mm)


def body_mask(
    data_hu: NDArray[Any], grid: Grid, target: Grid | None = None, margin_mm: float = MARGIN_MM
) -> NDArray[np.bool_]:
    """`find_body` as bool (D, H, W) on `target` (in the same space), `grid` by default."""
    return find_body(data_hu, grid, margin_mm).on(target or grid)


def _body(coarse: NDArray[np.bool_], spacing_mm: tuple[float, ...], margin_mm: float) -> NDArray[np.bool_]:
    in_plane_mm = float(np.mean(spacing_mm[1:]))
    size = max(1, round(_OPENING_MM / in_plane_mm))
    opened = ndimage.binary_opening(coarse, np.ones((1, size + 1, size + 1), bool))
    body = largest_component(opened if opened.any() else coarse, connectivity=6)
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    for axis, spacing in enumerate(spacing_mm):
        # A voxel stands for everything up to the next one, so each direction grows by at least one.
        reach = max(1, int(np.ceil(margin_mm / spacing)))
        body = ndimage.maximum_filter1d(body.view(np.uint8), 2 * reach + 1, axis=axis, mode="constant").view(bool)
    return body
