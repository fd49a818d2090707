"""Fluid in chest and belly of a subject of a map."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom import atlas_fluid
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_fluid import APART_MM, FILM_MM, LIVER, LUNGS, flood_belly, flood_chest
from napari_multiphase.phantom.atlas_tissues import AIR, ASCITES, COLLAPSED, EFFUSION, VISCERAL, label_table
from napari_multiphase.volume import Grid

GRID = Grid((50, 60, 70), (2.0, 2.0, 2.0), (-50.0, -60.0, -70.0))
KIDNEY = IDS_BY_NAME["right kidney"]


def _fields(seed: int) -> Fields:
    return Fields(np.random.default_rng(seed), GRID.shape, 2.0)


def _trunk(fields: Fields) -> tuple[Canvas, np.ndarray]:
    """A box of fat with a liver on its right wall and a kidney behind, both lungs above; mm to the box's surface."""
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(GRID.origin_mm, GRID.spacing_mm, GRID.shape, strict=True))
    wall = np.maximum(np.abs(y)[:, None] - 50, np.abs(x)[None, :] - 60) * np.ones((len(z), 1, 1))
    tissue = np.where(wall < 0, VISCERAL, AIR).astype(np.uint8)
    tissue[(wall < 0) & (x < -10)] = LIVER
    tissue[(z[:, None, None] < 0) & (np.hypot(y - 30, 0)[None, :, None] < 12) & (np.abs(x - 20) < 12)] = KIDNEY
    tissue[(wall < 0) & (z > 10)[:, None, None]] = LUNGS
    tissue[:, :, np.abs(x) < 3] = AIR
    depth = np.full(GRID.shape, 40, np.float32)
    return Canvas(GRID, tissue, depth, np.empty(0, np.uint8), fields(14.0), fields(3.0), fields), wall.astype(np.int8)


def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas_fluid, "CHEST_SHARE", 1.0)
    monkeypatch.setattr(atlas_fluid, "BELLY_SHARE", 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_fluid_lies_behind_and_collapsed_lung_on_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _always(monkeypatch)
    canvas, _ = _trunk(_fields(seed))
    before = canvas.tissue.copy()
    flood_chest(canvas, np.random.default_rng(seed))
    changed = canvas.tissue != before
    assert (before[changed] == LUNGS).all() and set(np.unique(canvas.tissue[changed])) <= {EFFUSION, COLLAPSED}
    y = np.broadcast_to(canvas.axes_mm[1], GRID.shape)
    for side in (slice(0, 35), slice(35, None)):
        part, depth = canvas.tissue[:, :, side], y[:, :, side]
        if (part == EFFUSION).any():
            assert depth[part == EFFUSION].mean() > depth[part == LUNGS].mean()
            assert (part == EFFUSION).sum() <= 0.61 * (before[:, :, side] == LUNGS).sum()
        if (part == EFFUSION).any() and (part == COLLAPSED).any():
            assert depth[part == LUNGS].mean() < depth[part == COLLAPSED].mean() < depth[part == EFFUSION].mean()


@pytest.mark.parametrize("seed", range(10))
def test_ascites_takes_fat_and_a_film_of_the_liver(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _always(monkeypatch)
    canvas, wall = _trunk(_fields(seed))
    before = canvas.tissue.copy()
    kidney = np.argwhere(before == KIDNEY) * 2.0
    flood_belly(canvas, wall, np.random.default_rng(seed))
    wet = canvas.tissue == ASCITES
    assert wet.any() and set(np.unique(before[wet])) <= {VISCERAL, LIVER} and (wall[wet] < 0).all()
    taken = np.argwhere(wet & (before == VISCERAL))[::97] * 2.0
    for at in taken:
        assert np.linalg.norm(kidney - at, axis=1).min() > APART_MM - 4  # measured on every second voxel
    film = wet & (before == LIVER)
    lungs = np.argwhere(before == LUNGS)[:, 0].min()
    away = np.minimum(-wall, 2.0 * (lungs - np.arange(len(wall)))[:, None, None])
    assert not film.any() or away[film].max() <= 2 * FILM_MM + 4
    left = canvas.tissue == LIVER
    assert (canvas.depth_mm[left] > 0).all() and (canvas.depth_mm[left] <= away[left] + 4).all()


def test_without_a_film_liver_keeps_its_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(monkeypatch)
    monkeypatch.setattr(atlas_fluid, "FILM_MM", 0.0)
    canvas, wall = _trunk(_fields(0))
    before = canvas.tissue == LIVER
    flood_belly(canvas, wall, np.random.default_rng(0))
    assert ((canvas.tissue == LIVER) == before).all() and (canvas.tissue == ASCITES).any()


def test_only_some_subjects_hold_fluid() -> None:
    found, fields = [], _fields(0)
    for seed in range(80):
        canvas, wall = _trunk(fields)
        flood_chest(canvas, np.random.default_rng(seed))
        flood_belly(canvas, wall, np.random.default_rng(1000 + seed))
        found.append([np.isin(canvas.tissue, [EFFUSION, COLLAPSED]).any(), (canvas.tissue == ASCITES).any()])
    chest, belly = np.mean(found, axis=0)
    assert 0.1 < chest < 0.5 and 0.1 < belly < 0.45


def test_fluid_is_no_organ_and_lung_without_air_is_lung() -> None:
    table = label_table()
    assert table[EFFUSION] == table[ASCITES] == 0 and table[COLLAPSED] == LUNGS


def test_a_map_without_lungs_or_kidneys_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(monkeypatch)
    canvas, wall = _trunk(_fields(0))
    canvas.tissue[np.isin(canvas.tissue, [LUNGS, KIDNEY])] = VISCERAL
    flood_chest(canvas, np.random.default_rng(0))
    flood_belly(canvas, wall, np.random.default_rng(0))
    assert not np.isin(canvas.tissue, [EFFUSION, COLLAPSED]).any()
