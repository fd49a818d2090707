"""What is filled in where a map leaves an organ's place empty."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom import atlas_gaps
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_gaps import (
    BED,
    CLEAR_MM,
    CRUS_MM,
    LEAST_STOMACH_ML,
    fill_stomach,
    hollow_kidneys,
    mend_vessels,
    paint_crura,
)
from napari_multiphase.phantom.atlas_tissues import BODY, CODES, VISCERAL
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Grid

STOMACH, LIVER, AORTA, MUSCLE = (CODES[name] for name in ("stomach", "liver", "aorta", "muscle"))
GRID = Grid((80, 80, 100), (2.5, 2.5, 2.5), (-80.0, -110.0, -125.0))
WALL = np.full(GRID.shape, -40, np.int8)


def _axes() -> tuple[np.ndarray, ...]:
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(GRID.origin_mm, GRID.spacing_mm, GRID.shape, strict=True))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _upper_abdomen() -> np.ndarray:
    """Codes: a liver over the right and a part of the left side, and corners of the other organs around a gap."""
    _, _, x = _axes()
    codes = np.full(GRID.shape, BODY, np.uint8)
    codes[np.broadcast_to(x < 30, GRID.shape)] = LIVER
    for k, code in enumerate(code for code in BED if code != LIVER):
        codes[:6, 6 * k : 6 * k + 6, :6] = code
    return codes


def test_stomach_fills_its_empty_bed_and_keeps_clear_of_its_neighbours() -> None:
    codes = _upper_abdomen()
    before = codes.copy()
    fill_stomach(codes, GRID, Subject(0), WALL)
    stomach = codes == STOMACH
    assert np.count_nonzero(stomach) * GRID.voxel_ml > LEAST_STOMACH_ML
    assert (before[stomach] == BODY).all() and (codes[~stomach] == before[~stomach]).all()
    x = np.broadcast_to(_axes()[2], GRID.shape)
    assert x[stomach].min() > x[before == LIVER].max() and x[stomach].min() < 30 + 4 * CLEAR_MM


@pytest.mark.parametrize("reason", ["has one", "neighbour missing", "no room", "outside the cavity"])
def test_no_stomach_is_invented_elsewhere(reason: str) -> None:
    codes, wall = _upper_abdomen(), WALL
    if reason == "has one":
        codes[40:44, 40:44, 80:84] = STOMACH
    elif reason == "neighbour missing":
        codes[codes == IDS_BY_NAME["spleen"]] = BODY
    elif reason == "no room":
        codes[codes == BODY] = IDS_BY_NAME["colon"]
    else:
        wall = np.full(GRID.shape, 10, np.int8)
    before = codes.copy()
    fill_stomach(codes, GRID, Subject(0), wall)
    assert (codes == before).all()


def test_broken_vessels_become_one_piece() -> None:
    _, y, x = _axes()
    cava, pancreas = CODES["inferior vena cava"], CODES["pancreas"]
    codes = np.full(GRID.shape, BODY, np.uint8)
    codes[30:70] = LIVER
    for code, middle in ((cava, -25.0), (AORTA, 20.0)):
        codes[:60, np.broadcast_to((x - middle) ** 2 + y**2 < 10**2, GRID.shape)[0]] = code
    whole = codes.copy()
    codes[35:50][whole[35:50] == cava] = LIVER  # the liver drawn over it ...
    codes[40, 44, 40] = cava  # ... but for a crumb
    codes[10:20][whole[10:20] == AORTA] = BODY
    codes[14, 42:46, 56:60] = pancreas  # what the map does hold in a gap stays
    before = codes.copy()
    mend_vessels(codes, GRID)
    kept = before != pancreas
    for code in (cava, AORTA):
        found, true = (codes == code) & kept, (whole == code) & kept
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.97
    assert (codes[~kept] == pancreas).all()
    assert set(np.unique(before[codes != before])) <= {BODY, LIVER}
    again = codes.copy()
    mend_vessels(again, GRID)
    assert (again == codes).all()


def test_whole_vessels_and_absent_ones_are_left_alone() -> None:
    _, y, x = _axes()
    codes = np.full(GRID.shape, BODY, np.uint8)
    for present in (False, True):
        if present:
            codes[np.broadcast_to(x**2 + y**2 < 10**2, GRID.shape)] = AORTA
        before = codes.copy()
        mend_vessels(codes, GRID)
        assert (codes == before).all()


def test_crura_lie_beside_and_behind_the_aorta_not_before_it() -> None:
    _, y, x = _axes()
    codes = np.full(GRID.shape, BODY, np.uint8)
    codes[np.broadcast_to(x**2 + y**2 < 10**2, GRID.shape)] = AORTA
    codes[np.broadcast_to(x > 12, GRID.shape)] = IDS_BY_NAME["spleen"]
    paint_crura(codes, GRID)
    found = np.argwhere(codes == MUSCLE) * 2.5 + np.array(GRID.origin_mm)
    assert len(found) and found[:, 0].min() >= -16 and found[:, 0].max() <= 71
    assert np.hypot(found[:, 1], found[:, 2]).max() < 10 + CRUS_MM + 2.5
    assert found[:, 1].min() > -13 and found[:, 2].min() < -10 and found[:, 2].max() <= 12.5
    assert not (codes[40][:, 50] == MUSCLE)[:30].any() and (codes[40][:, 50] == MUSCLE)[40:].any()


@pytest.mark.parametrize("pelvis", [False, True])
def test_kidneys_get_a_sinus_towards_the_spine(pelvis: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas_gaps, "PELVIS_SHARE", float(pelvis))
    z, y, x = _axes()
    tissue = np.full(GRID.shape, VISCERAL, np.uint8)
    kidneys = {"right kidney": -60.0, "left kidney": 60.0}
    for name, side in kidneys.items():
        tissue[((x - side) / 26) ** 2 + (y / 28) ** 2 + (z / 52) ** 2 < 1] = CODES[name]
    before = tissue.copy()
    fields = Fields(np.random.default_rng(0), GRID.shape, 2.5)
    empty = np.zeros(GRID.shape, np.float32)
    canvas = Canvas(GRID, tissue, empty, np.empty(0, np.uint8), fields(14.0), fields(3.0), fields)
    hollow_kidneys(canvas, np.random.default_rng(1))
    for name, side in kidneys.items():
        was, now = before == CODES[name], tissue == CODES[name]
        assert not (now & ~was).any() and (0.6 if pelvis else 0.7) < now.sum() / was.sum() < 0.97
        beside = (tissue == CODES["urine"]) & ~was & (np.sign(x) == np.sign(side))
        assert beside.any() == pelvis
        assert not pelvis or np.abs(np.broadcast_to(x, GRID.shape)[beside]).mean() < abs(side) - 12
        sinus = np.abs(np.broadcast_to(x, GRID.shape)[was & ~now])
        assert sinus.mean() < abs(side) - 4  # nearer to the spine than the kidney's middle
        assert set(np.unique(tissue[was & ~now])) <= {VISCERAL, CODES["urine"]}
