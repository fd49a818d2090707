"""Tile positions, weights and the network's grid, in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_cases import everywhere, trunk_hu

from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.inference.tiles import body_tiles, fit_tile, gaussian_weight, tile_starts
from napari_multiphase.volume import Grid


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "starts"),
    [
        (96, 64, 0.25, [0, 32]),
        (192, 96, 0.25, [0, 72, 96]),
        (64, 64, 0.25, [0]),
        (10, 64, 0.25, [0]),
        (128, 64, 0.0, [0, 64]),
        (6, 4, 0.9, [0, 1, 2]),
    ],
)
def test_starts(size: int, tile: int, overlap: float, starts: list[int]) -> None:
    assert tile_starts(size, tile, overlap) == starts


@given(size=st.integers(1, 300), tile=st.integers(1, 100), overlap=st.floats(0, 0.94))
def test_starts_cover_everything_and_stay_inside(size: int, tile: int, overlap: float) -> None:
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    assert all(0 < b - a <= tile for a, b in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize(
    ("tile", "size", "divisor", "fitted"),
    [
        ((64, 96, 96), (300, 512, 512), 16, (64, 96, 96)),
        ((64, 96, 96), (20, 512, 50), 16, (32, 96, 64)),
        ((70, 100, 100), (300, 512, 512), 16, (64, 96, 96)),
        ((64, 96, 96), (3, 5, 7), 16, (32, 32, 32)),
        ((64, 96, 96), (64, 16, 16), 16, (64, 16, 16)),
    ],
)
def test_fitted_tile(tile: tuple, size: tuple, divisor: int, fitted: tuple) -> None:
    assert fit_tile(tile, size, (divisor, divisor, divisor)) == fitted


def test_gaussian_weight_is_symmetric_with_its_floor() -> None:
    weight = gaussian_weight((16, 24, 32))
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, weight[::-1, ::-1, ::-1])
    assert weight.min() == pytest.approx(1e-3)
    one = gaussian_weight((1, 1, 9))[0, 0]
    bell = np.exp(-(np.arange(-4, 5) ** 2) / (2 * (9 / 8) ** 2))
    np.testing.assert_allclose(one, np.maximum(bell, 1e-3), rtol=1e-6)


def test_every_body_voxel_is_covered_and_no_tile_is_idle() -> None:
    grid = Grid((40, 90, 100), (4.0, 4.0, 4.0))
    body = find_body(trunk_hu(grid), grid)
    mask, tile = body.on(grid), (16, 16, 16)
    tiles = body_tiles(grid, body, tile, 0.25)
    covered = np.zeros(grid.shape, bool)
    for z0, places in tiles.rows:
        for y0, x0 in places:
            part = np.s_[z0 : z0 + 16, y0 : y0 + 16, x0 : x0 + 16]
            assert mask[part].any()
            covered[part] = True
    assert covered[mask].all()
    assert tiles.count < tiles.possible
    (y0, y1), (x0, x1) = tiles.box
    assert not mask[:, :y0].any()
    assert not mask[:, y1:].any()
    assert mask[:, :, : x0 + 4].any()
    assert mask[:, :, x1 - 4 :].any()
    assert body_tiles(grid, everywhere(grid), tile, 0.25).count == tiles.possible


def test_rows_without_body_are_kept_empty() -> None:
    grid = Grid((64, 32, 32), (4.0, 4.0, 4.0))
    coarse = np.zeros(grid.shape, bool)
    coarse[50:, 8:20, 8:20] = True
    tiles = body_tiles(grid, Body(coarse, grid.spacing_mm, grid.origin_mm), (16, 16, 16), 0.25)
    assert tiles.rows[0] == (0, ())
    assert tiles.box == ((6, 22), (6, 22))


@given(
    counts=st.tuples(*[st.integers(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    wanted=st.tuples(*[st.floats(0.5, 4)] * 3),
)
def test_network_grid_has_the_borders_of_the_scan(counts: tuple, spacing: tuple, wanted: tuple) -> None:
    grid = Grid(counts, spacing, (10.0, -20.0, 5.0))
    seen = network_grid(grid, wanted)
    for axis in range(3):
        low = [g.origin_mm[axis] - g.spacing_mm[axis] / 2 for g in (grid, seen)]
        assert low[0] == pytest.approx(low[1], abs=1e-9)
        assert grid.extent_mm[axis] == pytest.approx(seen.extent_mm[axis])
        assert abs(seen.extent_mm[axis] / wanted[axis] - seen.shape[axis]) <= 0.5 + 1e-9 or seen.shape[axis] == 1


def test_equal_spacing_is_not_resampled() -> None:
    grid = Grid((96, 192, 192), (3.0, 2.0, 2.0))
    assert network_grid(grid, (3.0, 2.0, 2.0)) is grid
    assert network_grid(grid, (3.001, 2.001, 1.999)) is grid
