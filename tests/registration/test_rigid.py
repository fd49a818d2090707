"""A known rigid motion is found again, in the right direction, across the change of contrast."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import ndimage

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.registration import register_rigid
from napari_multiphase.volume import Phase, Volume

Volumes = Mapping[Phase, Volume]


@pytest.fixture(scope="module")
def still() -> PhantomStudy:
    """A subject that did not breathe: both phases lie exactly alike, only contrast and noise differ."""
    return make_phantom(PhantomSpec(shape=(56, 96, 116), spacing_mm=(4.5, 3.2, 3.2), motion_mm=0.0, seed=3))


def rigid(shift_mm: tuple[float, float, float], turn_deg: tuple[float, float, float]) -> np.ndarray:
    """4 x 4 on LPS mm (x, y, z): turns about x, y, z through the origin, then a shift."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(turn_deg)):
        one = np.eye(4)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        matrix = one @ matrix
    matrix[:3, 3] = shift_mm
    return matrix


def moved(volume: Volume, matrix: np.ndarray) -> Volume:
    """The scan of a patient who moved: what was at point p is now at `matrix` p."""
    affine = volume.affine_mm
    pull = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ affine
    data = ndimage.affine_transform(volume.data.astype(np.float32), pull[:3, :3], pull[:3, 3], order=1, cval=-1000.0)
    return Volume.from_array(data.astype(np.int16), volume.spacing_mm, volume.grid.origin_mm)


def error_mm(found: np.ndarray, truth: np.ndarray, study: PhantomStudy) -> float:
    """Mean distance between where both maps put the voxels of the organs."""
    index = np.argwhere(study.labels[Phase.VENOUS] > 0)[::50]
    points = np.c_[index, np.ones(len(index))] @ study.volumes[Phase.VENOUS].affine_mm.T
    return float(np.linalg.norm((points @ (found - truth).T)[:, :3], axis=1).mean())


@pytest.mark.parametrize(
    ("shift_mm", "turn_deg"),
    [((6.0, -4.0, 9.0), (0.0, 0.0, 0.0)), ((-5.0, 8.0, -13.0), (2.0, -3.0, 4.0)), ((0.0, 0.0, 31.0), (0.0, 0.0, 1.0))],
)
def test_a_known_motion_is_recovered(
    still: PhantomStudy, shift_mm: tuple[float, float, float], turn_deg: tuple[float, float, float]
) -> None:
    truth = rigid(shift_mm, turn_deg)
    arterial = moved(still.volumes[Phase.ARTERIAL], truth)
    found = register_rigid(still.volumes[Phase.VENOUS], arterial)
    assert found.method == "rigid"
    assert error_mm(np.eye(4), truth, still) > 5.0
    assert error_mm(found.venous_to_arterial_mm, truth, still) < 0.5
    assert found.quality["bone_mm_after"] < found.quality["bone_mm_before"]
    assert found.quality["mi_after"] > found.quality["mi_before"]
    assert "Rigid only" in found.quality["sentence"]


def test_half_a_scan_is_enough(still: PhantomStudy) -> None:
    """The arterial scan begins 108 mm higher, as liver scans do."""
    truth = rigid((7.0, -5.0, -10.0), (1.0, 2.0, -3.0))
    whole = moved(still.volumes[Phase.ARTERIAL], truth)
    oz, oy, ox = whole.grid.origin_mm
    upper = Volume.from_array(whole.data[24:], whole.spacing_mm, (oz + 24 * whole.spacing_mm[0], oy, ox))
    found = register_rigid(still.volumes[Phase.VENOUS], upper)
    assert error_mm(found.venous_to_arterial_mm, truth, still) < 1.0


def test_the_offset_of_the_grids_counts(still: PhantomStudy) -> None:
    """The same pixels 20 mm to the left and 10 mm higher in the scanner: the map adds exactly that."""
    arterial = still.volumes[Phase.ARTERIAL]
    oz, oy, ox = arterial.grid.origin_mm
    elsewhere = Volume.from_array(arterial.data, arterial.spacing_mm, (oz + 10.0, oy, ox + 20.0))
    found = register_rigid(still.volumes[Phase.VENOUS], elsewhere)
    assert found.venous_to_arterial_mm[:3, 3] == pytest.approx([20.0, 0.0, 10.0], abs=2.0)
    assert error_mm(found.venous_to_arterial_mm, rigid((20.0, 0.0, 10.0), (0.0, 0.0, 0.0)), still) < 0.5


def test_nothing_moved_stays_nearly_where_it_is(still: PhantomStudy) -> None:
    found = register_rigid(still.volumes[Phase.VENOUS], still.volumes[Phase.ARTERIAL])
    assert error_mm(found.venous_to_arterial_mm, np.eye(4), still) < 0.4


def test_breathing_is_halved_for_the_organs() -> None:
    study = make_phantom(PhantomSpec(shape=(56, 96, 116), spacing_mm=(4.5, 3.2, 3.2), motion_mm=12.0, seed=1))
    found = register_rigid(study.volumes[Phase.VENOUS], study.volumes[Phase.ARTERIAL])
    index = np.argwhere(np.isin(study.labels[Phase.VENOUS], (1, 2, 3, 4, 6)))
    points = np.c_[index, np.ones(len(index))] @ study.volumes[Phase.VENOUS].affine_mm.T
    motion = study.motion_mm[tuple(index.T)]
    left = (points @ found.venous_to_arterial_mm.T - points)[:, :3] - motion
    before, after = (float(np.linalg.norm(v, axis=1).mean()) for v in (motion, left))
    assert after < 0.6 * before
    assert "breathing moved" in found.quality["sentence"]


def test_the_result_repeats_and_progress_grows(still: PhantomStudy) -> None:
    arterial = moved(still.volumes[Phase.ARTERIAL], rigid((4.0, 0.0, -6.0), (0.0, 0.0, 2.0)))
    events: list[Event] = []
    first = register_rigid(still.volumes[Phase.VENOUS], arterial, on_event=events.append)
    second = register_rigid(still.volumes[Phase.VENOUS], arterial)
    assert np.abs(first.venous_to_arterial_mm - second.venous_to_arterial_mm).max() < 1e-3
    fractions = [event.fraction for event in events if event.fraction is not None]
    assert len(fractions) > 5
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_cancel_stops_the_search(still: PhantomStudy) -> None:
    cancel = Cancel()
    seen: list[Event] = []

    def stop_at_third(event: Event) -> None:
        seen.append(event)
        if len(seen) == 3:
            cancel.set()

    with pytest.raises(Cancelled):
        register_rigid(
            still.volumes[Phase.VENOUS], still.volumes[Phase.ARTERIAL], on_event=stop_at_third, cancel=cancel
        )
    assert len(seen) <= 4


def test_air_cannot_be_registered(still: PhantomStudy) -> None:
    air = Volume.from_array(np.full((20, 40, 40), -1000, np.int16), (4.0, 4.0, 4.0))
    with pytest.raises(UserError, match="no body"):
        register_rigid(still.volumes[Phase.VENOUS], air)
