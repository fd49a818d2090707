"""From any source grid to the canonical one and back.

A source grid is an index (i, j, k) and an affine to LPS mm. Where its axes run along the patient's, in any order and
direction, going canonical is a permutation with flips, and lossless. Anything else (oblique, sheared by gantry tilt,
unevenly spaced slices) is named in words and resampled once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.errors import UserError
from napari_multiphase.volume import Grid

AIR_HU = -1024.0
ALIGNED_DEG = 0.01
"""Axes closer than this to the patient's are taken as aligned: 0.09 mm over 500 mm, the noise of stored cosines."""
SMALLEST_SPACING_MM, LARGEST_SPACING_MM = 0.05, 20.0
MAX_VOXELS = 2**30
_SLAB_VOX = 4_000_000


@dataclass(frozen=True)
class Lattice:
    """A source grid: where the voxels of a file lie.

    Attributes
    ----------
    shape : (I, J, K) in the file's axis order.
    affine_mm : 4 x 4, (i, j, k, 1) -> LPS mm (x, y, z, 1).
    stored_k : positions of the slices that exist, in units of k, ascending; None where every k has one.
        Data are then stored only at these, and planes between them are interpolated.
    """

    shape: tuple[int, int, int]
    affine_mm: NDArray[np.float64]
    stored_k: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Axes:
    """How canonical axes run in the source: canonical axis a is source axis `order[a]`, reversed where `flip[a]`."""

    order: tuple[int, int, int]
    flip: tuple[bool, bool, bool]


def check_affine(affine_mm: NDArray[np.float64], shape: tuple[int, ...], name: str) -> None:
    """Raise a UserError that says what is wrong with a source grid; `name` is the file."""
    if not np.isfinite(affine_mm).all():
        raise UserError(f"{name}: its position matrix holds values that are not numbers; export the scan again")
    spacing = np.linalg.norm(affine_mm[:3, :3], axis=0)
    if spacing.min() < 1e-9 or abs(np.linalg.det(affine_mm[:3, :3] / np.maximum(spacing, 1e-12))) < 0.05:
        raise UserError(f"{name}: its position matrix is singular (two axes coincide); export the scan again")
    if spacing.min() < SMALLEST_SPACING_MM or spacing.max() > LARGEST_SPACING_MM:
        words = " x ".join(f"{s:.4g}" for s in spacing)
        raise UserError(
            f"{name}: voxels of {words} mm are not those of a CT scan "
            f"({SMALLEST_SPACING_MM:g} to {LARGEST_SPACING_MM:g} mm expected); correct the spacing in the file"
        )
    if np.abs(affine_mm[:3, 3]).max() > 1e5:
        raise UserError(f"{name}: its origin lies more than 100 m away; correct the position in the file")
    if min(shape) < 1 or int(np.prod([int(n) for n in shape])) > MAX_VOXELS:
        words = " x ".join(str(n) for n in shape)
        raise UserError(f"{name}: {words} voxels are more than can be opened ({MAX_VOXELS:,}); crop the scan first")


def canonical_axes(affine_mm: NDArray[np.float64]) -> Axes:
    """Which source axis runs most nearly along superior, posterior and left, each source axis used once."""
    directions = affine_mm[:3, :3] / np.linalg.norm(affine_mm[:3, :3], axis=0)
    best: tuple[int, ...] = max(_PERMUTATIONS, key=lambda p: sum(abs(directions[2 - a, p[a]]) for a in range(3)))
    z, y, x = best
    flip = [bool(directions[2 - a, best[a]] < 0) for a in range(3)]
    return Axes((z, y, x), (flip[0], flip[1], flip[2]))


_PERMUTATIONS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def departures(lattice: Lattice) -> str:
    """In words, why the lattice is not a permutation of a canonical grid; empty where it is one."""
    affine, words = lattice.affine_mm, []
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes = canonical_axes(affine)
    angles = [_angle_deg(abs(directions[2 - a, axes.order[a]])) for a in range(3)]
    shear = max(90 - _angle_deg(abs(directions[:, p] @ directions[:, q])) for p, q in ((0, 1), (0, 2), (1, 2)))
    if shear > 2 * ALIGNED_DEG:
        words.append(f"sheared by {shear:.2f} degrees (gantry tilt)")
    if max(angles) > ALIGNED_DEG and (shear <= 2 * ALIGNED_DEG or min(angles) > ALIGNED_DEG):
        words.append(f"oblique by {max(angles):.2f} degrees")
    if lattice.stored_k is not None:
        words.append(_slice_words(lattice))
    return "; ".join(words)


def _angle_deg(cosine: float) -> float:
    # acos loses half its digits near 1, where aligned axes live
    cosine = min(1.0, cosine)
    return float(np.degrees(np.arctan2(np.sqrt(max(0.0, (1 - cosine) * (1 + cosine))), cosine)))


def _slice_words(lattice: Lattice) -> str:
    assert lattice.stored_k is not None
    steps = np.diff(lattice.stored_k)
    if np.allclose(lattice.stored_k, np.rint(lattice.stored_k), atol=0.02):
        missing = round(float(lattice.stored_k[-1])) + 1 - len(lattice.stored_k)
        return f"{missing} missing slice{'s' * (missing != 1)} interpolated"
    step_mm = float(np.linalg.norm(lattice.affine_mm[:3, 2]))
    return f"uneven slice steps of {steps.min() * step_mm:.2f} to {steps.max() * step_mm:.2f} mm"


def canonical_grid(lattice: Lattice) -> Grid:
    """The canonical grid of a lattice: the same voxels where it is aligned, else the box around them."""
    axes = canonical_axes(lattice.affine_mm)
    spacing_ijk = np.linalg.norm(lattice.affine_mm[:3, :3], axis=0)
    spacing = [float(spacing_ijk[axes.order[a]]) for a in range(3)]
    if not _turned(lattice):
        shape = [lattice.shape[axes.order[a]] for a in range(3)]
        middle = np.array([(n - 1) / 2 for n in lattice.shape] + [1.0])
        centre = (lattice.affine_mm @ middle)[2::-1]  # keeping the middle in place halves the worst error
        origin = [float(centre[a]) - (shape[a] - 1) / 2 * spacing[a] for a in range(3)]
    else:
        low, high = _box_mm(lattice)
        for a in range(3):  # a tilted axis is longer than the step it makes along the patient
            lean = abs(lattice.affine_mm[2 - a, axes.order[a]])
            spacing[a] = max(float(lean), 0.5 * spacing[a])
        shape = [int(np.ceil((high[a] - low[a]) / spacing[a] - 1e-6)) + 1 for a in range(3)]
        origin = [float((low[a] + high[a]) / 2) - (shape[a] - 1) / 2 * spacing[a] for a in range(3)]
    d, h, w = shape
    return Grid((d, h, w), (spacing[0], spacing[1], spacing[2]), (origin[0], origin[1], origin[2]))


def _turned(lattice: Lattice) -> bool:
    return bool(departures(Lattice(lattice.shape, lattice.affine_mm)))


def _box_mm(lattice: Lattice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    i, j, k = (n - 1 for n in lattice.shape)
    corners = np.array([(a, b, c, 1.0) for a in (0, i) for b in (0, j) for c in (0, k)])
    points = (lattice.affine_mm @ corners.T)[2::-1]
    return points.min(axis=1), points.max(axis=1)


def to_canonical(
    data: NDArray[Any], lattice: Lattice, *, order: Literal[0, 1], background: float
) -> tuple[NDArray[Any], Grid, str]:
    """Source data as a canonical array.

    `data` is (I, J, K), or (I, J, number of stored slices). Returns the (D, H, W) array (a view where nothing is
    resampled), its grid, and in words what was resampled.
    """
    words, grid = departures(lattice), canonical_grid(lattice)
    if int(np.prod(grid.shape, dtype=object)) > MAX_VOXELS:
        raise UserError(f"the scan is {words}: straightened it has more voxels than can be opened; crop it first")
    if not words:
        return _permuted(data, canonical_axes(lattice.affine_mm)), grid, ""
    if not _turned(lattice):
        full = _filled(data, lattice, order)
        return _permuted(full, canonical_axes(lattice.affine_mm)), grid, words
    matrix = np.linalg.inv(lattice.affine_mm) @ grid.affine_mm
    return _sample(data, matrix, grid.shape, lattice, order, background), grid, words


def from_canonical(
    data: NDArray[Any], grid: Grid, lattice: Lattice, *, order: Literal[0, 1], background: float
) -> NDArray[Any]:
    """A canonical array (D, H, W) on `grid` as an (I, J, K) array on the source's own grid."""
    if not _turned(lattice):
        axes = canonical_axes(lattice.affine_mm)
        flipped = data[tuple(slice(None, None, -1) if f else slice(None) for f in axes.flip)]
        return np.transpose(flipped, np.argsort(axes.order))
    matrix = np.linalg.inv(grid.affine_mm) @ lattice.affine_mm
    return _sample(data, matrix, lattice.shape, Lattice(grid.shape, grid.affine_mm), order, background)


def _permuted(data: NDArray[Any], axes: Axes) -> NDArray[Any]:
    turned = np.transpose(data, axes.order)
    return turned[tuple(slice(None, None, -1) if f else slice(None) for f in axes.flip)]


def _filled(data: NDArray[Any], lattice: Lattice, order: int) -> NDArray[Any]:
    """Every plane of the lattice, from the stored ones around it; stored planes are taken over unchanged."""
    assert lattice.stored_k is not None
    out = np.empty(lattice.shape, data.dtype, order="F")
    index = np.interp(np.arange(lattice.shape[2]), lattice.stored_k, np.arange(len(lattice.stored_k)))
    for k, at in enumerate(index):
        low = min(int(at + 1e-9), data.shape[2] - 1)
        share = at - low
        if share < 0.02 or order == 0 or low + 1 >= data.shape[2]:
            out[:, :, k] = data[:, :, low if share < 0.5 else low + 1]
        else:
            mixed = (1 - share) * data[:, :, low] + share * data[:, :, low + 1]
            out[:, :, k] = _as_dtype(mixed, data.dtype)
    return out


def _sample(
    data: NDArray[Any],
    matrix: NDArray[np.float64],
    shape: tuple[int, int, int],
    lattice: Lattice,
    order: int,
    background: float,
) -> NDArray[Any]:
    """`data` on `lattice` at the indices that `matrix` gives for each voxel of `shape`, slab by slab."""
    out = np.empty(shape, data.dtype)
    step = max(1, _SLAB_VOX // max(1, shape[1] * shape[2]))
    y, x = np.ogrid[: shape[1], : shape[2]]
    for start in range(0, shape[0], step):
        z = np.arange(start, min(start + step, shape[0]))[:, None, None]
        at = np.empty((3, len(z), *shape[1:]), np.float64)
        inside = np.ones(at.shape[1:], bool)
        for axis in range(3):
            at[axis] = matrix[axis, 0] * z + (matrix[axis, 1] * y + matrix[axis, 2] * x + matrix[axis, 3])
            inside &= (at[axis] > -0.5 - 1e-6) & (at[axis] < lattice.shape[axis] - 0.5 + 1e-6)
        if lattice.stored_k is not None:
            at[2] = np.interp(at[2], lattice.stored_k, np.arange(len(lattice.stored_k)))
        kind = np.float32 if order == 1 else data.dtype
        slab = ndimage.map_coordinates(data, at, output=kind, order=order, mode="nearest")
        slab[~inside] = background
        out[start : start + len(z)] = _as_dtype(slab, data.dtype) if order == 1 else slab
    return out


def _as_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
