"""Grow from here: what hangs together with a seed in a range of HU, up to a distance."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import components, fill_holes
from napari_multiphase.imaging.editing.region import Box, Change, Spacing, Voxel, add, box_around, free

LEARN_MM = 4.0
"""Radius of the neighbourhood from which a range of HU is learnt."""
_SPREADS = 2.5
_QUARTER = 0.3186
_LEAST_HU, _MOST_HU = 10.0, 75.0


def grow_from(
    labels: NDArray[np.uint8],
    hu: NDArray[Any],
    seed: Voxel,
    spacing_mm: Spacing,
    structure: int,
    range_hu: tuple[float, float],
    *,
    most_mm: float,
    axis: int | None = None,
    over: Collection[int] = (),
) -> Change:
    """Give `structure` what can be reached from `seed` through voxels in `range_hu`, no further than `most_mm` from it.

    With `axis`, only in the slice across that axis. Ways lead by the sides of voxels and never through another
    structure unless `over` names it. Small cavities (noise outside the range) that the region encloses are filled.
    """
    box = _around(seed, most_mm, spacing_mm, labels.shape, axis)
    at = tuple(s - b.start for s, b in zip(seed, box, strict=True))
    values, part = hu[box], labels[box]
    within = _ball(box, seed, spacing_mm, most_mm)
    allowed = within & free(part, structure, over)
    way = allowed & (values >= range_hu[0]) & (values <= range_hu[1])
    if not way[at]:
        return None
    parts, _ = components(way, 6)
    mask = parts == parts[at]
    return add(labels, box, _filled(mask) & allowed, structure, over)


def learn_range(
    hu: NDArray[Any], seed: Voxel, spacing_mm: Spacing, *, axis: int | None = None, radius_mm: float = LEARN_MM
) -> tuple[float, float]:
    """The range of HU of the tissue around `seed`: its median and 2.5 standard deviations to each side.

    Both come from the neighbours that are most like the seed's own 3 x 3 median, so that a seed near a border learns
    its own side: the nearest half gives the median; how far the nearest quarter reaches gives the deviation (0.3186 of
    it in a normal distribution). At least 10 and at most 75 HU to each side.
    """
    box = _around(seed, radius_mm, spacing_mm, hu.shape, axis)
    values = np.asarray(hu[box], np.float64)[_ball(box, seed, spacing_mm, radius_mm)]
    across = 0 if axis is None else axis
    z, y, x = (slice(s, s + 1) if a == across else slice(max(0, s - 1), s + 2) for a, s in enumerate(seed))
    apart = np.abs(values - float(np.median(hu[z, y, x])))
    alike = np.argsort(apart, kind="stable")
    centre = float(np.median(values[alike[: max(1, len(alike) // 2)]]))
    reach = _SPREADS * float(apart[alike[len(alike) // 4]]) / _QUARTER
    reach = min(max(reach, _LEAST_HU), _MOST_HU)
    return centre - reach, centre + reach


def _around(seed: Voxel, reach_mm: float, spacing_mm: Spacing, shape: tuple[int, ...], axis: int | None) -> Box:
    box = box_around(seed, reach_mm, spacing_mm, shape)
    if axis is None:
        return box
    z, y, x = (slice(seed[a], seed[a] + 1) if a == axis else s for a, s in enumerate(box))
    return z, y, x


def _ball(box: Box, centre: Voxel, spacing_mm: Spacing, radius_mm: float) -> NDArray[np.bool_]:
    z, y, x = (
        ((np.arange(part.start, part.stop) - c) * s) ** 2 for part, c, s in zip(box, centre, spacing_mm, strict=True)
    )
    reached = z[:, None, None] + y[None, :, None] + x[None, None, :] <= radius_mm**2 * (1 + 1e-9)
    return np.asarray(reached, bool)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With cavities filled, in a slice as an area, else as a volume."""
    flat = [axis for axis, count in enumerate(mask.shape) if count == 1]
    if not flat:
        return fill_holes(mask)
    # Two like slices above and below close the area, so that a hole in it is a cavity.
    solid = np.ones_like(mask)
    return np.take(fill_holes(np.concatenate([solid, mask, solid], flat[0])), [1], flat[0])
