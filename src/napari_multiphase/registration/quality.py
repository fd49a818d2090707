"""Figures that say how well two phases fit: mutual information, correlation, bones, bodies."""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.field import PointMap, map_points
from napari_multiphase.metrics.surface import surface
from napari_multiphase.registration.thumb import CLIP_HU, Thumb
from napari_multiphase.studies.landmarks import Coarse, find_spine

BONE_HU = 250.0
FAR_MM = 15.0
"""Distances are cut here: a bone that only one scan shows must not decide."""
POINTS = 300_000
"""Voxels of the body that the figures are taken from, evenly chosen."""
LEAST_RIGID_NCC, CLEAR_RIGID_NCC, LEAST_DENSE_NCC = 0.70, 0.78, 0.90
"""Correlations that tell one patient's scans. Rigid: phantoms with 30 mm of breathing 0.72 and more, real pairs 0.83;
strangers 0.58 to 0.74, mirrored or turned scans at most 0.52. Deformed: 0.96, 0.90; strangers at most 0.88."""
_OUTSIDE = -3000.0


@dataclass(frozen=True)
class Figures:
    """One alignment: mutual information in nats, correlation, mean bone distance in mm, Dice of the bodies."""

    mi: float
    ncc: float
    bone_mm: float
    body_dice: float


def measure(through: PointMap, fixed: Thumb, moving: Thumb) -> Figures:
    """Figures of a map from fixed to moving points (LPS mm). Only points inside both grids count."""
    index = np.argwhere(fixed.body)
    index = index[:: max(1, len(index) // POINTS)]
    points = map_points(through, fixed.at_mm(index))
    there = moving.sample(moving.hu, points, _OUTSIDE)
    inside = there > -1500
    here = fixed.hu[tuple(index[inside].T)]
    a, b = np.clip(here, *CLIP_HU), np.clip(there[inside], *CLIP_HU)
    if a.size < 100:
        return Figures(0.0, 0.0, FAR_MM, 0.0)
    return Figures(
        _mutual_information(a, b), _correlation(a, b), _bone_mm(through, fixed, moving), _dice(points, moving)
    )


def compare(before: Figures, after: Figures) -> dict[str, float]:
    """Both as one flat dictionary of JSON numbers."""
    out = {}
    for name in ("mi", "ncc", "bone_mm", "body_dice"):
        out[f"{name}_before"] = round(getattr(before, name), 4)
        out[f"{name}_after"] = round(getattr(after, name), 4)
    return out


def unlike(rigid: Figures, dense: Figures | None = None) -> dict[str, str]:
    """A sentence by the name "warning" where an aligned pair does not look like one patient's, else nothing."""
    found = rigid if dense is None else dense
    if dense is None and rigid.ncc >= LEAST_RIGID_NCC:
        return {}
    if dense is not None and (rigid.ncc >= CLEAR_RIGID_NCC or dense.ncc >= LEAST_DENSE_NCC):
        return {}
    return {
        "warning": f"The scans are unlike even once aligned (correlation {found.ncc:.2f}): they may show different "
        "patients or parts of the body, or one is mirrored or turned. Look at them laid over each other first."
    }


def _mutual_information(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    joint, _, _ = np.histogram2d(a, b, bins=48, range=(CLIP_HU, CLIP_HU))
    p = joint / joint.sum()
    independent = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / independent[seen])).sum())


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _bone_mm(through: PointMap, fixed: Thumb, moving: Thumb) -> float:
    """Mean distance from the surface of the fixed scan's vertebrae to any bone surface of the moving one.

    The box around the spine leaves out kidneys, vessels and bowel contrast, which are as bright as bone.
    """
    from_bone = surface((fixed.hu > BONE_HU) & fixed.body & _vertebrae(fixed))
    to_bone = surface((moving.hu > BONE_HU) & moving.body)
    if not (from_bone.any() and to_bone.any()):
        return FAR_MM
    away = edt.edt((~to_bone).view(np.uint8), anisotropy=moving.grid.spacing_mm, black_border=False)
    distances = moving.sample(away, map_points(through, fixed.at_mm(np.argwhere(from_bone))), _OUTSIDE)
    distances = distances[distances >= 0]
    return float(np.minimum(distances, FAR_MM).mean()) if distances.size else FAR_MM


def _vertebrae(thumb: Thumb) -> NDArray[np.bool_]:
    """A box around the spine in every slice, from the middle of the vertebra backwards."""
    _, sy, sx = thumb.grid.spacing_mm
    spine = find_spine(Coarse(thumb.hu, thumb.body, thumb.grid.spacing_mm))
    y = (np.arange(thumb.grid.shape[1])[None, :, None] - spine[:, 0][:, None, None]) * sy
    x = (np.arange(thumb.grid.shape[2])[None, None] - spine[:, 1][:, None, None]) * sx
    return np.asarray((np.abs(x) < 32) & (y > -12) & (y < 60), bool)


def _dice(points_mm: NDArray[np.float64], moving: Thumb) -> float:
    """Share of the fixed body that meets the moving body, among its points inside the moving grid."""
    met = moving.sample(moving.body.astype(np.float32), points_mm, -1.0)
    met = met[met >= 0]
    return float((met > 0.5).mean()) if met.size else 0.0
