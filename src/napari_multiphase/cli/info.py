"""``multiphase info INPUT...``: which scans there are, which phase each shows and why, and whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_multiphase.cli.console import in_process, say, say_json, source_words, verb
from napari_multiphase.errors import UserError

if TYPE_CHECKING:
    from napari_multiphase.studies import Scan
    from napari_multiphase.study import PhaseGuess, Study


@verb
def info(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, folders or zips.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the scans found, the guessed phase of each with its reason, and the fit report."""
    from napari_multiphase.jobs import tasks

    study: Study | None = None
    error: UserError | None = None
    with in_process("looking", quiet=as_json) as context:
        scans = tasks.scan(context, inputs)
        if not as_json:
            _say_scans(scans)
        try:
            study = tasks.open_study(context, inputs)
        except UserError as problem:
            error = problem
    if as_json:
        say_json({"scans": [_scan(s) for s in scans], "study": _study(study), "problem": str(error) if error else None})
    elif study is not None:
        _say_study(study)
    if error is not None:
        raise error


def _say_scans(scans: Sequence[Scan]) -> None:
    for number, scan in enumerate(scans, 1):
        size = " x ".join(str(n) for n in scan.shape) if scan.shape else ""
        spacing = " x ".join(f"{s:.3g}" for s in scan.spacing_mm) + " mm" if scan.spacing_mm else ""
        say(f"{number}. {scan.title}: " + ", ".join(part for part in (scan.kind, size, spacing) if part))
        if scan.guess is not None:
            say(f"   {scan.guess.phase}, {scan.guess.confidence:.0%} sure: {scan.guess.reason}")
        for line in (*scan.problems, *scan.notes):
            say(f"   {line}")


def _say_study(study: Study) -> None:
    say()
    for phase, volume in study.volumes.items():
        say(f"{phase}: {source_words(volume)}")
    for finding in study.findings:
        say(f"{finding.level:>7}: {finding.text}")


def _scan(scan: Scan) -> dict[str, Any]:
    return {
        "key": scan.key,
        "kind": scan.kind,
        "title": scan.title,
        "path": str(scan.path),
        "shape": list(scan.shape) if scan.shape else None,
        "spacing_mm": list(scan.spacing_mm) if scan.spacing_mm else None,
        "patient_id": scan.patient_id,
        "study_date": scan.study_date,
        "acquisition_time": scan.acquisition_time,
        "guess": _guess(scan.guess),
        "problems": list(scan.problems),
        "notes": list(scan.notes),
    }


def _guess(guess: PhaseGuess | None) -> dict[str, Any] | None:
    if guess is None:
        return None
    measures = dict(guess.measures_hu)
    return {"phase": guess.phase, "confidence": guess.confidence, "reason": guess.reason, "measures_hu": measures}


def _study(study: Study | None) -> dict[str, Any] | None:
    if study is None:
        return None
    return {
        "id": study.id,
        "phases": {
            phase: {
                "source": volume.source.to_dict(),
                "grid": volume.grid.to_dict(),
                "guess": _guess(study.guesses.get(phase)),
            }
            for phase, volume in study.volumes.items()
        },
        "transform": study.transform.to_dict() if study.transform else None,
        "findings": [{"level": f.level, "text": f.text} for f in study.findings],
    }
