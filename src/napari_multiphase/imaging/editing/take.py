"""Take one structure, or a part of it, from another label map of the same grid."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.editing.region import Box, Change, put, structure_box, whole


def take(
    labels: NDArray[np.uint8],
    other: NDArray[np.uint8],
    structure: int,
    *,
    over: Collection[int] = (),
    within: Box | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Change:
    """The structure becomes what `other` (D, H, W) says it is.

    Parameters
    ----------
    within : only in this box; elsewhere the structure stays as it is.
    seen : (D, H, W), where `other` knows anything: what the other scan does not reach stays as it is.
    """
    if other.shape != labels.shape:
        raise ValueError(f"labels have shape {labels.shape}, those to take from {other.shape}")
    within = within or whole(labels)
    boxes = [box for source in (labels, other) if (box := structure_box(source, structure, within)) is not None]
    if not boxes:
        return None
    z, y, x = (slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    mask = other[z, y, x] == structure
    if seen is not None:
        mask = np.where(seen[z, y, x], mask, labels[z, y, x] == structure)
    return put(labels, (z, y, x), mask, structure, over)
