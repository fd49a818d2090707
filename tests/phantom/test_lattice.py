"""Coarse fields at every voxel, and boxes found without missing a voxel."""

import numpy as np
import pytest

from napari_multiphase.phantom.lattice import Lattice, Locator
from napari_multiphase.phantom.motion import Breathing, Shape
from napari_multiphase.phantom.shapes import Box
from napari_multiphase.volume import Grid

GRIDS = [
    Grid((20, 50, 55), (3.0, 1.7, 2.1), (-28.5, -40.0, -55.0)),
    Grid((48, 48, 48), (6.0, 7.5, 8.0), (-141.0, -176.0, -188.0)),
]


def voxel_points(grid: Grid) -> np.ndarray:
    z, y, x = np.meshgrid(
        *[o + s * np.arange(n) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)],
        indexing="ij",
    )
    return np.stack([x, y, z], axis=-1)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_dense_motion_equals_its_formula(grid: Grid) -> None:
    field = Breathing.draw(np.random.default_rng(3), 20.0)
    lattice = Lattice(grid)
    dense = lattice.slices(lattice.coefficients(field(lattice.points_mm)), 0, grid.shape[0])
    assert np.abs(np.moveaxis(dense, 0, -1) - field(voxel_points(grid))).max() < 0.05


@pytest.mark.parametrize("grid", GRIDS)
def test_the_locator_misses_no_voxel_of_a_box(grid: Grid) -> None:
    rng = np.random.default_rng(0)
    shape, field = Shape.draw(rng), Breathing.draw(rng, 25.0)
    lattice = Lattice(grid)
    locator = Locator(lattice, shape(field.inverse(lattice.points_mm)))
    at = shape(field.inverse(voxel_points(grid)))
    found_any = 0
    for _ in range(60):
        centre, half = rng.uniform(-50, 50, 3), rng.uniform(0.5, 30, 3)
        box = Box(tuple(centre - half), tuple(centre + half))
        inside = np.all((at >= box.lo) & (at <= box.hi), axis=-1)
        for z0, z1 in ((0, 7), (7, 8), (8, grid.shape[0])):
            where = locator.chunk(z0, z1)(box)
            missed = inside[z0:z1].copy()
            if where is not None:
                missed[where] = False
            assert not missed.any()
            found_any += bool(inside[z0:z1].any())
    assert found_any > 20
