"""Tiles with context: every voxel is owned once, and the cheapest are chosen."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_multiphase.inference.context_tiles import ContextTiles, cheapest_tiles, given_tiles, padded

triples = st.tuples(*[st.integers(1, 6)] * 3)


@given(triples, triples, triples, st.sampled_from([(1, 1, 1), (4, 4, 4), (1, 4, 4), (2, 8, 4)]))
def test_every_voxel_is_owned_once_and_seen_with_its_context(sides, tile, context, divisor) -> None:
    shape = tuple(n * s for n, s in zip(sides, divisor, strict=True))
    context = tuple(n * s for n, s in zip(context, divisor, strict=True))
    tiles = given_tiles(shape, context, divisor, tuple(n * s for n, s in zip(tile, divisor, strict=True)))
    owned, seen, largest = np.zeros(shape, int), 0, (0, 0, 0)
    for owns_z, row in tiles.rows():
        for one in row:
            assert one.owns[0] == owns_z
            owned[tuple(slice(*r) for r in one.owns)] += 1
            seen += prod(one.size)
            largest = tuple(map(max, largest, one.size))
            for (a, b), (first, last), reach, n, s in zip(one.owns, one.sees, context, shape, divisor, strict=True):
                assert (first, last) == (max(0, a - reach), min(n, b + reach))
                assert first % s == last % s == 0
            assert all(0 <= a < b <= of == size for (a, b, of), size in zip(one.part, one.size, strict=True))
    assert (owned == 1).all()
    assert (tiles.seen_vox, tiles.largest) == (seen, largest)
    assert tiles.count == sum(len(row) for _, row in tiles.rows())


def test_the_cheapest_tiles_see_least_within_the_limit() -> None:
    shape, context, divisor = (96, 64, 64), (16, 16, 16), (8, 8, 8)
    assert cheapest_tiles(shape, context, divisor, prod(shape)).count == 1
    found = cheapest_tiles(shape, context, divisor, 64 * 64 * 64)
    assert found.tile == (48, 64, 64)
    for own in np.ndindex(12, 8, 8):
        other = ContextTiles(shape, tuple(8 * (n + 1) for n in own), context)
        assert prod(other.largest) > 64**3 or other.seen_vox >= found.seen_vox
    smallest = cheapest_tiles(shape, context, divisor, 1)
    assert smallest.largest == (40, 40, 40)
    assert smallest.smaller(divisor) is None


def test_a_step_down_sees_half_as_much_at_most() -> None:
    tiles, divisor, seen = cheapest_tiles((96, 64, 64), (8, 8, 8), (8, 8, 8), 10**9), (8, 8, 8), []
    while tiles is not None:
        seen.append(prod(tiles.largest))
        tiles = tiles.smaller(divisor)
    assert len(seen) > 3
    assert all(2 * less <= more for more, less in zip(seen, seen[1:], strict=False))


@pytest.mark.parametrize(
    ("shape", "divisor", "expected"),
    [
        ((86, 112, 112), (8, 8, 8), (88, 112, 112)),
        ((5, 7, 8), (1, 4, 4), (5, 8, 8)),
        ((8, 6, 3), (8, 8, 8), (8, 8, 16)),
    ],
)
def test_padding_is_up_to_the_divisor_and_leaves_more_than_one_coarse_voxel(shape, divisor, expected) -> None:
    assert padded(shape, divisor) == expected
