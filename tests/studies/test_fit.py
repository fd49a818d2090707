"""The fit report: what is refused, what is pointed out, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.studies.conftest import box_of_tissue

from napari_multiphase.errors import UserError
from napari_multiphase.studies.fit import LEVELS, report
from napari_multiphase.study import Finding, PhaseGuess
from napari_multiphase.volume import Phase, Volume

EARLY = PhaseGuess(Phase.ARTERIAL, 0.99, "aorta 300 HU, liver 60 HU: arterial", {"aorta": 300.0, "liver": 60.0})
PORTAL = PhaseGuess(Phase.VENOUS, 0.97, "aorta 150 HU, liver 105 HU: venous", {"aorta": 150.0, "liver": 105.0})
GUESSES = {Phase.ARTERIAL: EARLY, Phase.VENOUS: PORTAL}


def scan(seed: int, origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), **header: Any) -> Volume:
    volume = Volume.from_array(box_of_tissue(seed), (5.0, 4.0, 4.0), origin_mm)
    return replace(volume, source=replace(volume.source, header=header))


def pair(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> dict[Phase, Volume]:
    return {Phase.ARTERIAL: scan(0, **(first or {})), Phase.VENOUS: scan(1, **(second or {}))}


def texts(findings: tuple[Finding, ...], level: str) -> str:
    return " | ".join(finding.text for finding in findings if finding.level == level)


def test_a_good_pair_has_no_warning_and_is_sorted() -> None:
    header = {"patient_id": "7", "frame_of_reference": "1.2", "study_date": "20200101"}
    times = [{**header, "acquisition_time": t} for t in ("101500.5", "101532")]
    findings = report(pair(*times), GUESSES)
    assert not texts(findings, "warning")
    good = texts(findings, "good")
    for words in ("Same patient (7)", "Same frame of reference", "60 mm along the body", "Same grid", "32 s after"):
        assert words in good
    order = [LEVELS.index(finding.level) for finding in findings]
    assert order == sorted(order)


def test_different_patients_are_refused() -> None:
    with pytest.raises(UserError, match="different patients"):
        report(pair({"patient_id": "1"}, {"patient_id": "2"}), GUESSES)


def test_unknown_patients_are_a_note() -> None:
    assert "cannot be checked" in texts(report(pair({"patient_id": "1"}), GUESSES), "note")


@pytest.mark.parametrize("by", ["pixels", "hash"])
def test_the_same_scan_twice_is_refused(by: str) -> None:
    volumes = pair()
    if by == "pixels":
        volumes[Phase.VENOUS] = volumes[Phase.ARTERIAL].with_data(volumes[Phase.ARTERIAL].data.copy())
    else:
        for phase, volume in volumes.items():
            volumes[phase] = replace(volume, source=replace(volume.source, sha256="a" * 64))
    with pytest.raises(UserError, match="same scan"):
        report(volumes, GUESSES)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scans_that_do_not_meet_are_refused(axis: int) -> None:
    away = tuple(1000.0 if a == axis else 0.0 for a in range(3))
    with pytest.raises(UserError, match="hardly meet"):
        report({Phase.ARTERIAL: scan(0), Phase.VENOUS: scan(1, away)}, GUESSES)  # type: ignore[arg-type]


def test_overlap_is_stated_in_mm() -> None:
    findings = report({Phase.ARTERIAL: scan(0), Phase.VENOUS: scan(1, (20.0, 0.0, 8.0))}, GUESSES)
    assert "share 40 mm along the body and 160 x 152 mm across" in texts(findings, "warning")


def test_swapped_roles_are_pointed_out() -> None:
    findings = report(pair(), {Phase.ARTERIAL: PORTAL, Phase.VENOUS: EARLY})
    assert "roles look swapped" in texts(findings, "warning")


def test_two_scans_of_one_phase_are_pointed_out() -> None:
    findings = report(pair(), {Phase.ARTERIAL: EARLY, Phase.VENOUS: EARLY})
    assert "Both scans look arterial" in texts(findings, "warning")


def test_a_delayed_scan_gets_a_warning() -> None:
    late = replace(PORTAL, measures_hu={"aorta": 140.0, "liver": 94.0, "renal pelvis": 600.0})
    assert "delayed" in texts(report(pair(), {**GUESSES, Phase.VENOUS: late}), "warning")
    by_name = report(pair({}, {"description": "Abdomen delayed"}), GUESSES)
    assert "delayed" in texts(by_name, "warning")


def test_no_contrast_gets_a_warning() -> None:
    native = PhaseGuess(Phase.VENOUS, 0.5, "no bright aorta", {"liver": 55.0})
    assert "No contrast" in texts(report({Phase.VENOUS: scan(0)}, {Phase.VENOUS: native}), "warning")


@pytest.mark.parametrize("phase", list(Phase))
def test_one_phase_says_what_is_missing(phase: Phase) -> None:
    findings = report({phase: scan(0)}, {})
    assert f"the {phase.other.value} one is missing" in texts(findings, "warning")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("101500", "101400", "60 s before the arterial"),
        ("101500", "104500", "30 min after"),
    ],
)
def test_odd_times_are_pointed_out(first: str, second: str, words: str) -> None:
    headers = [{"study_date": "20200101", "acquisition_time": time} for time in (first, second)]
    assert words in texts(report(pair(*headers), GUESSES), "warning")


def test_resampling_on_read_is_named() -> None:
    volumes = pair()
    volumes[Phase.VENOUS] = replace(
        volumes[Phase.VENOUS], source=replace(volumes[Phase.VENOUS].source, resampled="sheared by 18 degrees")
    )
    assert "sheared by 18 degrees" in texts(report(volumes, GUESSES), "warning")


def test_different_frames_of_reference_ask_for_registration() -> None:
    findings = report(pair({"frame_of_reference": "1"}, {"frame_of_reference": "2"}), GUESSES)
    assert "Register" in texts(findings, "warning")


def test_very_different_spacing_is_a_warning() -> None:
    coarse = Volume.from_array(np.asarray(box_of_tissue(1)[:, ::4, ::4]), (5.0, 16.0, 16.0))
    findings = report({Phase.ARTERIAL: scan(0), Phase.VENOUS: coarse}, GUESSES)
    assert "Different spacing" in texts(findings, "warning")
