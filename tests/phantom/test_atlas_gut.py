"""What hollow organs of a label map hold."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_gut import KINDS, Kind, Lumen, fill
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
