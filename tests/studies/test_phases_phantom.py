"""Phase recognition on phantoms, whose contrast is drawn from published kinetics."""

from __future__ import annotations

import pytest

from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.studies import build_study
from napari_multiphase.studies.phases import is_delayed, recognise
from napari_multiphase.volume import Phase


@pytest.fixture(scope="module", params=[0, 4])
def phantom(request: pytest.FixtureRequest) -> PhantomStudy:
    return make_phantom(PhantomSpec(shape=(56, 96, 116), spacing_mm=(4.5, 3.2, 3.2), seed=request.param))


def test_both_phases_are_recognised(phantom: PhantomStudy) -> None:
    for phase, volume in phantom.volumes.items():
        found = recognise(volume)
        assert found.phase is phase
        assert found.confidence > 0.85
        assert not is_delayed(found)
        inside = volume.data[phantom.labels[phase] == 1]
        assert found.measures_hu["liver"] == pytest.approx(float(inside.mean()), abs=12)


def test_swapped_roles_are_noticed(phantom: PhantomStudy) -> None:
    study = build_study({phase.other: volume for phase, volume in phantom.volumes.items()})
    assert any("roles look swapped" in finding.text for finding in study.findings)
    right = build_study(phantom.volumes)
    assert not any("swapped" in finding.text for finding in right.findings)
    assert study.id != right.id


def test_aorta_is_measured_in_the_aorta(phantom: PhantomStudy) -> None:
    arterial = phantom.volumes[Phase.ARTERIAL]
    lumen = arterial.data[phantom.labels[Phase.ARTERIAL] == 5]
    assert recognise(arterial).measures_hu["aorta"] == pytest.approx(sorted(lumen)[int(0.8 * lumen.size)], rel=0.1)
