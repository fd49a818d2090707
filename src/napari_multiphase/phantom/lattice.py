"""Smooth fields, computed on a coarse lattice and brought to every voxel by cubic B-splines, slice by slice.

Each slice is interpolated by the same operations whatever chunk it belongs to, so results do not depend on chunking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d
from scipy.sparse import csr_array

from napari_multiphase.phantom.shapes import Box
from napari_multiphase.volume import Grid

LATTICE_MM = (4.0, 6.0)
"""Finest and coarsest step of the lattice; in between it is the smallest voxel size."""
PAD = 4


class Lattice:
    """The coarse points of a grid: every 4 mm, four of them beyond each border."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.step_mm = step = float(np.clip(min(grid.spacing_mm), *LATTICE_MM))
        self.axes_mm: list[NDArray[np.float64]] = []
        self._taps: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []
        for n, spacing, origin in zip(grid.shape, grid.spacing_mm, grid.origin_mm, strict=True):
            count = int(np.ceil((n - 1) * spacing / step)) + 1 + 2 * PAD
            axis: NDArray[np.float64] = origin + step * (np.arange(count, dtype=np.float64) - PAD)
            at: NDArray[np.float64] = np.arange(n, dtype=np.float64) * spacing / step + PAD
            self.axes_mm.append(axis)
            self._taps.append(_cubic_taps(at))
        # Sparse products: no BLAS threads that would fight over small matrices, and the same sums everywhere.
        self._rows = _sparse(self._taps[1], len(self.axes_mm[1]))
        self._columns = _sparse(self._taps[2], len(self.axes_mm[2]))

    @property
    def points_mm(self) -> NDArray[np.float64]:
        """(Z, Y, X, 3) LPS mm, last axis (x, y, z)."""
        z, y, x = np.meshgrid(*self.axes_mm, indexing="ij")
        return np.stack([x, y, z], axis=-1)

    def coefficients(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """B-spline coefficients (C, Z, Y, X) of values (Z, Y, X, C)."""
        out = np.moveaxis(values, -1, 0)
        for axis in (1, 2, 3):
            out = spline_filter1d(out, order=3, axis=axis, mode="mirror")
        return np.ascontiguousarray(out, np.float32)

    def slices(self, coefficients: NDArray[np.float32], z0: int, z1: int) -> NDArray[np.float32]:
        """Values (C, z1 - z0, H, W) of voxel slices z0 up to z1."""
        _, h, w = self.grid.shape
        out = np.empty((len(coefficients), z1 - z0, h, w), np.float32)
        start, weights = self._taps[0]
        for z in range(z0, z1):
            k, (w0, w1, w2, w3) = start[z], weights[z].astype(np.float32)
            c = coefficients
            plane = c[:, k] * w0 + c[:, k + 1] * w1 + c[:, k + 2] * w2 + c[:, k + 3] * w3
            for channel in range(len(c)):
                rows = np.ascontiguousarray((self._rows @ plane[channel]).T)
                out[channel, z - z0] = (self._columns @ rows).T
        return out


class Locator:
    """Finds the voxels whose reference coordinates can lie in a box, from every second lattice point."""

    STRIDE = 2

    def __init__(self, lattice: Lattice, reference_mm: NDArray[np.float64]) -> None:
        """reference_mm: (Z, Y, X, 3), the lattice points' place in the reference subject."""
        s = self.STRIDE
        self._cell = lattice.step_mm * s
        self._grid = lattice.grid
        self._axes = [axis[::s] for axis in lattice.axes_mm]
        self._at = np.ascontiguousarray(np.moveaxis(reference_mm[::s, ::s, ::s], -1, 0), np.float32)
        steps = [np.abs(np.diff(self._at, axis=axis)).max(axis=(1, 2, 3)) for axis in (1, 2, 3)]
        self._margin = 0.5 * np.sum(steps, axis=0) + 0.5

    def chunk(self, z0: int, z1: int) -> ChunkLocator:
        """A locator for voxel slices z0 up to z1 (cells beyond the last full lattice step included)."""
        z_mm = self._grid.origin_mm[0] + self._grid.spacing_mm[0] * np.array([z0, z1 - 1])
        cell = self._cell
        first = max(int(np.floor((z_mm[0] - self._axes[0][0]) / cell)), 0)
        last = int(np.ceil((z_mm[1] - self._axes[0][0]) / cell)) + 1
        return ChunkLocator(
            self._grid,
            self._axes,
            np.ascontiguousarray(self._at[:, first:last]),
            self._margin,
            0.5 * cell,
            first,
            (z0, z1),
        )


class ChunkLocator:
    """`Locator`, for one chunk."""

    def __init__(
        self,
        grid: Grid,
        axes: list[NDArray[np.float64]],
        at: NDArray[np.float32],
        margin: NDArray[np.float64],
        reach: float,
        first: int,
        z_range: tuple[int, int],
    ) -> None:
        self._grid, self._axes, self._at, self._margin, self._reach = grid, axes, at, margin, reach
        self._first, self._range = first, z_range
        self._z_span = float(at[2].min()) - margin[2], float(at[2].max()) + margin[2]

    def __call__(self, box: Box) -> tuple[slice, slice, slice] | None:
        """Slices into the chunk's arrays, or None where the box is not met."""
        if box.lo[2] > self._z_span[1] or box.hi[2] < self._z_span[0]:
            return None
        hit = None
        for axis in (2, 0, 1):
            lo, hi = box.lo[axis] - self._margin[axis], box.hi[axis] + self._margin[axis]
            inside = (self._at[axis] >= lo) & (self._at[axis] <= hi)
            hit = inside if hit is None else hit & inside
        assert hit is not None
        planes = np.flatnonzero(hit.any(axis=(1, 2)))
        if not len(planes):
            return None
        flat = hit.any(axis=0)
        found = (planes + self._first, np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0)))
        out = []
        for k, indices in enumerate(found):
            origin, spacing = self._grid.origin_mm[k], self._grid.spacing_mm[k]
            lo = int(np.ceil((self._axes[k][indices[0]] - self._reach - origin) / spacing - 1e-6))
            hi = int(np.floor((self._axes[k][indices[-1]] + self._reach - origin) / spacing + 1e-6)) + 1
            start, stop = self._range if k == 0 else (0, self._grid.shape[k])
            lo, hi = max(lo, start) - start, min(hi, stop) - start
            if lo >= hi:
                return None
            out.append(slice(lo, hi))
        return out[0], out[1], out[2]


def _cubic_taps(at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """First index and the four B-spline weights of each position."""
    whole = np.floor(at).astype(np.intp)
    t = at - whole
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    return whole - 1, weights / 6.0


def _sparse(taps: tuple[NDArray[np.intp], NDArray[np.float64]], count: int) -> csr_array:
    start, weights = taps
    columns = start[:, None] + np.arange(4)
    ends = 4 * np.arange(len(start) + 1)
    return csr_array((weights.astype(np.float32).ravel(), columns.ravel(), ends), shape=(len(start), count))
