"""Slices of a study for the Compare dock: which voxels a pane shows, and where its pixels lie. NumPy only.

A slice that lies on another scan's grid is resampled alone, never with its volume: about 10 ms through a rigid
transform, 20 ms through a dense one, at 512 x 512. So comparing takes no memory that grows with the scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.field import DenseField, PointMap, map_points
from napari_multiphase.gui.refusing import plane_grid
from napari_multiphase.volume import Grid

AXIS_OF = {"axial": 0, "coronal": 1, "sagittal": 2}
OUTSIDE_HU = -3024.0
"""What a scan holds beyond its borders, in the slices cut here: no scanner stores it."""
_MARGIN_VOX = 2

Point = tuple[float, float, float]
"""LPS mm in napari's order (z, y, x)."""


@dataclass(frozen=True)
class Plane:
    """The voxels of `grid` with index `index` along `axis`."""

    grid: Grid
    axis: int
    index: int

    @staticmethod
    def at(grid: Grid, axis: int, point_mm: Point) -> Plane:
        """The slice of `grid` nearest to a point; the first or last one where the point lies beyond."""
        index = round((point_mm[axis] - grid.origin_mm[axis]) / grid.spacing_mm[axis])
        return Plane(grid, axis, min(max(index, 0), grid.shape[axis] - 1))

    @property
    def shown(self) -> tuple[int, int]:
        """The vertical and the horizontal axis of its picture."""
        vertical, horizontal = (axis for axis in range(3) if axis != self.axis)
        return vertical, horizontal

    @property
    def position_mm(self) -> float:
        """Where it lies along its axis."""
        return self.grid.origin_mm[self.axis] + self.index * self.grid.spacing_mm[self.axis]

    @property
    def thin(self) -> Grid:
        """Its voxels as a grid of their own."""
        return plane_grid(self.grid, self.axis, self.index)

    def stepped(self, steps: int) -> float:
        """Position in mm of the slice `steps` further towards the axis' end, within the grid."""
        index = min(max(self.index + steps, 0), self.grid.shape[self.axis] - 1)
        return Plane(self.grid, self.axis, index).position_mm


def cut(
    data: NDArray[Any],
    grid: Grid,
    plane: Plane,
    order: Literal[0, 1],
    through: PointMap | None,
    background: float,
) -> NDArray[Any]:
    """(h, w) of `data` (D, H, W) on `grid`, as it is seen on a plane; dtype of `data`.

    `through` takes points of the plane's space to those of the data's; None where both lie in one space. A view of
    `data` where nothing has to be interpolated.
    """
    if isinstance(through, np.ndarray) and np.allclose(through, np.eye(4), atol=1e-12):
        through = None
    if through is None and grid.matches(plane.grid):
        return np.take(data, plane.index, axis=plane.axis) if plane.axis == 2 else data[_at(plane)]
    near = _near(grid, plane.thin, through)
    if near is None:
        height, width = (plane.grid.shape[axis] for axis in plane.shown)
        return np.full((height, width), background, data.dtype)
    from napari_multiphase.imaging.resample import resample  # scipy.ndimage: half a second, and not for every window

    part, part_grid = near
    flat = resample(data[part], part_grid, plane.thin, order, through, background=background)
    return flat.squeeze(axis=plane.axis)


def _at(plane: Plane) -> tuple[Any, ...]:
    return tuple(plane.index if axis == plane.axis else slice(None) for axis in range(3))


def _near(grid: Grid, target: Grid, through: PointMap | None) -> tuple[tuple[slice, ...], Grid] | None:
    """The part of `grid` that `target` can see, with a margin; None where they lie apart."""
    if isinstance(through, DenseField):
        places = through.voxels(grid, target).reshape(3, -1)
        low, high = places.min(axis=1).astype(float), places.max(axis=1).astype(float)
    else:
        far = np.array(target.shape) - 1
        corners = np.array([np.where(pick, far, 0) for pick in np.ndindex(2, 2, 2)])
        points = (np.array(target.origin_mm) + corners * target.spacing_mm)[:, ::-1]
        points = map_points(through, points) if through is not None else points
        corner_places = (points[:, ::-1] - grid.origin_mm) / grid.spacing_mm
        low, high = corner_places.min(axis=0), corner_places.max(axis=0)
    first = np.maximum(np.floor(low).astype(int) - _MARGIN_VOX, 0)
    last = np.minimum(np.ceil(high).astype(int) + _MARGIN_VOX + 1, grid.shape)
    if (last <= first).any():
        return None
    part = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    origin = tuple(o + int(a) * s for o, a, s in zip(grid.origin_mm, first, grid.spacing_mm, strict=True))
    shape = tuple(s.stop - s.start for s in part)
    return part, Grid(shape, grid.spacing_mm, origin)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Frame:
    """Which part of a plane a rectangle of pixels shows: head up, or anterior up; the patient's left at the right.

    Attributes
    ----------
    size_px : (height, width).
    centre_mm : (vertical, horizontal) position in the middle of the rectangle.
    mm_per_px : length of a pixel.
    head_up : whether the vertical axis grows upwards (coronal and sagittal views).
    """

    size_px: tuple[float, float]
    centre_mm: tuple[float, float]
    mm_per_px: float
    head_up: bool

    @staticmethod
    def of(plane: Plane, centre_mm: Point, size_px: tuple[float, float], zoom: float, whole: Grid) -> Frame:
        """The frame around a point of the plane's space; at zoom 1 all of `whole` is seen."""
        vertical, horizontal = plane.shown
        extent = whole.extent_mm
        fit = max(extent[vertical] / max(size_px[0], 1), extent[horizontal] / max(size_px[1], 1))
        return Frame(size_px, (centre_mm[vertical], centre_mm[horizontal]), fit / zoom, vertical == 0)

    def to_px(self, vertical_mm: float, horizontal_mm: float) -> tuple[float, float]:
        """(x, y) in the rectangle, from its upper left corner."""
        down = (vertical_mm - self.centre_mm[0]) * (-1 if self.head_up else 1)
        x = self.size_px[1] / 2 + (horizontal_mm - self.centre_mm[1]) / self.mm_per_px
        return x, self.size_px[0] / 2 + down / self.mm_per_px

    def to_mm(self, x: float, y: float) -> tuple[float, float]:
        """(vertical, horizontal) mm of a pixel position."""
        down = (y - self.size_px[0] / 2) * self.mm_per_px * (-1 if self.head_up else 1)
        return self.centre_mm[0] + down, self.centre_mm[1] + (x - self.size_px[1] / 2) * self.mm_per_px

    def voxels(self, plane: Plane, scale: float = 1.0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Nearest voxel row of each pixel row and voxel column of each pixel column, -1 outside.

        `scale` is the number of samples per pixel along each side (screens with dense pixels).
        """
        found = []
        for which, axis in enumerate(plane.shown):
            count_px = max(1, round(self.size_px[which] * scale))
            centres = (np.arange(count_px) + 0.5) / scale - self.size_px[which] / 2
            centres *= self.mm_per_px * (-1 if which == 0 and self.head_up else 1)
            at = (centres + self.centre_mm[which] - plane.grid.origin_mm[axis]) / plane.grid.spacing_mm[axis]
            index = np.floor(at + 0.5).astype(np.intp)
            found.append(np.where((index >= 0) & (index < plane.grid.shape[axis]), index, -1))
        return found[0], found[1]

    def rectangle(self, plane: Plane) -> tuple[float, float, float, float]:
        """(x, y, width, height) in pixels of the plane's picture, voxel borders included."""
        low, high = [], []
        for axis in plane.shown:
            start = plane.grid.origin_mm[axis] - plane.grid.spacing_mm[axis] / 2
            low.append(start)
            high.append(start + plane.grid.extent_mm[axis])
        (x0, y0), (x1, y1) = self.to_px(low[0], low[1]), self.to_px(high[0], high[1])
        return x0, min(y0, y1), x1 - x0, abs(y1 - y0)
