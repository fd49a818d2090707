"""Known deformations are found again across the change of contrast, without folds, and with their inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.registration.test_rigid import rigid

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.field import DenseField
from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.registration.deformable import register_deformable
from napari_multiphase.registration.demons import Demons
from napari_multiphase.registration.field_quality import near_surfaces, structure_distances, target_error_mm
from napari_multiphase.registration.gauss_newton import GaussNewton
from napari_multiphase.registration.pyramid import BEYOND_MM, Level
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Phase, Volume

QUICK = {
    "mind": GaussNewton(spacings_mm=(14.0, 9.0, 6.0), steps=(6, 4, 3)),
    "demons": Demons(spacings_mm=(14.0, 9.0, 6.0), steps=(30, 20, 10)),
}


@pytest.fixture(scope="module")
def breathing() -> PhantomStudy:
    return make_phantom(PhantomSpec(shape=(48, 72, 84), spacing_mm=(5.0, 4.4, 4.4), motion_mm=12.0, seed=1))


def error_mm(found: PhaseTransform, study: PhantomStudy) -> float:
    grid = study.spec.grid
    near = near_surfaces(study.labels[Phase.VENOUS], grid)
    return float(target_error_mm(found.to_arterial, study.motion_mm, grid, near).mean())


@pytest.mark.parametrize("method", list(QUICK))
def test_breathing_is_found_across_the_change_of_contrast(breathing: PhantomStudy, method: str) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    events: list[Event] = []
    found = register_deformable(venous, arterial, np.eye(4), method=QUICK[method], device="cpu", on_event=events.append)
    before = float(np.linalg.norm(breathing.motion_mm, axis=-1)[breathing.labels[Phase.VENOUS] > 0].mean())
    assert error_mm(found, breathing) < 0.45 * before
    assert found.method == method
    assert found.quality["folded_share"] == 0.0 and found.quality["jacobian_min"] > 0.0
    assert found.quality["inverse_mean_mm"] < 0.1 and found.quality["inverse_max_mm"] < 1.0  # on a grid of 6 mm
    assert found.quality["difference_after"] < found.quality["difference_before"]
    fractions = [event.fraction for event in events if event.fraction is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) > 8


@pytest.mark.parametrize("method", [GaussNewton((12.0, 8.0), (3, 2)), Demons((12.0, 8.0), (4, 3))])
def test_identical_images_do_not_move(breathing: PhantomStudy, method: GaussNewton | Demons) -> None:
    venous = breathing.volumes[Phase.VENOUS]
    found = register_deformable(venous, venous, np.eye(4), method=method, device="cpu")
    assert not found.dense and found.method == "rigid" and "Rigid only" in found.quality["sentence"]


def test_the_grids_go_on_where_a_scan_cuts_the_body(breathing: PhantomStudy) -> None:
    """Above and below; nothing counts there, and a point that leaves the arterial scan counts for nothing either."""
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    level = Level.of(venous, arterial, np.eye(4), 8.0, "cpu")
    lacking = int(np.ceil(BEYOND_MM / 8.0))
    assert level.grid.origin_mm[0] == pytest.approx(venous.grid.origin_mm[0] - 8.0 * lacking)
    assert not level.weight[:lacking].any() and not level.weight[-lacking:].any()
    assert level.weight[lacking:-lacking].any(dim=(1, 2)).all()
    assert torch.equal(level.fixed[0], level.fixed[lacking])
    up = torch.zeros(3, *level.grid.shape)
    up[0] = 40.0
    for displacement, least in ((torch.zeros_like(up), 0), (up, 4)):
        _, inside = level.warped(displacement)
        reached = inside[:, inside.shape[1] // 2, inside.shape[2] // 2]
        assert int(reached[lacking:-lacking].logical_not().sum()) in (least, least + 1)


def test_a_rigid_start_is_part_of_the_map(breathing: PhantomStudy) -> None:
    """The same pixels 20 mm to the left in the scanner: a start that knows leaves nothing to deform."""
    venous = breathing.volumes[Phase.VENOUS]
    oz, oy, ox = venous.grid.origin_mm
    elsewhere = Volume.from_array(venous.data, venous.spacing_mm, (oz, oy, ox + 20.0))
    start = np.eye(4)
    start[0, 3] = 20.0
    found = register_deformable(venous, elsewhere, start, method=GaussNewton((12.0,), (1,)), device="cpu")
    assert not found.dense and np.array_equal(found.venous_to_arterial_mm, start)


def test_dense_maps_hold_the_rigid_start_and_cover_both_scans(breathing: PhantomStudy) -> None:
    """The arterial scan 20 mm to the left in the scanner: the same anatomy is met."""
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    oz, oy, ox = arterial.grid.origin_mm
    elsewhere = Volume.from_array(arterial.data, arterial.spacing_mm, (oz, oy, ox + 20.0))
    start = rigid((20.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    found = register_deformable(venous, elsewhere, start, method=GaussNewton((12.0, 8.0), (3, 2)), device="cpu")
    plain = register_deformable(venous, arterial, np.eye(4), method=GaussNewton((12.0, 8.0), (3, 2)), device="cpu")
    points = np.array([[0.0, 0.0, 0.0], [30.0, -40.0, 20.0], [-60.0, 50.0, -35.0]]) + venous.grid.affine_mm[:3, 3] + 120
    moved = found.map(points, Phase.ARTERIAL)
    assert moved == pytest.approx(plain.map(points, Phase.ARTERIAL) + np.array([20.0, 0.0, 0.0]), abs=0.1)
    assert found.map(moved, Phase.VENOUS) == pytest.approx(points, abs=0.5)
    for phase, volume in ((Phase.ARTERIAL, venous), (Phase.VENOUS, elsewhere)):
        field = found.into(phase)
        assert field.grid.origin_mm == volume.grid.origin_mm
        reach, own = ((np.array(grid.shape) - 1) * np.array(grid.spacing_mm) for grid in (volume.grid, field.grid))
        assert own == pytest.approx(reach)


@pytest.mark.parametrize("settings", [GaussNewton((8.0, 4.0), (6, 6)), Demons((8.0, 4.0), (30, 40), features="hu")])
def test_a_shift_of_two_voxels_is_recovered(settings: GaussNewton | Demons) -> None:
    """A textured body moves 8 mm to the left between two scans of 4 mm voxels."""
    rng = np.random.default_rng(5)
    z, y, x = np.ogrid[-1:1:32j, -1:1:40j, -1:1:44j]
    texture = ndimage.gaussian_filter(rng.normal(size=(32, 40, 44)), 2.0)
    hu = np.where(y**2 + x**2 < 0.6, 60.0 + 60.0 * texture / texture.std(), -1000.0) + 0.0 * z
    venous = Volume.from_array(hu.astype(np.float32), (4.0, 4.0, 4.0))
    arterial = Volume.from_array(np.roll(hu, 2, axis=2).astype(np.float32), (4.0, 4.0, 4.0))
    found = register_deformable(venous, arterial, np.eye(4), method=settings, device="cpu")
    inner = np.argwhere((y**2 + x**2 < 0.4) & (np.abs(z) < 0.8))[:, ::-1] * 4.0
    moved = found.map(inner, Phase.ARTERIAL) - inner
    assert moved.mean(axis=0) == pytest.approx([8.0, 0.0, 0.0], abs=0.4)
    assert found.quality["jacobian_min"] > 0.0


def test_a_structure_is_carried_through_the_map(breathing: PhantomStudy) -> None:
    grid, labels = breathing.spec.grid, breathing.labels
    found = register_deformable(
        breathing.volumes[Phase.VENOUS],
        breathing.volumes[Phase.ARTERIAL],
        np.eye(4),
        method=QUICK["mind"],
        device="cpu",
    )
    still = DenseField(np.zeros((*grid.shape, 3), np.float32), grid)
    liver = (1, 21)
    before, after = (
        structure_distances(field, labels[Phase.VENOUS], grid, labels[Phase.ARTERIAL], grid, liver)
        for field in (still, found.to_arterial)
    )
    assert after.assd_mm < 0.5 * before.assd_mm


def test_demons_take_the_surfaces_of_organs(breathing: PhantomStudy) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    settings = Demons((14.0, 9.0), (15, 10))
    labels = breathing.labels[Phase.VENOUS]
    held = register_deformable(venous, arterial, np.eye(4), method=settings, organs=labels, device="cpu")
    free = register_deformable(venous, arterial, np.eye(4), method=settings, device="cpu")
    assert held.quality["folded_share"] == 0.0
    difference = held.to_arterial.displacement_mm - free.to_arterial.displacement_mm
    assert np.abs(difference).max() > 0.1


def test_cancelling_and_wrong_names_are_said(breathing: PhantomStudy) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        register_deformable(venous, arterial, np.eye(4), device="cpu", cancel=cancel)
    with pytest.raises(UserError, match="choose one of mind, demons"):
        register_deformable(venous, arterial, np.eye(4), method="splines")
    far = np.eye(4)
    far[2, 3] = 5000.0
    with pytest.raises(UserError, match="no part of the body"):
        register_deformable(venous, arterial, far, method=GaussNewton((12.0,), (1,)), device="cpu")
    air = venous.with_data(np.full(venous.shape, -1000, np.int16))
    with pytest.raises(UserError, match="no body"):
        register_deformable(venous, air, np.eye(4), device="cpu")
