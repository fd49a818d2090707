"""Rigid, then dense: what comes out, what it is judged by, and when the rigid map is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.registration.test_rigid import rigid

from napari_multiphase.config import RegisterOptions
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.registration import deformable
from napari_multiphase.registration.deformable import register_deformable
from napari_multiphase.registration.field_quality import near_surfaces
from napari_multiphase.registration.gauss_newton import GaussNewton
from napari_multiphase.registration.register import register
from napari_multiphase.volume import Phase

QUICK = GaussNewton(spacings_mm=(14.0, 9.0, 6.0), steps=(6, 4, 3))


@pytest.fixture(scope="module")
def breathing() -> PhantomStudy:
    return make_phantom(PhantomSpec(shape=(48, 72, 84), spacing_mm=(5.0, 4.4, 4.4), motion_mm=12.0, seed=1))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default method in its place, coarser."""
    monkeypatch.setitem(deformable.METHODS, "mind", lambda: QUICK)  # type: ignore[arg-type]


def test_a_dense_map_is_judged_before_rigid_and_after(breathing: PhantomStudy) -> None:
    events: list[Event] = []
    found = register(breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL], on_event=events.append)
    quality = found.quality
    assert found.method == "mind" and found.dense and "warning" not in quality
    assert quality["mi_after"] > quality["mi_rigid"] >= quality["mi_before"] - 1e-6
    assert quality["ncc_after"] > quality["ncc_before"]
    assert quality["folded_share"] == 0 and quality["jacobian_min"] > 0 and quality["inverse_mean_mm"] < 0.2
    for words in ("as a whole", "Correlation", "bone surfaces", "Nothing folds"):
        assert words in quality["sentence"]
    shares = [event.fraction for event in events if event.fraction is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0
    near = found.map(found.map(np.array([[20.0, 30.0, 10.0]]), Phase.ARTERIAL), Phase.VENOUS)
    assert near == pytest.approx(np.array([[20.0, 30.0, 10.0]]), abs=0.5)


def test_the_scan_that_stays_may_be_the_arterial_one(breathing: PhantomStudy) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    one = register(venous, arterial)
    other = register(venous, arterial, RegisterOptions(fixed=Phase.ARTERIAL))
    near = np.argwhere(near_surfaces(breathing.labels[Phase.VENOUS], venous.grid))[::200]
    points = (near * venous.grid.spacing_mm + venous.grid.origin_mm)[:, ::-1]
    apart = np.linalg.norm(one.map(points, Phase.ARTERIAL) - other.map(points, Phase.ARTERIAL), axis=1)
    moved = np.linalg.norm(one.map(points, Phase.ARTERIAL) - points, axis=1)
    assert moved.mean() > 3.0 and apart.mean() < 1.5  # on grids of 6 mm
    grids = [other.into(phase).grid for phase in (Phase.ARTERIAL, Phase.VENOUS)]
    assert grids[0].origin_mm == venous.grid.origin_mm and grids[1].origin_mm == arterial.grid.origin_mm


def test_rigid_alone_is_a_matrix(breathing: PhantomStudy) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    found = register(venous, arterial, RegisterOptions(method="rigid"))
    back = register(venous, arterial, RegisterOptions(method="rigid", fixed=Phase.ARTERIAL))
    assert not found.dense and found.method in ("rigid", "identity")
    assert np.abs(found.venous_to_arterial_mm @ np.linalg.inv(back.venous_to_arterial_mm) - np.eye(4)).max() < 3.0


def test_the_same_scan_twice_is_not_deformed_and_said_so(breathing: PhantomStudy) -> None:
    venous = breathing.volumes[Phase.VENOUS]
    found = register(venous, venous)
    assert not found.dense and np.array_equal(found.venous_to_arterial_mm, np.eye(4))
    assert "no more like" in found.quality["sentence"]


@pytest.mark.parametrize(("figure", "words"), [("folded_share", "folded 25.00%"), ("mi", "less alike")])
def test_a_dense_map_that_folds_or_fits_less_is_left_out(
    breathing: PhantomStudy, monkeypatch: pytest.MonkeyPatch, figure: str, words: str
) -> None:
    def spoiled(*args, **keywords):
        found = register_deformable(*args, **keywords)
        if figure == "folded_share":
            return replace(found, quality={**found.quality, "folded_share": 0.25})
        still = replace(found.to_arterial, displacement_mm=found.to_arterial.displacement_mm + np.float32(40.0))
        return replace(found, to_arterial=still)

    monkeypatch.setattr(deformable, "register_deformable", spoiled)
    found = register(breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL])
    assert not found.dense and words in found.quality["sentence"]


def test_cancelling_and_absent_devices_are_said(breathing: PhantomStudy) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        register(venous, arterial, cancel=cancel)
    if not deformable.torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            register(venous, arterial, RegisterOptions(device="cuda"))


def test_a_moved_table_is_the_rigid_part(breathing: PhantomStudy) -> None:
    """30 mm to the left in the scanner: the matrix takes it, the rest is as without."""
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    oz, oy, ox = arterial.grid.origin_mm
    moved = type(arterial).from_array(arterial.data, arterial.spacing_mm, (oz, oy, ox + 30.0))
    found = register(venous, moved)
    assert found.venous_to_arterial_mm[:3, 3] == pytest.approx(rigid((30.0, 0, 0), (0, 0, 0))[:3, 3], abs=6.0)
    assert found.dense and found.quality["moved_mean_mm"] < 8.0


@pytest.mark.parametrize("how", ["other patient", "mirrored", "upside down"])
@pytest.mark.parametrize("method", ["rigid", "mind"])
def test_scans_that_are_hardly_one_patient_s_are_warned_about(breathing: PhantomStudy, how: str, method: str) -> None:
    venous, arterial = breathing.volumes[Phase.VENOUS], breathing.volumes[Phase.ARTERIAL]
    if how == "other patient":
        arterial = make_phantom(replace(breathing.spec, seed=2)).volumes[Phase.ARTERIAL]
    else:
        data = arterial.data[:, :, ::-1] if how == "mirrored" else arterial.data[::-1]
        arterial = arterial.with_data(np.ascontiguousarray(data))
    events: list[Event] = []
    found = register(venous, arterial, RegisterOptions(method=method), on_event=events.append)  # type: ignore[arg-type]
    assert "unlike even once aligned" in found.quality["warning"]
    assert [event.message for event in events if event.kind == "warning"] == [found.quality["warning"]]
