"""Tiles that own a part of a volume and see some voxels around it; together they own every voxel once. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.inference.tiles import Shape

Range = tuple[int, int]


@dataclass(frozen=True)
class ContextTile:
    """(start, stop) along z, y and x of what a tile owns and of what it sees: the same and the context around it."""

    owns: tuple[Range, Range, Range]
    sees: tuple[Range, Range, Range]

    @property
    def place(self) -> Shape:
        """Where it begins to see."""
        (z, _), (y, _), (x, _) = self.sees
        return z, y, x

    @property
    def size(self) -> Shape:
        """(d, h, w) that it sees."""
        d, h, w = (stop - start for start, stop in self.sees)
        return d, h, w

    @property
    def part(self) -> tuple[tuple[int, int, int], ...]:
        """Per axis (start, stop, size): what it owns of the `size` voxels that it sees."""
        pairs = zip(self.owns, self.sees, strict=True)
        return tuple((a - first, b - first, last - first) for (a, b), (first, last) in pairs)


@dataclass(frozen=True)
class ContextTiles:
    """Tiles of a volume of `shape` (D, H, W), each owning `tile` voxels (fewer at the far ends).

    What a tile sees never reaches beyond the volume: at its ends a network meets the same border as in one piece. All
    sides are multiples of what the network halves.
    """

    shape: Shape
    tile: Shape
    context: Shape

    @property
    def largest(self) -> Shape:
        """(d, h, w) that the largest tile sees."""
        d, h, w = (max(b - a for a, b in sees) for sees in map(self._seen, range(3)))
        return d, h, w

    @property
    def count(self) -> int:
        """Tiles in all."""
        return prod(len(self._owned(axis)) for axis in range(3))

    @property
    def seen_vox(self) -> int:
        """Voxels that all tiles see together."""
        return prod(sum(b - a for a, b in self._seen(axis)) for axis in range(3))

    def rows(self) -> Iterator[tuple[Range, list[ContextTile]]]:
        """What is owned along z, ascending, with the tiles that own it."""
        z, y, x = (list(zip(self._owned(axis), self._seen(axis), strict=True)) for axis in range(3))
        for owns_z, sees_z in z:
            places = [(b, c) for b in y for c in x]
            yield owns_z, [ContextTile((owns_z, b[0], c[0]), (sees_z, b[1], c[1])) for b, c in places]

    def _owned(self, axis: int) -> list[Range]:
        size, step = self.shape[axis], self.tile[axis]
        return [(start, min(start + step, size)) for start in range(0, size, step)]

    def _seen(self, axis: int) -> list[Range]:
        reach, size = self.context[axis], self.shape[axis]
        return [(max(0, a - reach), min(b + reach, size)) for a, b in self._owned(axis)]

    def smaller(self, divisor: Shape) -> ContextTiles | None:
        """Tiles that see at most half as much at a time; None where there are none."""
        most = prod(self.largest) // 2
        less = cheapest_tiles(self.shape, self.context, divisor, most)
        return less if prod(less.largest) <= most else None


def padded(shape: Shape, divisor: Shape) -> Shape:
    """`shape` rounded up to multiples of `divisor`, and never one voxel at a network's coarsest level."""
    d, h, w = (ceil(n / s) * s for n, s in zip(shape, divisor, strict=True))
    if (d, h, w) == divisor:  # one voxel has no variance to normalise by
        return d, h, 2 * w
    return d, h, w


def given_tiles(shape: Shape, context: Shape, divisor: Shape, tile: Shape) -> ContextTiles:
    """Tiles that own about `tile` voxels: sides rounded down to multiples of `divisor`."""
    d, h, w = (min(max(s, t // s * s), n) for t, s, n in zip(tile, divisor, shape, strict=True))
    return ContextTiles(shape, (d, h, w), context)


def cheapest_tiles(shape: Shape, context: Shape, divisor: Shape, most_vox: int) -> ContextTiles:
    """The tiles of which none sees more than `most_vox` and all together see the least; few rather than many.

    Where even the smallest see more, those.
    """
    sides = zip(shape, context, divisor, strict=True)
    axes = [[_split(n, c, s, count) for count in range(1, n // s + 1)] for n, c, s in sides]
    seen, largest = (_products([[tiles[what] for tiles in axis] for axis in axes]) for what in (1, 2))
    fits = largest <= max(most_vox, int(largest.min()))
    z, y, x = np.unravel_index(int(np.argmin(np.where(fits, seen, np.inf))), seen.shape)
    return ContextTiles(shape, (axes[0][z][0], axes[1][y][0], axes[2][x][0]), context)


def _split(size: int, context: int, divisor: int, count: int) -> tuple[int, int, int]:
    """An axis in about `count` equal parts: what one owns, what all see together, and the most that one sees."""
    own = ceil(size / divisor / count) * divisor
    line = ContextTiles((size, 1, 1), (own, 1, 1), (context, 0, 0))
    return own, line.seen_vox, line.largest[0]


def _products(axes: list[list[int]]) -> NDArray[np.float64]:
    z, y, x = (np.array(values, float) for values in axes)
    return z[:, None, None] * y[:, None] * x
