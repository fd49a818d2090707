"""Distances between the surfaces of two masks, in mm.

S(.) are the foreground voxels with a face neighbour (6 in 3-D, 4 in 2-D) that is background or outside the array;
d(x, S) is the Euclidean distance between voxel centres. An empty mask has no surface: the figures are NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import bounding_box

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Both directed sets of distances in mm: from every voxel of S(P) to S(G), and of S(G) to S(P)."""

    from_prediction_mm: NDArray[np.float64]
    from_reference_mm: NDArray[np.float64]

    @property
    def pooled_mm(self) -> NDArray[np.float64]:
        """Both sets together; empty where either mask is."""
        if not (self.from_prediction_mm.size and self.from_reference_mm.size):
            return np.empty(0)
        return np.concatenate([self.from_prediction_mm, self.from_reference_mm])

    @property
    def assd_mm(self) -> float:
        """Average symmetric surface distance: the pooled mean, not the mean of the two directed means."""
        return float(self.pooled_mm.mean()) if self.pooled_mm.size else float("nan")

    @property
    def rmsd_mm(self) -> float:
        """Root of the pooled mean of squared distances."""
        return float(np.sqrt(np.square(self.pooled_mm).mean())) if self.pooled_mm.size else float("nan")

    @property
    def hd_mm(self) -> float:
        """Hausdorff distance: the largest distance of both directions."""
        return float(self.pooled_mm.max()) if self.pooled_mm.size else float("nan")


def surface(mask: NDArray[Any], unknown: NDArray[Any] | None = None) -> Mask:
    """The surface voxels of `mask` (any number of axes), same shape, bool.

    Where `unknown` is set nobody knows what is there: such voxels are not background, so that the border of a
    reviewed region does not count as an organ's surface.
    """
    inside = mask.astype(bool)
    solid = np.pad(inside if unknown is None else inside | unknown.astype(bool), 1)
    buried = np.ones(inside.shape, bool)
    core = tuple(slice(1, -1) for _ in range(inside.ndim))
    for axis in range(inside.ndim):
        for side in (slice(0, -2), slice(2, None)):
            buried &= solid[(*core[:axis], side, *core[axis + 1 :])]
    return inside & ~buried


def surface_distances(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing_mm: Sequence[float],
    unknown: NDArray[Any] | None = None,
) -> SurfaceDistances:
    """Distances between the surfaces of two masks of one shape; `spacing_mm` in the order of the arrays' axes.

    Work is done in the bounding box of both masks. `unknown` voxels belong to neither mask, see `surface`.
    """
    if prediction.shape != reference.shape or len(spacing_mm) != prediction.ndim:
        raise ValueError(f"shapes {prediction.shape}, {reference.shape} and spacing {tuple(spacing_mm)} do not agree")
    p, g = prediction.astype(bool), reference.astype(bool)
    if unknown is not None:
        p, g = p & ~unknown.astype(bool), g & ~unknown.astype(bool)
    box = bounding_box(p | g, margin=1)
    if box is None or not (p.any() and g.any()):
        return SurfaceDistances(np.empty(0), np.empty(0))
    hidden = None if unknown is None else unknown[box]
    surface_p, surface_g = surface(p[box], hidden), surface(g[box], hidden)
    spacing = tuple(float(s) for s in spacing_mm)
    return SurfaceDistances(_distances_mm(surface_p, surface_g, spacing), _distances_mm(surface_g, surface_p, spacing))


def _distances_mm(at: Mask, to: Mask, spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Distance to the nearest voxel of `to`, at each voxel of `at`."""
    if not (at.any() and to.any()):
        return np.empty(0)
    away = np.ascontiguousarray(~to).view(np.uint8)
    anisotropy = spacing_mm if len(spacing_mm) > 1 else spacing_mm[0]
    return np.asarray(edt.edt(away, anisotropy=anisotropy, black_border=False)[at], np.float64)
