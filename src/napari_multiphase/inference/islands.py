"""Parts that lie far from their organ, left out: a network sees a tile at a time and cannot know where the organ is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.components import large_components
from napari_multiphase.labels import BACKGROUND, ids_of_group, name_of
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

LEAST_SHARE = 0.25
"""Of an organ's largest part: smaller ones are islands."""
_HALF = (128, 127)
"""Probabilities (of 255) of background and of what an island was taken for: nobody knows."""
_UNSURE = 1
"""Encoded confidence of an island's voxels: the least that is not "never seen"."""

Gone = Callable[[int, NDArray[np.uint8]], NDArray[np.bool_]]
"""(index z, labels (H, W) of that slice) -> where islands are."""


def without_islands(
    found: PhasePrediction, organs: Sequence[int], grid: Grid, network_mm: tuple[float, float, float]
) -> tuple[PhasePrediction, dict[int, float]]:
    """`found` without the islands of `organs`, changed in place where it is in memory; and their ml by organ.

    An organ's lesions belong to it. Islands become background with the least confidence, so that they stand high
    among the uncertain regions; what a voxel was taken for stays its second class. Parts are found on every n-th voxel
    (about the network's spacing `network_mm`), which is all that the network could tell apart.
    """
    assert found.two_best is not None
    gone, seen = _islands(
        found.labels, organs, [max(1, round(n / s)) for n, s in zip(network_mm, grid.spacing_mm, strict=True)]
    )
    if not seen:
        return found, {}
    first, second, p_first, p_second = (
        np.array(a) if not a.flags.writeable else a
        for a in (found.labels, found.two_best.second, found.two_best.p_first, found.two_best.p_second)
    )
    confidence = found.confidence if found.confidence.flags.writeable else np.array(found.confidence)
    lost = dict.fromkeys(seen, 0)
    for z in range(len(first)):
        where = gone(z, first[z])
        if where.any():
            second[z][where] = first[z][where]
            for organ in seen:
                lost[organ] += int(np.isin(first[z][where], ids_of_group(organ)).sum())
            first[z][where], confidence[z][where] = BACKGROUND, _UNSURE
            p_first[z][where], p_second[z][where] = _HALF
    best = TwoBest(first, second, p_first, p_second)
    return PhasePrediction(first, confidence, best), {i: n * grid.voxel_ml for i, n in lost.items() if n}


def island_words(phase: Phase, ml: Mapping[int, float]) -> str:
    """What was left out, in a sentence; nothing to say of less than a millilitre."""
    parts = [f"{name_of(organ)} {volume:.0f} ml" for organ, volume in ml.items() if volume >= 1]
    return f"{phase}: parts far from their organ were left out ({', '.join(parts)})" if parts else ""


def _islands(labels: NDArray[np.uint8], organs: Sequence[int], every: Sequence[int]) -> tuple[Gone, list[int]]:
    """Where islands are, and of which organs there are any."""
    from scipy import ndimage  # not before it is needed

    coarse = np.ascontiguousarray(labels[tuple(slice(None, None, n) for n in every)])
    near: dict[int, NDArray[np.bool_]] = {}
    for organ in organs:
        mask = np.isin(coarse, ids_of_group(organ))
        kept = large_components(mask, LEAST_SHARE, connectivity=26)
        if np.count_nonzero(kept) < np.count_nonzero(mask):
            near[organ] = ndimage.binary_dilation(kept, np.ones((3, 3, 3), bool))
    index = [
        np.minimum((np.arange(n) + s // 2) // s, c - 1)
        for n, s, c in zip(labels.shape, every, coarse.shape, strict=True)
    ]

    def gone(z: int, ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
        out = np.zeros(ids.shape, bool)
        for organ, close in near.items():
            out |= np.isin(ids, ids_of_group(organ)) & ~close[index[0][z]][np.ix_(index[1], index[2])]
        return out

    return gone, list(near)
