"""Signed distances (mm, negative inside) of the bodies that anatomy is put together from.

Every function takes float32 coordinates x, y, z (LPS mm of the reference subject) that broadcast against each other.
Only +, -, *, / and square roots are used on full-size arrays, so that a value never depends on how the volume was
cut into chunks. Distances are exact for tubes and first-order accurate near the surface elsewhere, which is
what partial volume needs; their sign, and so the labels, is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator, make_interp_spline

Array = NDArray[np.float32]
Distance = Callable[[Array, Array, Array], Array]
Point = tuple[float, float, float]
Points = Sequence[Any] | NDArray[Any]
Vector = Sequence[float] | NDArray[Any]

FAR_MM = np.float32(1e4)


@dataclass(frozen=True)
class Box:
    """Axis-aligned bounds (x, y, z) in mm."""

    lo: Point
    hi: Point

    def __or__(self, other: Box) -> Box:
        lo, hi = np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi)
        return Box(_point(lo), _point(hi))

    def padded(self, mm: float, stretch_z: float = 1.0) -> Box:
        """Grown by `mm` on every side, `stretch_z` times that above and below."""
        grow = mm * np.array([1.0, 1.0, stretch_z])
        return Box(_point(np.subtract(self.lo, grow)), _point(np.add(self.hi, grow)))


@dataclass(frozen=True)
class Solid:
    """A body given by one function over its bounding box."""

    box: Box
    distance: Distance

    def reach(self, mm: float) -> Box:
        """Where distances up to half of `mm` are found (first-order distances may be underestimated outside)."""
        return self.box.padded(1.5 * mm)


@dataclass(frozen=True)
class Tube:
    """A chain of round cones along a curve. `stretch_z` > 1 makes the cross-section taller (ribs, spinous processes).

    points_mm : (N, 3); radii_mm : (N,).
    """

    points_mm: NDArray[np.float64]
    radii_mm: NDArray[np.float64]
    stretch_z: float = 1.0
    boxes: tuple[Box, ...] = field(init=False)
    box: Box = field(init=False)

    def __post_init__(self) -> None:
        grow = np.array([1.0, 1.0, self.stretch_z])
        boxes = []
        for a, b, ra, rb in zip(
            self.points_mm[:-1], self.points_mm[1:], self.radii_mm[:-1], self.radii_mm[1:], strict=True
        ):
            reach = max(ra, rb) * grow
            boxes.append(Box(_point(np.minimum(a, b) - reach), _point(np.maximum(a, b) + reach)))
        object.__setattr__(self, "boxes", tuple(boxes))
        lo, hi = np.min([b.lo for b in boxes], axis=0), np.max([b.hi for b in boxes], axis=0)
        object.__setattr__(self, "box", Box(_point(lo), _point(hi)))

    def reach(self, mm: float) -> Box:
        """Where distances up to half of `mm` are found."""
        return self.box.padded(mm, self.stretch_z)

    def segment(self, index: int, x: Array, y: Array, z: Array) -> Array:
        """Distance to round cone `index`."""
        flat = np.array([1.0, 1.0, 1.0 / self.stretch_z])
        a, b = (self.points_mm[index] * flat), (self.points_mm[index + 1] * flat)
        axis = (b - a).astype(np.float32)
        inverse = np.float32(1.0 / max(float(axis @ axis), 1e-6))
        px, py = x - np.float32(a[0]), y - np.float32(a[1])
        pz = (z * np.float32(1.0 / self.stretch_z) if self.stretch_z != 1 else z) - np.float32(a[2])
        t = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) * inverse, 0, 1)
        px, py, pz = px - t * axis[0], py - t * axis[1], pz - t * axis[2]
        ra, rb = np.float32(self.radii_mm[index]), np.float32(self.radii_mm[index + 1])
        return np.asarray(np.sqrt(px * px + py * py + pz * pz) - (ra + t * (rb - ra)), np.float32)

    def distance(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the whole chain."""
        d = self.segment(0, x, y, z)
        for index in range(1, len(self.boxes)):
            d = np.minimum(d, self.segment(index, x, y, z))
        return d


Shape = Solid | Tube


def tube(points_mm: Points, radii_mm: ArrayLike, step_mm: float | None = None, stretch_z: float = 1.0) -> Tube:
    """A tube along the smooth curve through the points; radii are given at the points (or one for all)."""
    points = np.asarray(points_mm, float)
    radii = np.broadcast_to(np.asarray(radii_mm, float), points.shape[:1])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    step = step_mm or max(4.0, 0.7 * float(radii.min()))
    at = np.linspace(0, along[-1], max(2, round(along[-1] / step) + 1))
    curve = make_interp_spline(along, points, k=min(3, len(points) - 1))(at)
    return Tube(curve, PchipInterpolator(along, radii)(at), stretch_z)


def polyline(points_mm: Points, radii_mm: ArrayLike, stretch_z: float = 1.0) -> Tube:
    """A tube with straight pieces between the points."""
    points = np.asarray(points_mm, float)
    return Tube(points, np.broadcast_to(np.asarray(radii_mm, float), points.shape[:1]).copy(), stretch_z)


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> NDArray[np.float64]:
    """3 x 3, turns about x, then y, then z."""
    cx, cy, cz = np.cos(np.deg2rad([x_deg, y_deg, z_deg]))
    sx, sy, sz = np.sin(np.deg2rad([x_deg, y_deg, z_deg]))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def local(
    x: Array, y: Array, z: Array, centre: Vector, turn: NDArray[np.float64] | None = None
) -> tuple[Array, Array, Array]:
    """Coordinates in a body's own frame: moved to its centre and turned back."""
    px, py, pz = x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])
    if turn is None:
        return px, py, pz
    m = turn.T.astype(np.float32)
    return (
        m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz,
        m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz,
        m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz,
    )


def ellipsoid_distance(px: Array, py: Array, pz: Array, radii: Vector) -> Array:
    """First-order distance to an ellipsoid at the origin."""
    rx, ry, rz = (np.float32(r) for r in radii)
    ux, uy, uz = px / rx, py / ry, pz / rz
    k0 = np.sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / rx, uy / ry, uz / rz
    k1 = np.sqrt(ux * ux + uy * uy + uz * uz)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-4)), np.float32)


def ellipsoid(centre: Vector, radii: Vector, turn: NDArray[np.float64] | None = None) -> Solid:
    """An ellipsoid, turned about its centre."""
    matrix = np.eye(3) if turn is None else turn
    reach = np.sqrt(((matrix * np.asarray(radii, float)) ** 2).sum(axis=1))
    box = Box(_point(np.asarray(centre) - reach), _point(np.asarray(centre) + reach))
    return Solid(box, lambda x, y, z: ellipsoid_distance(*local(x, y, z, centre, turn), radii))


def superellipse(x: Array, y: Array, a: Array | float, b: Array | float) -> tuple[Array, Array, Array]:
    """|x/a|^2.5 + |y/b|^2.5, the length of its gradient, and the first-order distance to its level 1."""
    tx, ty = np.abs(x / a), np.abs(y / b)
    gx, gy = tx * np.sqrt(tx), ty * np.sqrt(ty)
    level = tx * gx + ty * gy
    gx, gy = gx / a, gy / b
    slope = np.maximum(np.float32(2.5) * np.sqrt(gx * gx + gy * gy), np.float32(1e-4))
    return level, slope, (level - 1) / slope


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """Union with a fillet of about `k` mm."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0) * np.float32(1.0 / k)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 * k), np.float32)


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Intersection with a rounded edge of about `k` mm."""
    return -smooth_min(-a, -b, k)


def moved(point: Vector, x: float, y: float, z: float) -> NDArray[np.float64]:
    """The point, that many mm to the left, backwards and up."""
    return np.asarray(point, float) + np.array([x, y, z])


def _point(values: ArrayLike) -> Point:
    x, y, z = (float(v) for v in np.asarray(values, float))
    return x, y, z
