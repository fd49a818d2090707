"""Which patch comes next: drawn from (seed, stage, step) alone, so a resumed run needs no generator state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.training.cases import PhaseCase


def draw_patch(
    cases: Sequence[PhaseCase], patch_vox: tuple[int, int, int], rng: np.random.Generator
) -> tuple[PhaseCase, NDArray[np.int16], NDArray[np.uint8]]:
    """A case, and an HU and channel patch (d, h, w) of it.

    Three in four patches are centred near a voxel of a structure, each structure present being equally likely, so
    that adrenals are seen as often as livers; the rest lie anywhere.
    """
    case = cases[int(rng.integers(len(cases)))]
    shape = case.channels.shape
    present = [points for points in case.anchors[1:] if len(points)]
    if present and rng.random() < 0.75:
        points = present[int(rng.integers(len(present)))]
        jitter = [rng.integers(-p // 4, p // 4 + 1) for p in patch_vox]
        centre = points[rng.integers(len(points))] + jitter
    else:
        centre = np.array([rng.integers(n) for n in shape])
    start = [int(np.clip(c - p // 2, 0, max(n - p, 0))) for c, p, n in zip(centre, patch_vox, shape, strict=True)]
    window = tuple(slice(s, s + p) for s, p in zip(start, patch_vox, strict=True))
    hu, channels = np.asarray(case.hu[window]), case.channels[window]
    pad = [(0, p - n) for p, n in zip(patch_vox, hu.shape, strict=True)]
    if any(after for _, after in pad):
        hu, channels = np.pad(hu, pad, constant_values=-1024), np.pad(channels, pad)
    return case, hu, channels
