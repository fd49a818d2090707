"""Vessels that are wider than in their map."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_multiphase.phantom import atlas_calibre
from napari_multiphase.phantom.atlas_calibre import CALIBRES, GIVES_WAY, Calibre, widen_vessels
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_tissues import CODES, VISCERAL
from napari_multiphase.volume import Grid

GRID = Grid((70, 40, 60), (2.0, 2.0, 2.0), (-80.0, -40.0, -60.0))
CAVA, AORTA, KIDNEY, LIVER = (CODES[name] for name in ("inferior vena cava", "aorta", "right kidney", "liver"))


def _trunk(seed: int) -> Canvas:
    """A cava of 8 mm radius through fat, from 30 mm on through liver, beside an aorta and touching a kidney."""
    _, y, x = (o + s * np.arange(n) for o, s, n in zip(GRID.origin_mm, GRID.spacing_mm, GRID.shape, strict=True))
    tissue = np.full(GRID.shape, VISCERAL, np.uint8)
    tissue[55:] = LIVER
    for code, centre in ((CAVA, -14.0), (AORTA, 14.0)):
        tissue[:, np.hypot(y[:, None], x[None, :] - centre) < 8] = code
    tissue[:, :, x < -22] = KIDNEY
    fields = Fields(np.random.default_rng(seed), GRID.shape, 2.0)
    depth = np.ones(GRID.shape, np.float32)
    return Canvas(GRID, tissue, depth, np.empty(0, np.uint8), fields(14.0), fields(3.0), fields)


def _widened(seed: int) -> tuple[np.ndarray, Canvas]:
    canvas = _trunk(seed)
    before = canvas.tissue.copy()
    widen_vessels(canvas, np.random.default_rng(seed))
    return before, canvas


@pytest.mark.parametrize("seed", range(8))
def test_vessels_grow_in_one_piece_into_what_gives_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas_calibre, "CALIBRES", {code: c._replace(share=1.0) for code, c in CALIBRES.items()})
    before, canvas = _widened(seed)
    after, changed = canvas.tissue, canvas.tissue != before
    assert np.isin(before[changed], GIVES_WAY).all() and set(after[changed]) <= {CAVA, AORTA}
    assert (canvas.depth_mm[changed] >= 0).all() and (canvas.depth_mm[~changed] == 1).all()
    for code in (CAVA, AORTA):
        away = ndimage.distance_transform_edt(before != code, sampling=GRID.spacing_mm)
        assert ndimage.label(after == code)[1] == 1
        assert away[after == code].max() <= 1.5 * CALIBRES[code].most_mm


def test_the_cava_is_widest_behind_the_liver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas_calibre, "CALIBRES", {CAVA: Calibre(1.0, 6.0, 0.0)})
    grown = np.mean(
        [(c.tissue == CAVA).sum(axis=(1, 2)) - (b == CAVA).sum(axis=(1, 2)) for b, c in map(_widened, range(8))], axis=0
    )
    assert not grown[:15].any() and (grown[55:] > 5).all()


def test_only_some_subjects_differ_from_their_map() -> None:
    wide = [(after.tissue != before)[:, :, 12:].any() for before, after in map(_widened, range(60))]
    assert 0.3 < np.mean(wide) < 0.95
