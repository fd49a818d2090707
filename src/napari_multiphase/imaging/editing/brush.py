"""A brush that keeps to a range of HU."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import components
from napari_multiphase.imaging.editing.region import Change, Spacing, Voxel, add, box_around, changed
from napari_multiphase.labels import BACKGROUND


def brush(
    labels: NDArray[np.uint8],
    hu: NDArray[Any],
    centres: Sequence[Voxel],
    radius_mm: float,
    spacing_mm: Spacing,
    structure: int,
    *,
    range_hu: tuple[float, float] = (-np.inf, np.inf),
    axis: int | None = None,
    connected: bool = False,
    erase: bool = False,
    over: Collection[int] = (),
) -> Change:
    """Give the voxels around `centres` whose HU lie in `range_hu` (ends included) to `structure`.

    Parameters
    ----------
    centres : voxels (z, y, x) that the brush visited, at least one.
    radius_mm : of the ball, or with `axis` of the disc in the slice across that axis.
    connected : only what hangs together with a centre, by the sides of voxels, inside brush and range.
    erase : take these voxels from the structure instead.
    """
    d, h, w = labels.shape
    boxes = [box_around(centre, radius_mm, spacing_mm, (d, h, w)) for centre in centres]
    z, y, x = (slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    if axis is not None:
        along = [int(centre[axis]) for centre in centres]
        flat = slice(min(along), max(along) + 1)
        z, y, x = (flat if a == axis else s for a, s in enumerate((z, y, x)))
    box = (z, y, x)
    corner = np.array([part.start for part in box])
    mask = np.zeros(labels[box].shape, bool)
    for centre, around in zip(np.asarray(centres), boxes, strict=True):
        spread = [np.arange(part.start, part.stop) for part in around]
        if axis is not None:
            spread[axis] = np.array([centre[axis]])
        squares = [((s - c) * mm) ** 2 for s, c, mm in zip(spread, centre, spacing_mm, strict=True)]
        ball = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
        place = tuple(slice(int(s[0] - o), int(s[-1] - o) + 1) for s, o in zip(spread, corner, strict=True))
        mask[place] |= ball <= radius_mm**2 * (1 + 1e-9)
    values = hu[box]
    mask &= (values >= range_hu[0]) & (values <= range_hu[1])
    if connected:
        parts, count = components(mask, 6)
        seeds = np.unique(parts[tuple((np.asarray(centres) - corner).T)])
        hit = np.zeros(count + 1, bool)
        hit[seeds] = True
        hit[0] = False
        mask = hit[parts]
    if erase:
        after = labels[box].copy()
        after[mask & (after == structure)] = BACKGROUND
        return changed(labels, box, after)
    return add(labels, box, mask, structure, over)
