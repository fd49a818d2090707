"""Fusing two phases, and the confidence of a result. NumPy only: the window calls it while a slider is dragged.

Of every voxel the two best classes and their probabilities are kept (`TwoBest`). The fused probability of class c is
the mixture ``phase_weight * P_arterial(c) + (1 - phase_weight) * P_venous(c)``, taken over the up to four kept
classes; a class that a phase did not keep counts 0 there.

Error of keeping two classes. A phase with best probabilities p1 >= p2 gives any class it dropped at most
``m = min(p2, 1 - p1 - p2)``, which never exceeds 1/3. With w = phase_weight a fused probability is therefore too low
by at most ``e = w * m_arterial + (1 - w) * m_venous``, and never too high, but for 1/510 from rounding to uint8. The
fused label is the full mixture's wherever it leads its kept rival by more than e + 1/255; elsewhere the full mixture
gives the class that was chosen at most e + 1/255 less than its own best (`dropped_bound`).

Confidence (PAPER 002, Eq. 3, in its largest-over-second-largest form): M = 1 - exp(1 - r), r = p1 / p2. M is flat
above r = 10, so files hold ``round(255 * clip(log r / log 1000, 0, 1))``, which is monotone in M. For one phase r is
taken before quantising. For the fused mixture only quantised probabilities exist: a second class below 1/510 counts as
absent, so that above r = 170 the encoded value is off by up to a tenth of its range (M is 1 there either way).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.field import DenseField, PointMap
from napari_multiphase.study import TwoBest
from napari_multiphase.volume import Grid

LOG_RATIO_MAX = float(np.log(1000.0))
"""Confidence is full from a ratio of 1000 on."""

_CHUNK = 32_768  # voxels fused at once: their intermediates stay in the processor's cache
_FIELD_VOX = 1_000_000  # voxels of a dense map that are worked out at once
_LEAST_WEIGHT = 1e-9  # so that the only phase that sees a voxel decides it even at weight 0; lost beside any other

_Places = list[NDArray[np.float32]]
"""For each axis (z, y, x) of the source, where the voxels (H, W) of one slice lie, in voxels."""


def encode_confidence(ratio: NDArray[Any]) -> NDArray[np.uint8]:
    """r >= 1 (any shape, inf allowed) -> uint8, ``round(255 * clip(log r / log 1000, 0, 1))``."""
    with np.errstate(divide="ignore"):
        scaled = np.log(np.asarray(ratio, np.float32))
    scaled *= np.float32(255.0 / LOG_RATIO_MAX)
    np.clip(scaled, 0.0, 255.0, out=scaled)
    scaled += np.float32(0.5)
    return scaled.astype(np.uint8)


def decode_ratio(encoded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The ratio r in [1, 1000] that `encoded` stands for."""
    return np.exp(np.asarray(encoded, np.float32) * np.float32(LOG_RATIO_MAX / 255.0))


def eq3(ratio: NDArray[Any]) -> NDArray[Any]:
    """Eq. 3: M = 1 - exp(1 - r) in [0, 1] for r = largest over second-largest probability, r >= 1 (inf gives 1)."""
    return -np.expm1(1.0 - np.asarray(ratio))


_EQ3_OF_ENCODED = eq3(decode_ratio(np.arange(256, dtype=np.uint8))).astype(np.float32)


def confidence_map(encoded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Eq. 3's M in [0, 1], float32, of an encoded confidence of any shape."""
    return _EQ3_OF_ENCODED[encoded]


def fuse(arterial: TwoBest, venous: TwoBest, phase_weight: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The mixture's best class and its confidence, voxel by voxel.

    Parameters
    ----------
    arterial, venous : on one grid, any shape (a slice works). A voxel that a phase did not see has ``p_first`` 0 and
        leaves the decision to the other phase.
    phase_weight : weight of the arterial phase, in [0, 1]; 0 is venous alone.

    Returns
    -------
    (labels, confidence) : uint8 of the same shape.
    """
    shape = arterial.first.shape
    if venous.first.shape != shape:
        raise ValueError(f"phases have shapes {shape} and {venous.first.shape}")
    if not 0.0 <= phase_weight <= 1.0:
        raise ValueError(f"phase_weight must lie in [0, 1], not {phase_weight}")
    labels, confidence = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    flat = [np.reshape(a, -1) for a in (*_arrays(arterial), *_arrays(venous), labels, confidence)]
    weight = min(max(phase_weight, _LEAST_WEIGHT), 1 - _LEAST_WEIGHT)
    for start in range(0, flat[0].size, _CHUNK):
        part = [a[start : start + _CHUNK] for a in flat]
        _fuse_chunk(part[:4], part[4:8], weight, part[8], part[9])
    return labels, confidence


def _arrays(best: TwoBest) -> tuple[NDArray[np.uint8], ...]:
    return best.first, best.second, best.p_first, best.p_second


def _fuse_chunk(
    arterial: list[NDArray[np.uint8]],
    venous: list[NDArray[np.uint8]],
    weight: float,
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
) -> None:
    """Score the four candidates; a class that both phases name is scored once, by its first mention."""
    a1, a2, pa1, pa2 = arterial
    v1, v2, pv1, pv2 = venous
    w, u = np.float32(weight), np.float32(1.0 - weight)
    wa1, wa2, uv1, uv2 = pa1 * w, pa2 * w, pv1 * u, pv2 * u
    wa2 *= a2 != a1
    uv2 *= v2 != v1
    same11, same12, same21, same22 = a1 == v1, a1 == v2, a2 == v1, a2 == v2
    wa1 += same11 * uv1
    wa1 += same12 * uv2
    fresh2 = a2 != a1
    wa2 += (same21 & fresh2) * uv1
    wa2 += (same22 & fresh2) * uv2
    uv1 *= ~(same11 | same21)
    uv2 *= ~(same12 | same22)
    a_leads, v_leads = wa1 >= wa2, uv1 >= uv2
    a_high, v_high = np.maximum(wa1, wa2), np.maximum(uv1, uv2)
    a_low, v_low = np.minimum(wa1, wa2), np.minimum(uv1, uv2)
    best = np.maximum(a_high, v_high)
    # The runner-up is the lower of the two leaders, or the second of the pair that won.
    runner = np.maximum(np.minimum(a_high, v_high), np.maximum(a_low, v_low))
    np.copyto(labels, np.where(a_high >= v_high, np.where(a_leads, a1, a2), np.where(v_leads, v1, v2)))
    np.copyto(confidence, encode_confidence(_ratio(best, runner)))


def _ratio(best: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """best / second, at least 1; a vanishing second gives a very large, finite number."""
    ratio = np.maximum(best, np.float32(1e-30)) / np.maximum(second, np.float32(1e-30))
    return np.asarray(ratio, np.float32)


def dropped_bound(arterial: TwoBest, venous: TwoBest, phase_weight: float) -> NDArray[np.float32]:
    """e of this module's docstring: how much the full mixture may exceed a kept fused probability, before rounding."""

    def phase(best: TwoBest) -> NDArray[np.float32]:
        p1, p2 = best.p_first / np.float32(255), best.p_second / np.float32(255)
        return np.minimum(p2, np.maximum(1 - p1 - p2, 0))

    bound = np.float32(phase_weight) * phase(arterial) + np.float32(1 - phase_weight) * phase(venous)
    return np.asarray(bound, np.float32)


def carry(two_best: TwoBest, from_grid: Grid, to_grid: Grid, through: PointMap, slices: slice | None = None) -> TwoBest:
    """`two_best` on `from_grid`, seen on `to_grid` (nearest neighbour); see `carry_maps`."""
    return TwoBest(*carry_maps(_arrays(two_best), from_grid, to_grid, through, slices))


def carry_maps(
    maps: Sequence[NDArray[np.uint8]],
    from_grid: Grid,
    to_grid: Grid,
    through: PointMap,
    slices: slice | None = None,
) -> tuple[NDArray[np.uint8], ...]:
    """`maps`, each (D, H, W) uint8 on `from_grid`, seen on `to_grid` (nearest neighbour).

    Parameters
    ----------
    through : points of `to_grid` -> points of `from_grid`, LPS mm: 4 x 4 on (x, y, z, 1), or dense.
    slices : range of `to_grid`'s z to fill; all of them by default.

    Returns
    -------
    Each of shape (slices, H, W), 0 outside `from_grid`'s field of view.
    """
    z0, z1, _ = (slices or slice(None)).indices(to_grid.shape[0])
    if isinstance(through, DenseField):
        rows = _through_field(from_grid, to_grid, through, z0, z1)
    else:
        matrix = np.linalg.inv(from_grid.affine_mm) @ np.asarray(through, float) @ to_grid.affine_mm
        if np.allclose(matrix, np.eye(4), atol=1e-6) and from_grid.shape == to_grid.shape:
            return tuple(a[z0:z1] for a in maps)
        rows = _through_matrix(matrix, to_grid.shape, z0, z1)
    out = tuple(np.zeros((max(0, z1 - z0), *to_grid.shape[1:]), np.uint8) for _ in maps)
    for row, places in enumerate(rows):
        index, inside = _nearest(places, from_grid.shape)
        for target, source in zip(out, maps, strict=True):
            target[row][inside] = np.take(np.reshape(source, -1), index)
    return out


def _through_matrix(matrix: NDArray[np.float64], shape: tuple[int, int, int], z0: int, z1: int) -> Iterator[_Places]:
    """Where the voxels of each slice lie in the source grid, in voxels; `matrix` 4 x 4 takes index to index."""
    y, x = (np.arange(n, dtype=np.float32) for n in shape[1:])
    plane = [(matrix[a, 1] * y[:, None] + matrix[a, 2] * x[None, :]).astype(np.float32) for a in range(3)]
    for z in range(z0, z1):
        offset = matrix[:3, 0] * z + matrix[:3, 3]
        yield [p + np.float32(o) for p, o in zip(plane, offset, strict=True)]


def _through_field(from_grid: Grid, to_grid: Grid, field: DenseField, z0: int, z1: int) -> Iterator[_Places]:
    step = max(1, _FIELD_VOX // (to_grid.shape[1] * to_grid.shape[2]))
    for start in range(z0, z1, step):
        slab = field.voxels(from_grid, to_grid, slice(start, min(start + step, z1)))
        yield from (list(slab[:, z]) for z in range(slab.shape[1]))


def _nearest(places: _Places, shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat source indices of the voxels of one slice that lie in the source grid, and which those are."""
    parts = [np.floor(place + np.float32(0.5)) for place in places]
    inside = np.ones(parts[0].shape, bool)
    for part, count in zip(parts, shape, strict=True):
        inside &= (part >= 0) & (part < count)
    z, y, x = (part[inside].astype(np.int64) for part in parts)
    return (z * shape[1] + y) * shape[2] + x, inside
