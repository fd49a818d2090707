"""What hollow organs of a label map hold."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_gut import CONTRAST_HU, DROWNED, KINDS, REACHED, Kind, Lumen, fill, hold_contrast
from napari_multiphase.phantom.atlas_tissues import CODES, VISCERAL
from napari_multiphase.phantom.kinetics import BOWEL_GAS_HU
from napari_multiphase.volume import Grid

GRID = Grid((40, 60, 60), (2.0, 2.0, 2.0), (-40.0, -90.0, -60.0))
STOMACH = CODES["stomach"]
PLAIN = Kind("fluid", 10, 0.9, 0.0, (3.0, 3.0), 0.0, 0.0, 0.0)


def _ball(seed: int) -> tuple[Canvas, np.ndarray, np.ndarray]:
    """A stomach of 60 mm across in fat, and its two fields."""
    z, y, x = (o + 2.0 * np.arange(n) for o, n in zip(GRID.origin_mm, GRID.shape, strict=True))
    depth = 30 - np.sqrt(z[:, None, None] ** 2 + (y[None, :, None] + 30) ** 2 + x[None, None, :] ** 2)
    tissue = np.where(depth > 0, STOMACH, VISCERAL).astype(np.uint8)
    fields = Fields(np.random.default_rng(seed), GRID.shape, 2.0)
    canvas = Canvas(
        GRID, tissue, np.abs(depth).astype(np.float32), np.empty(0, np.uint8), fields(14.0), fields(3.0), fields
    )
    return canvas, fields(14.0), fields(6.0)


def _stomach(seed: int, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> tuple[Canvas, Lumen]:
    monkeypatch.setitem(KINDS, STOMACH, kind)
    canvas, lumps, mottle = _ball(seed)
    (lumen,) = (f for f in fill(canvas, np.random.default_rng(seed), lumps, mottle, False) if f.code == STOMACH)
    return canvas, lumen


@pytest.mark.parametrize("seed", range(4))
def test_a_wall_is_left_and_nothing_else_is_touched(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, lumen = _stomach(seed, PLAIN, monkeypatch)
    depth = canvas.depth_mm[lumen.inside]
    assert depth.min() > 3.0 and (canvas.tissue[lumen.inside] == STOMACH).all()
    assert len(depth) == np.count_nonzero((canvas.tissue == STOMACH) & (canvas.depth_mm > 3.0))
    image = np.full(GRID.shape, 77, np.float32)
    lumen.paint(image, 20.0)
    changed = np.zeros(GRID.shape, bool)
    changed[lumen.inside] = True
    assert (image[~changed] == 77).all()
    full = lumen.gas == 1
    assert np.allclose(image[changed][full], BOWEL_GAS_HU, atol=0.01)
    assert abs(image[changed][lumen.gas == 0].mean() - 20) < 12


def test_gas_lies_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.broadcast_to(GRID.origin_mm[1] + 2.0 * np.arange(60)[None, :, None], GRID.shape)
    above = []
    for seed in range(12):
        _, lumen = _stomach(seed, PLAIN._replace(level=1.0), monkeypatch)
        gas, height = lumen.gas == 1, y[lumen.inside]
        if 0 < gas.sum() < len(gas):
            above.append(height[~gas].mean() - height[gas].mean())
    assert len(above) > 3 and np.mean(above) > 8 and max(above) > 15


def test_bubbles_and_folds_where_they_are_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = _stomach(3, PLAIN._replace(gas_above=99.0), monkeypatch)
    _, bubbly = _stomach(3, PLAIN._replace(gas_above=99.0, bubbles=1.0), monkeypatch)
    _, folded = _stomach(3, PLAIN._replace(gas_above=99.0, folds=1.0), monkeypatch)
    assert not plain.gas.any() and 0.02 < np.mean(bubbly.gas > 0) < 0.5 and bubbly.gas.max() < 1
    assert 0.8 * len(plain.gas) < len(folded.gas) < len(plain.gas)


def test_a_blown_stretch_holds_gas_alone_and_the_rest_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for seed in range(8):
        _, lumen = _stomach(seed, PLAIN._replace(gas_above=99.0, blown=1.0), monkeypatch)
        shares.append(float(np.mean(lumen.gas)))
        assert set(np.unique(lumen.gas)) <= {0, 1}
    assert 0.1 < np.mean(shares) < 0.7 and max(shares) > 0.5  # more than pockets


def _hollow(seed: int) -> list[Lumen]:
    """One voxel of gas and one of content in every hollow organ."""
    at = (np.array([0, 0]), np.array([0, 0]), np.array([0, 1]))
    gas = np.array([1, 0], np.float32)
    hollow = [Lumen(code, kind.content, at, np.zeros(2, np.float32), gas) for code, kind in KINDS.items()]
    return hold_contrast(hollow, np.random.default_rng(seed), share=0.5)


def test_contrast_medium_may_be_in_the_colon_alone_or_anywhere() -> None:
    drunk = [hollow for hollow in map(_hollow, range(600)) if any(lumen.contrast_hu for lumen in hollow)]
    assert len(drunk) / 600 == pytest.approx(0.5, abs=0.06)
    holds = np.array([[lumen.contrast_hu is not None for lumen in hollow] for hollow in drunk])
    assert holds.mean(axis=0) == pytest.approx(REACHED, abs=0.1)
    codes = list(KINDS)
    colon, stomach = holds[:, codes.index(CODES["colon"])], holds[:, codes.index(STOMACH)]
    assert (colon & ~stomach).mean() == pytest.approx(REACHED * (1 - REACHED), abs=0.07)
    filled = [lumen for hollow in drunk for lumen in hollow if lumen.contrast_hu is not None]
    assert np.mean([not lumen.gas.any() for lumen in filled]) == pytest.approx(DROWNED, abs=0.06)
    hu = [lumen.contrast_hu for lumen in filled]
    assert 0.6 * CONTRAST_HU[0] <= min(hu) and max(hu) <= 1.2 * CONTRAST_HU[1]


def test_contrast_medium_takes_the_place_of_content_and_leaves_what_gas_remains() -> None:
    lumen = next(x for seed in range(99) for x in _hollow(seed) if x.contrast_hu is not None and x.gas.any())
    image = np.zeros((1, 1, 3), np.float32)
    lumen.paint(image, 20.0)
    assert image[0, 0] == pytest.approx([BOWEL_GAS_HU, lumen.contrast_hu, 0])
