"""From paths to a study: roles, refusals, what is passed over."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.studies.conftest import Writer, box_of_tissue

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.studies import Scan, open_study
from napari_multiphase.studies.open import best_pair
from napari_multiphase.study import PhaseGuess
from napari_multiphase.volume import Phase


@pytest.fixture
def pair(write_nifti: Writer) -> tuple[Path, Path]:
    return write_nifti("p/arterial.nii.gz", box_of_tissue(0)), write_nifti("p/venous.nii.gz", box_of_tissue(1))


def test_named_paths_win_over_names_and_guesses(pair: tuple[Path, Path]) -> None:
    study = open_study(arterial=pair[1], venous=pair[0])
    assert study.volumes[Phase.ARTERIAL].source.path.name == "venous.nii.gz"
    assert not study.guesses
    assert study.phases == (Phase.ARTERIAL, Phase.VENOUS)


def test_a_folder_is_told_apart(pair: tuple[Path, Path], write_nifti: Writer) -> None:
    write_nifti("p/arterial_labels.nii.gz", (box_of_tissue(0) > 0).astype(np.uint8))
    study = open_study([pair[0].parent])
    assert study.volumes[Phase.ARTERIAL].source.path == pair[0].resolve()
    assert study.volumes[Phase.VENOUS].source.path == pair[1].resolve()
    assert "its name says arterial" in study.guesses[Phase.ARTERIAL].reason
    assert any("arterial_labels.nii.gz is a label map" in finding.text for finding in study.findings)


def test_the_order_of_files_does_not_matter_and_the_id_is_stable(pair: tuple[Path, Path]) -> None:
    studies = [open_study(pair), open_study(pair[::-1]), open_study(arterial=pair[0], venous=pair[1])]
    assert len({study.id for study in studies}) == 1
    assert open_study(arterial=pair[1], venous=pair[0]).id != studies[0].id


def test_one_named_and_one_found(pair: tuple[Path, Path]) -> None:
    study = open_study([pair[0].parent], arterial=pair[1])
    assert study.volumes[Phase.ARTERIAL].source.path.name == "venous.nii.gz"
    assert study.volumes[Phase.VENOUS].source.path.name == "arterial.nii.gz"


@pytest.mark.parametrize("phase", list(Phase))
def test_one_phase_alone_works_and_says_what_is_missing(pair: tuple[Path, Path], phase: Phase) -> None:
    study = open_study(**{phase.value: pair[0]})  # type: ignore[arg-type]
    assert study.phases == (phase,)
    assert study.fused_phase is phase
    assert any(f"{phase.other.value} one is missing" in finding.text for finding in study.findings)


def test_more_than_two_scans_are_chosen_from_and_said(pair: tuple[Path, Path], write_nifti: Writer) -> None:
    write_nifti("p/delayed.nii.gz", box_of_tissue(2))
    study = open_study([pair[0].parent])
    assert study.volumes[Phase.ARTERIAL].source.path.name == "arterial.nii.gz"
    said = " ".join(finding.text for finding in study.findings if finding.level == "warning")
    assert "3 scans were found" in said


def test_the_same_file_for_both_is_refused(pair: tuple[Path, Path], write_nifti: Writer) -> None:
    with pytest.raises(UserError, match="same scan"):
        open_study(arterial=pair[0], venous=pair[0])
    copy = write_nifti("q/other.nii.gz", box_of_tissue(0))
    with pytest.raises(UserError, match="same scan"):
        open_study(arterial=pair[0], venous=copy)


def test_a_folder_cannot_stand_for_one_phase(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="holds 2 scans"):
        open_study(arterial=pair[0].parent)


def test_a_label_map_given_as_a_scan_is_refused(write_nifti: Writer) -> None:
    labels = write_nifti("venous_labels.nii.gz", (box_of_tissue(0) > 0).astype(np.uint8))
    with pytest.raises(UserError, match="is a label map"):
        open_study(venous=labels)


def test_nothing_usable_is_said_with_reasons(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no scan was given"):
        open_study([])
    with pytest.raises(UserError, match="no CT scan was found"):
        open_study([tmp_path])
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(UserError, match="cut"):
        open_study([tmp_path])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(UserError):
        open_study([tmp_path / "empty.zip"])


def test_cancel_and_events(pair: tuple[Path, Path]) -> None:
    events: list[Event] = []
    open_study(pair, on_event=events.append)
    assert any("arterial.nii.gz" in event.message for event in events)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        open_study(pair, cancel=cancel)


def seen(title: str, phase: Phase, confidence: float, reach: tuple[float, float], thick: float, **hu: float) -> Scan:
    measures = {name.replace("_", " "): value for name, value in hu.items()}
    guess = PhaseGuess(phase, confidence, "", measures)
    return Scan(title, "dicom", title, Path(title), spacing_mm=(thick, 0.7, 0.7), guess=guess, reach_mm=reach)


def titles(pair: dict[Phase, Scan]) -> tuple[str, ...]:
    return tuple(pair[phase].title for phase in Phase if phase in pair)


ABDOMEN = (0.0, 250.0)
NATIVE = seen("native", Phase.VENOUS, 0.5, ABDOMEN, 2.5, liver=55)
EARLY = seen("early", Phase.ARTERIAL, 0.98, ABDOMEN, 2.5, aorta=300, liver=60)
PORTAL = seen("portal", Phase.VENOUS, 0.95, ABDOMEN, 2.5, aorta=160, liver=105)
LATE = seen("late", Phase.VENOUS, 0.99, ABDOMEN, 2.5, aorta=110, liver=95, renal_pelvis=900)


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([NATIVE, LATE, PORTAL, EARLY], ("early", "portal")),
        ([LATE, EARLY, NATIVE], ("early", "late")),
        ([PORTAL, NATIVE], ("portal",)),
        ([EARLY, NATIVE], ("early",)),
        ([PORTAL, LATE], ("portal",)),
        ([NATIVE, replace(NATIVE, title="native 2")], ("native", "native 2")),
        ([EARLY], ("early",)),
        ([NATIVE], ("native",)),
    ],
)
def test_phases_decide_the_pair(scans: list[Scan], expected: tuple[str, ...]) -> None:
    for order in (scans, scans[::-1]):
        assert set(titles(best_pair(order))) == set(expected)
    assert "early" not in expected or titles(best_pair(scans))[0] == "early"


def test_among_reconstructions_alike_and_thin_slices_are_taken() -> None:
    thick = [replace(scan, title=f"{scan.title} 5 mm", spacing_mm=(5.0, 0.7, 0.7)) for scan in (EARLY, PORTAL)]
    assert titles(best_pair([*thick, EARLY, PORTAL])) == ("early", "portal")
    assert titles(best_pair([thick[0], PORTAL, thick[1]])) == ("early 5 mm", "portal 5 mm")


def test_scans_that_meet_are_taken() -> None:
    legs = replace(PORTAL, title="legs", reach_mm=(-900.0, -400.0))
    assert titles(best_pair([legs, EARLY, LATE])) == ("early", "late")


@pytest.mark.real_ct
def test_a_zip_with_two_phases_in_one_series(real_data: Path) -> None:
    study = open_study([real_data / "hcc_002_dicom.zip"])
    assert [volume.source.header["acquisition_number"] for volume in study.volumes.values()] == [1, 2]
    said = {level: " ".join(f.text for f in study.findings if f.level == level) for level in ("warning", "good")}
    assert "taken late" in said["warning"]
    assert "Same patient (HCC_002)" in said["good"]
    assert "Same grid" in said["good"]


@pytest.mark.real_ct
def test_two_patients_are_refused(real_data: Path) -> None:
    with pytest.raises(UserError, match="2 patients"):
        open_study([real_data / "hcc_002_dicom.zip", real_data / "hcc_015_dicom.zip"])
