"""Do the two scans belong together? The fit report, in plain words, most serious first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.io.images import is_synthetic
from napari_multiphase.studies.phases import arterial_share, blood_to_liver, is_delayed, is_unenhanced, stated_phase
from napari_multiphase.study import Finding, PhaseGuess
from napari_multiphase.volume import Phase, Volume

LEVELS = ("bad", "warning", "note", "good")
LEAST_OVERLAP_MM = 20.0
UNSURE = 0.8
"""Below this confidence the user is asked to look."""


def report(volumes: Mapping[Phase, Volume], guesses: Mapping[Phase, PhaseGuess]) -> tuple[Finding, ...]:
    """What a person should know before using these scans as one study.

    Raises
    ------
    UserError : different patients, the same scan twice, or no common part of the body.
    """
    findings = [finding for phase in Phase if phase in volumes for finding in _alone(phase, volumes[phase], guesses)]
    if len(volumes) == 1:
        (phase,) = volumes
        findings.append(
            Finding(
                "warning",
                f"Only the {phase.value} scan is there; the {phase.other.value} one is missing. "
                f"Segmenting works with one phase, and the fused result is then that phase's.",
            )
        )
    if len(volumes) == 2:
        arterial, venous = volumes[Phase.ARTERIAL], volumes[Phase.VENOUS]
        findings += [_patients(arterial, venous), *_roles(volumes, guesses), *_not_twice(arterial, venous)]
        findings += [_frame(arterial, venous), *_overlap(arterial, venous), _spacing(arterial, venous)]
        findings += _times(arterial, venous)
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def _alone(phase: Phase, volume: Volume, guesses: Mapping[Phase, PhaseGuess]) -> list[Finding]:
    """What is to say about one scan."""
    findings = []
    if is_synthetic(volume.source):
        text = (
            f"The {phase.value} image is synthetic, not a scan: a model made it, and it shows no real contrast medium."
        )
        findings.append(Finding("warning", text))
    guess = guesses.get(phase)
    if guess is not None and is_unenhanced(guess) and "liver" not in guess.measures_hu:
        findings.append(
            Finding("warning", f"Neither aorta nor liver is seen in the {phase.value} scan: is it an abdomen?")
        )
    elif guess is not None and is_unenhanced(guess):
        findings.append(Finding("warning", f"No contrast is seen in the {phase.value} scan ({guess.reason})."))
    elif guess is not None and phase is Phase.VENOUS and _late(volume, guess):
        findings.append(
            Finding("warning", f"The venous scan was taken late: delayed rather than portal venous ({guess.reason}).")
        )
    elif guess is not None and guess.phase is phase and guess.confidence < UNSURE:
        findings.append(
            Finding(
                "warning",
                f"It is not certain that the {phase.value} scan is {phase.value} ({guess.reason}; "
                f"{guess.confidence:.0%}).",
            )
        )
    if guess is not None and guess.phase is phase and not is_unenhanced(guess):
        findings.append(Finding("note", f"{phase.value.capitalize()}: {guess.reason} ({guess.confidence:.0%})."))
    if volume.source.resampled:
        findings.append(
            Finding("warning", f"The {phase.value} scan was resampled once when it was read: {volume.source.resampled}")
        )
    notes = volume.source.header.get("notes") or ()
    findings += [Finding("note", f"{phase.value.capitalize()} scan: {note}") for note in notes]
    return findings


def _late(volume: Volume, guess: PhaseGuess) -> bool:
    return is_delayed(guess) or stated_phase(volume) == "delayed"


def _patients(arterial: Volume, venous: Volume) -> Finding:
    ours, theirs = (str(v.source.header.get("patient_id") or "") for v in (arterial, venous))
    if ours and theirs and ours != theirs:
        raise UserError(
            f"the scans are of different patients: {arterial.source.path} says {ours}, {venous.source.path} says "
            f"{theirs}; choose two scans of one patient"
        )
    if ours and theirs:
        return Finding("good", f"Same patient ({ours}).")
    return Finding("note", "The files do not both name their patient, so that cannot be checked.")


def _roles(volumes: Mapping[Phase, Volume], guesses: Mapping[Phase, PhaseGuess]) -> list[Finding]:
    """Whether the roles look swapped, from the image of both scans."""
    if len(guesses) < 2:
        return []
    early, late = guesses[Phase.ARTERIAL], guesses[Phase.VENOUS]
    ratios = [blood_to_liver(guess) for guess in (early, late)]
    text = f"{early.reason}; {late.reason}"
    if arterial_share(early) < arterial_share(late) - 0.1:
        return [
            Finding(
                "warning",
                f"The roles look swapped: as arterial there is {early.reason}, as venous "
                f"{late.reason}. Swap them if that was not meant.",
            )
        ]
    if early.phase is late.phase and not (is_unenhanced(early) or is_unenhanced(late)):
        return [Finding("warning", f"Both scans look {early.phase.value} ({text}).")]
    if None not in ratios:
        first, second = (float(r or 0) for r in ratios)
        return [
            Finding(
                "good",
                f"The aorta is {first:.1f} times as bright as the liver in the arterial scan and "
                f"{second:.1f} times in the venous one.",
            )
        ]
    return []


def _not_twice(arterial: Volume, venous: Volume) -> list[Finding]:
    same_hash = bool(arterial.source.sha256) and arterial.source.sha256 == venous.source.sha256
    if same_hash or (arterial.shape == venous.shape and np.array_equal(arterial.data, venous.data)):
        raise UserError(
            f"the same scan was given for both phases ({arterial.source.path} and {venous.source.path}): choose two "
            f"different ones, or give one phase only"
        )
    return []


def _frame(arterial: Volume, venous: Volume) -> Finding:
    ours, theirs = (str(v.source.header.get("frame_of_reference") or "") for v in (arterial, venous))
    if ours and theirs and ours == theirs:
        return Finding("good", "Same frame of reference: the scanner's positions are comparable.")
    if ours and theirs:
        return Finding("warning", "Different frames of reference: the patient was moved between the scans. Register.")
    return Finding("note", "The files do not both name a frame of reference; positions are taken as comparable.")


def _overlap(arterial: Volume, venous: Volume) -> list[Finding]:
    """How much of the two scans lies at the same place, along the body and across it."""
    common = []
    for axis in range(3):
        ends = []
        for grid in (arterial.grid, venous.grid):
            start = grid.origin_mm[axis] - 0.5 * grid.spacing_mm[axis]
            ends.append((start, start + grid.extent_mm[axis]))
        common.append(min(ends[0][1], ends[1][1]) - max(ends[0][0], ends[1][0]))
    if min(common) < LEAST_OVERLAP_MM:
        raise UserError(
            f"the two scans hardly meet (along the body they share {max(common[0], 0):.0f} mm, across it "
            f"{max(common[1], 0):.0f} x {max(common[2], 0):.0f} mm): {arterial.source.path} and {venous.source.path} "
            f"show different parts; choose scans of the same part of the body"
        )
    findings = []
    shorter = min(arterial.grid.extent_mm[0], venous.grid.extent_mm[0])
    text = f"They share {common[0]:.0f} mm along the body and {common[1]:.0f} x {common[2]:.0f} mm across it"
    if common[0] < 0.8 * shorter:
        findings.append(Finding("warning", f"{text}; the shorter scan is {shorter:.0f} mm long."))
    else:
        findings.append(Finding("good", f"{text}."))
    return findings


def _spacing(arterial: Volume, venous: Volume) -> Finding:
    ours, theirs = (" x ".join(f"{s:.4g}" for s in v.spacing_mm) for v in (arterial, venous))
    if arterial.grid.matches(venous.grid, tolerance_mm=0.01):
        return Finding("good", f"Same grid: {' x '.join(str(n) for n in venous.shape)} voxels of {ours} mm.")
    if np.allclose(arterial.spacing_mm, venous.spacing_mm, rtol=1e-3):
        return Finding("good", f"Same spacing ({ours} mm, slices first); the grids differ in position or size.")
    coarse = max(max(a / b, b / a) for a, b in zip(arterial.spacing_mm, venous.spacing_mm, strict=True))
    return Finding("warning" if coarse > 2 else "note", f"Different spacing: arterial {ours} mm, venous {theirs} mm.")


def _times(arterial: Volume, venous: Volume) -> list[Finding]:
    ours, theirs = _when(arterial), _when(venous)
    if ours is None or theirs is None:
        return []
    gap = theirs - ours
    if gap < timedelta(0):
        return [Finding("warning", f"By its times the venous scan was taken {_words(-gap)} before the arterial one.")]
    if gap > timedelta(hours=12):
        return [Finding("warning", f"The scans were taken {_words(gap)} apart.")]
    level = "warning" if gap > timedelta(minutes=10) else "good"
    return [Finding(level, f"The venous scan was taken {_words(gap)} after the arterial one.")]  # type: ignore[arg-type]


def _when(volume: Volume) -> datetime | None:
    date = str(volume.source.header.get("study_date") or "")
    clock = str(volume.source.header.get("acquisition_time") or "").split(".")[0]
    try:
        return datetime.strptime(date + clock, "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _words(gap: timedelta) -> str:
    seconds = int(gap.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
