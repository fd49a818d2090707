"""The grid a network works on, fitted to a scan."""

from __future__ import annotations

from napari_multiphase.volume import Grid


def network_grid(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """The grid with about `spacing_mm` whose outer borders are those of `grid`.

    The number of voxels is rounded, so the true spacing differs from `spacing_mm` by at most half a voxel over the
    whole extent. With equal borders a linear interpolation between both grids is the plain "half-pixel" one. Where no
    axis changes its number of voxels, the answer is `grid` itself and nothing is resampled.
    """
    counts = [max(1, round(extent / s)) for extent, s in zip(grid.extent_mm, spacing_mm, strict=True)]
    if tuple(counts) == grid.shape:
        return grid
    (d, h, w), (ez, ey, ex) = counts, grid.extent_mm
    new = (ez / d, ey / h, ex / w)
    z, y, x = (o + (n - s) / 2 for o, n, s in zip(grid.origin_mm, new, grid.spacing_mm, strict=True))
    return Grid((d, h, w), new, (z, y, x))
