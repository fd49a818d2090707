"""The phase is seen in the image; words help, several languages, and the usual traps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from tests.studies.conftest import box_of_tissue

from napari_multiphase.io import dicom
from napari_multiphase.io.images import read_image
from napari_multiphase.studies.landmarks import Kidney, Landmarks
from napari_multiphase.studies.phases import (
    is_delayed,
    is_unenhanced,
    log_odds_arterial,
    phase_in_words,
    recognise,
    stated_phase,
)
from napari_multiphase.study import PhaseGuess
from napari_multiphase.volume import Phase, Volume


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("ABD ARTERIAL 1.25", "arterial"),
        ("Late arterial phase", "arterial"),
        ("Oberbauch art. KM", "arterial"),
        ("spätarteriell", "arterial"),
        ("Spätart. Phase", "arterial"),
        ("temps artériel", "arterial"),
        ("Fase arteriosa 2mm", "arterial"),
        ("动脉期", "arterial"),
        ("PORTAL VENOUS 5mm", "venous"),
        ("Abdomen_PV_3.0", "venous"),
        ("Leber portalvenös", "venous"),
        ("temps portal", "venous"),
        ("case_17_venous.nii.gz", "venous"),
        ("门脉期", "venous"),
        ("Abd 70s", "venous"),
        ("Abd 30 sec", "arterial"),
        ("DELAYED 5 MIN", "delayed"),
        ("Spätphase", "delayed"),
        ("nephrographic", "delayed"),
        ("fase tardiva", "delayed"),
        ("NON-CON", "no contrast"),
        ("Nativ", "no contrast"),
        ("ABD W/O CONTRAST", "no contrast"),
        # nothing, or two things
        ("Recon 2: LIVER 3 PHASE (AP)", None),
        ("Arterial and venous", None),
        ("CT ABDPEL WWO LIVER", None),
        ("PARTIAL ARTIFACT REDUCED", None),
        ("ventral hernia", None),
        ("relate.nii.gz", None),
        ("120kV 512s", None),
        ("", None),
    ],
)
def test_what_words_say(text: str, phase: str | None) -> None:
    assert phase_in_words(text) == phase


def test_the_description_comes_before_the_file_name() -> None:
    volume = Volume.from_array(box_of_tissue(0), (5.0, 4.0, 4.0))
    source = replace(volume.source, format="nifti", path=Path("venous.nii.gz"))
    assert stated_phase(replace(volume, source=source)) == "venous"
    described = replace(source, header={"description": "late arterial"})
    assert stated_phase(replace(volume, source=described)) == "arterial"


def guess(phase: Phase, confidence: float, **measures: float) -> PhaseGuess:
    return PhaseGuess(phase, confidence, "", {name.replace("_", " "): value for name, value in measures.items()})


def landmarks(aorta: float | None, liver: float | None, *kidneys: tuple[float, float]) -> Landmarks:
    return Landmarks(aorta, liver, tuple(Kidney(150.0, hu, spread, None) for hu, spread in kidneys))


@pytest.mark.parametrize(
    ("marks", "arterial"),
    [
        (landmarks(300, 65, (140, 120)), True),
        (landmarks(220, 60, (130, 110)), True),
        (landmarks(240, 62), True),
        (landmarks(300, None), True),
        (landmarks(150, 105, (200, 45)), False),
        (landmarks(246, 178, (262, 70)), False),  # much iodine
        (landmarks(150, 60, (190, 45)), False),  # a fatty liver in the portal phase
        (landmarks(140, 94, (150, 71)), False),
        (landmarks(150, None), False),
    ],
)
def test_the_figures_of_textbook_scans(marks: Landmarks, arterial: bool) -> None:
    odds = log_odds_arterial(marks)
    assert (odds > 0) is arterial
    assert 1.0 < abs(odds) <= 4.5


def test_no_contrast_says_nothing() -> None:
    assert log_odds_arterial(landmarks(None, 50)) == 0.0


def test_lateness_is_not_claimed_of_an_arterial_scan() -> None:
    assert is_delayed(guess(Phase.VENOUS, 0.9, aorta=140, liver=94, renal_pelvis=350))
    assert is_delayed(guess(Phase.VENOUS, 0.9, aorta=105, liver=92))
    assert not is_delayed(guess(Phase.VENOUS, 0.9, aorta=150, liver=105))
    assert not is_delayed(guess(Phase.ARTERIAL, 0.9, aorta=335, liver=68, renal_pelvis=430))


@pytest.mark.parametrize(
    "data",
    [
        np.full((12, 40, 40), -1000, np.int16),
        box_of_tissue(0),
        np.zeros((5, 5, 5), np.int16),
        np.full((6, 300, 8), 3000, np.int16),
        np.full((8, 30, 30), np.nan, np.float32),
    ],
    ids=["air", "water", "tiny", "metal", "nan"],
)
def test_anything_is_survived_and_is_not_claimed_to_be_sure(data: np.ndarray) -> None:
    found = recognise(Volume.from_array(data, (3.0, 2.0, 2.0)))
    assert is_unenhanced(found)
    assert found.confidence <= 0.5
    assert found.reason


@pytest.mark.real_ct
@pytest.mark.parametrize(
    ("name", "phases", "late"),
    [
        ("hcc_015", [Phase.ARTERIAL, Phase.VENOUS], [False, False]),
        ("hcc_002", [Phase.ARTERIAL, Phase.VENOUS], [False, True]),
    ],
)
def test_real_pairs_without_any_tag_to_go_by(real_data: Path, name: str, phases: list[Phase], late: list[bool]) -> None:
    volumes = [dicom.read_series(series) for series in dicom.index(real_data / f"{name}_dicom.zip")]
    started = process_time()
    guesses = [recognise(volume) for volume in volumes]
    assert (process_time() - started) / 2 < 3.0
    order = sorted(guesses, key=lambda found: found.phase != Phase.ARTERIAL)
    assert [found.phase for found in order] == phases
    assert [is_delayed(found) for found in order] == late
    assert min(found.confidence for found in guesses) > 0.9
    for found in guesses:
        assert f"aorta {found.measures_hu['aorta']:.0f} HU" in found.reason


@pytest.mark.real_ct
def test_a_real_scan_without_contrast(real_data: Path) -> None:
    found = recognise(read_image(real_data / "totalsegmentator_example" / "totalseg_example_ct.nii.gz"))
    assert is_unenhanced(found)
    assert found.measures_hu["liver"] == pytest.approx(45, abs=15)
    assert found.confidence <= 0.5


@pytest.mark.real_ct
def test_a_head_is_not_taken_for_an_arterial_abdomen(real_data: Path) -> None:
    (series,) = dicom.index(real_data / "ge_head_tilt_dicom.zip")
    found = recognise(dicom.read_series(series))
    assert not found.measures_hu
    assert found.confidence <= 0.5
