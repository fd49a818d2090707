"""The body mask: everything of the patient, no table."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.imaging.body import body_mask, find_body
from napari_multiphase.volume import Grid


def scan(grid: Grid, table: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """An elliptic trunk with lungs in it, a thin table below with a gap of 20 mm; and the trunk as truth."""
    d, h, w = grid.shape
    y = (np.arange(h) - h / 2)[:, None] * grid.spacing_mm[1]
    x = (np.arange(w) - w / 2)[None, :] * grid.spacing_mm[2]
    trunk = (y / 100) ** 2 + (x / 150) ** 2 < 1
    lungs = (y / 50) ** 2 + ((np.abs(x) - 70) / 40) ** 2 < 1
    plane = np.full((h, w), -1000.0)
    plane[trunk] = 40
    plane[lungs] = -850
    if table:
        plane[(np.abs(y - 124) < 4) & (np.abs(x) < 160)] = 200
    return np.repeat(plane[None], d, 0).astype(np.int16), np.repeat(trunk[None], d, 0)


@pytest.mark.parametrize("spacing_mm", [(3.0, 2.0, 2.0), (2.5, 0.8, 0.8), (5.0, 3.0, 3.0)])
def test_body_covers_the_patient_lungs_included_and_leaves_the_table_out(
    spacing_mm: tuple[float, float, float],
) -> None:
    grid = Grid((6, int(360 / spacing_mm[1]), int(400 / spacing_mm[2])), spacing_mm)
    data, trunk = scan(grid)
    mask = body_mask(data, grid)
    assert mask[trunk].all()
    y_mm = (np.arange(grid.shape[1]) - grid.shape[1] / 2) * spacing_mm[1]
    assert not mask[:, y_mm > 121].any()
    assert mask.sum() < 1.6 * trunk.sum()


def test_other_grids_of_the_same_space_agree() -> None:
    grid = Grid((6, 180, 200), (3.0, 2.0, 2.0))
    data, trunk = scan(grid)
    finer = Grid((9, 360, 400), (2.0, 1.0, 1.0), (-0.5, -0.5, -0.5))
    mask = body_mask(data, grid, finer)
    assert mask.shape == finer.shape
    assert mask[:, ::2, ::2][:6][trunk].all()
    body = find_body(data, grid)
    np.testing.assert_array_equal(body.on(finer, slice(2, 5)), mask[2:5])


def test_air_alone_leaves_nothing_out() -> None:
    grid = Grid((3, 40, 40), (3.0, 2.0, 2.0))
    body = find_body(np.full(grid.shape, -1000, np.int16), grid)
    assert not body.found
    assert body.on(grid).all()


def test_real_abdomen_is_one_body_of_plausible_size(real_data) -> None:
    from napari_multiphase.io.images import read_image

    volume = read_image(real_data / "totalsegmentator_example" / "totalseg_example_ct.nii.gz")
    mask = body_mask(volume.data, volume.grid)
    tissue = volume.data > -100
    share = (mask & tissue).sum() / tissue.sum()
    print(f"body mask covers {share:.1%} of voxels above -100 HU and {mask.mean():.1%} of the scan")
    assert share > 0.97
    assert mask.mean() < 0.95
