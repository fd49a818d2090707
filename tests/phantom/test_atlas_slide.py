"""Soft organs of a subject that slide over each other, and those of another person."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.phantom import atlas_slide
from napari_multiphase.phantom.atlas_body import BodyModel, depth_of
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Fields
from napari_multiphase.phantom.atlas_slide import GIVES_WAY, GROUPS, slide_organs
from napari_multiphase.phantom.atlas_tissues import BODY, CODES
from napari_multiphase.volume import Grid

SHAPE = (60, 60, 90)
GRID = Grid(SHAPE, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
MOVING = [code for group in GROUPS for code in group.codes]
PANCREAS, STOMACH, COLON, LIVER, AORTA = (CODES[n] for n in ("pancreas", "stomach", "colon", "liver", "aorta"))


def _codes(pancreas_mm: float = 12.0) -> np.ndarray:
    """A belly with a liver, an aorta, and three organs that slide, the colon in touch with the stomach."""
    z, y, x = np.meshgrid(*(2.0 * np.arange(n) for n in SHAPE), indexing="ij")
    codes = np.full(SHAPE, BODY, np.uint8)
    codes[x < 40] = LIVER
    codes[np.hypot(y - 90, x - 90) < 10] = AORTA
    codes[np.hypot(np.hypot(z - 50, y - 60), (x - 90) / 3) < pancreas_mm] = PANCREAS
    codes[np.hypot(np.hypot(z - 60, y - 25), x - 110) < 20] = STOMACH
    codes[(np.hypot(y - 30, x - 150) < 20) & (z > 20)] = COLON
    return codes


def _wall() -> np.ndarray:
    y = 2.0 * np.arange(SHAPE[1])[None, :, None]
    return np.broadcast_to(np.abs(y - 60) - 56, SHAPE).astype(np.int8)


def _canvas(codes: np.ndarray) -> Canvas:
    fields = Fields(np.random.default_rng(0), SHAPE, 2.0)
    depth = depth_of(codes).astype(np.float32) / 2
    return Canvas(GRID, codes.copy(), depth, np.empty(0, np.uint8), fields(14.0), fields(3.0), fields)


def _body(codes: np.ndarray) -> BodyModel:
    empty = np.zeros(SHAPE, np.int8)
    return BodyModel(GRID, codes, depth_of(codes), empty, empty, frozenset())


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas_slide, "SLIDE_SHARE", 1.0)


@pytest.mark.parametrize("seed", range(6))
def test_what_does_not_slide_stays_and_nothing_is_left_behind(seed: int) -> None:
    codes, wall = _codes(), _wall()
    canvas = _canvas(codes)
    slide_organs(canvas, wall, np.random.default_rng(seed), None)
    fixed = ~np.isin(codes, [*MOVING, BODY])
    assert (canvas.tissue[fixed] == codes[fixed]).all()
    new = np.isin(canvas.tissue, MOVING) & ~np.isin(codes, MOVING)
    assert np.isin(codes[new], GIVES_WAY).all() and (wall[new] < 0).all() and new.any()
    left = np.isin(codes, MOVING) & ~np.isin(canvas.tissue, MOVING)
    assert (canvas.tissue[left] == BODY).all() and left.any()
    np.testing.assert_array_equal(canvas.depth_mm, depth_of(canvas.tissue) / np.float32(2))
    for code in (PANCREAS, STOMACH, COLON):
        assert 0.4 < (canvas.tissue == code).sum() / (codes == code).sum() < 2.2


def test_organs_slide_over_each_other() -> None:
    """Displacements of two organs differ by more than the smooth deformation's neighbours could."""
    codes, apart = _codes(), []
    before = {c: np.argwhere(codes == c).mean(axis=0) for c in (PANCREAS, STOMACH)}
    for seed in range(8):
        canvas = _canvas(codes)
        slide_organs(canvas, _wall(), np.random.default_rng(seed), None)
        moved = {c: np.argwhere(canvas.tissue == c).mean(axis=0) - before[c] for c in before}
        apart.append(2 * np.linalg.norm(moved[PANCREAS] - moved[STOMACH]))
    assert np.median(apart) > 4


def test_upper_organs_are_the_donors_in_the_subjects_place() -> None:
    """A donor with a pancreas twice as thick, drawn elsewhere: it comes to where the subject's was."""
    codes, theirs = _codes(), np.roll(_codes(pancreas_mm=18.0), (5, -4, 3), (0, 1, 2))
    canvas = _canvas(codes)
    slide_organs(canvas, _wall(), np.random.default_rng(3), _body(theirs))
    found = canvas.tissue == PANCREAS
    assert found.sum() > 1.4 * (codes == PANCREAS).sum()
    assert 2 * np.linalg.norm(np.argwhere(found).mean(axis=0) - np.argwhere(codes == PANCREAS).mean(axis=0)) < 15


@pytest.mark.parametrize("shift", [(40, 0, 0), (-45, 10, 60)])
def test_a_donor_whose_organs_reach_out_of_the_canvas(shift: tuple[int, int, int]) -> None:
    codes = _codes()
    canvas = _canvas(codes)
    slide_organs(canvas, _wall(), np.random.default_rng(1), _body(np.roll(codes, shift, (0, 1, 2))))
    assert (canvas.tissue == PANCREAS).any()


def test_a_subject_keeps_its_own_of_what_the_donor_lacks() -> None:
    codes, theirs = _codes(), _codes()
    theirs[theirs == STOMACH] = BODY
    canvas = _canvas(codes)
    slide_organs(canvas, _wall(), np.random.default_rng(4), _body(theirs))
    assert (canvas.tissue == STOMACH).sum() > 0.4 * (codes == STOMACH).sum()


def test_a_subject_without_a_pancreas_keeps_its_own_organs() -> None:
    codes = _codes()
    codes[codes == PANCREAS] = BODY
    alone, with_donor = _canvas(codes), _canvas(codes)
    slide_organs(alone, _wall(), np.random.default_rng(2), None)
    slide_organs(with_donor, _wall(), np.random.default_rng(2), _body(_codes()))
    np.testing.assert_array_equal(alone.tissue, with_donor.tissue)
