"""``multiphase segment``: labels and confidence of every phase, and fused, on the scans' own grids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, say_json, source_words, table, verb

if TYPE_CHECKING:
    from napari_multiphase.jobs.server import Context
    from napari_multiphase.study import Study


class Device(StrEnum):
    """Where the network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class To(StrEnum):
    """One of the phases."""

    ARTERIAL = "arterial"
    VENOUS = "venous"


class Format(StrEnum):
    """What is written: NIfTI alone, or DICOM SEG as well."""

    NIFTI = "nifti"
    DICOM_SEG = "dicom-seg"


StudyPath = Annotated[
    Path | None, typer.Argument(metavar="[STUDY]", help="Workspace, DICOM folder or zip, or a folder of images.")
]
Scan = Annotated[Path | None, typer.Option(help="Scan of this phase: a file, a DICOM folder or zip.")]


@verb
def segment(
    study: StudyPath = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.", show_default=False)] = ...,  # type: ignore[assignment]
    arterial: Scan = None,
    venous: Scan = None,
    model: Annotated[str | None, typer.Option(help="Name or folder of a model; the default one without.")] = None,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    phase_weight: Annotated[
        float | None, typer.Option(help="Weight of the arterial phase in the fused result; 0.5 without.")
    ] = None,
    fused_on: Annotated[To, typer.Option(help="The scan on whose grid both results are fused.")] = To.VENOUS,
    branch_weight: Annotated[
        float | None, typer.Option(help="PCN: weight of the scan against its synthetic image; the model's without.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Look at everything in one size only, where the model asks for several.")
    ] = False,
    format: Annotated[Format, typer.Option(help="Write DICOM SEG as well as NIfTI.")] = Format.NIFTI,
    register: Annotated[
        bool, typer.Option(help="Align the phases before fusing: as the workspace keeps it, else rigidly.")
    ] = True,
    transform: Annotated[
        Path | None, typer.Option(help="Folder that register wrote: align the phases by it instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Segment a study, or two scans, and write labels, confidence and a report."""
    from napari_multiphase.config import traits_of
    from napari_multiphase.errors import UserError
    from napari_multiphase.inference.branches import with_branches
    from napari_multiphase.io.models import find_model
    from napari_multiphase.jobs import tasks
    from napari_multiphase.volume import Phase

    inputs = inputs_of(study, arterial, venous)
    options = _options(str(device), phase_weight, branch_weight).model_copy(
        update={"fused_on": Phase(str(fused_on)), "further_sizes": () if fast else None}
    )
    if transform is not None and not register:
        raise UserError("--transform aligns the phases and --no-register does not: leave one of them out")
    check_folder(out)
    chosen = with_branches(find_model(model), options)
    if phase_weight is not None and traits_of(chosen.card.method, chosen.card.config).reads == "pair":
        raise UserError(
            f"--phase-weight mixes two results, and the model '{chosen.card.name}' reads both phases at once and gives "
            "one: leave it out, or choose a model that segments each phase"
        )
    with in_process("reading", quiet=as_json) as context:
        opened = tasks.open_study(context, inputs, arterial=arterial, venous=venous)
        if format is Format.DICOM_SEG and any(v.source.format != "dicom" for v in opened.volumes.values()):
            raise UserError(f"{inputs[0]}: DICOM SEG refers to DICOM scans and these are not; choose --format nifti")
        if not as_json:
            say_findings(opened)
        opened = _registered(context, opened, register, transform)
        if not as_json:
            for sentence in tasks.plan(context, opened, chosen, options)["sentences"]:
                say(sentence)
        prediction = tasks.segment(context, opened, chosen, options)
        files = tasks.save(context, prediction, opened, out, str(format))  # type: ignore[arg-type]
        if register and study is not None and (study / "study.json").is_file():
            tasks.keep(context, opened, study)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(report)
    else:
        _say_result(report, files, out)


def inputs_of(study: Path | None, arterial: Path | None, venous: Path | None) -> list[Path]:
    """What to read: a STUDY, or the scans named; a UserError for both, neither, or what is not there."""
    from napari_multiphase.errors import UserError

    named = [path for path in (arterial, venous) if path is not None]
    if study is not None and named:
        raise UserError("give either a STUDY or --arterial and --venous, not both")
    if study is None and not named:
        raise UserError("give a STUDY (folder, zip or workspace), or --arterial and --venous")
    paths = named if study is None else [study]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; check the name")
    return paths


def _options(device: str, phase_weight: float | None, branch_weight: float | None) -> Any:
    from napari_multiphase.config import SegmentOptions

    phase_weight = _share("--phase-weight", phase_weight, "venous", "arterial")
    branch_weight = _share("--branch-weight", branch_weight, "synthetic", "the scan")
    options = SegmentOptions(device=device, branch_weight=branch_weight)  # type: ignore[arg-type]
    return options if phase_weight is None else options.model_copy(update={"phase_weight": phase_weight})


def _share(name: str, value: float | None, none: str, all: str) -> float | None:
    from napari_multiphase.errors import UserError

    if value is not None and not 0.0 <= value <= 1.0:
        raise UserError(f"{name} is {value:g}; give a value from 0 ({none}) to 1 ({all})")
    return value


def _registered(context: Context, study: Study, wanted: bool, kept: Path | None) -> Study:
    from napari_multiphase.config import RegisterOptions
    from napari_multiphase.io.transforms import read_transform
    from napari_multiphase.jobs import tasks
    from napari_multiphase.study import PhaseTransform

    if kept is not None:
        return study.with_transform(read_transform(kept))
    if len(study.phases) < 2:
        return study
    if not wanted:
        return study.with_transform(PhaseTransform.identity())
    if study.transform is not None:
        return study
    return study.with_transform(tasks.register(context, study, RegisterOptions(method="rigid")))


def say_findings(study: Study) -> None:
    """Each scan with the reason for its phase, and what is to be warned about."""
    for phase, volume in study.volumes.items():
        guess = study.guesses.get(phase)
        why = f" ({guess.reason})" if guess else ""
        say(f"{phase}: {source_words(volume)}{why}")
    for finding in study.findings:
        if finding.level in ("warning", "bad"):
            say(f"{finding.level}: {finding.text}")


def _say_result(report: Mapping[str, Any], files: list[Path], out: Path) -> None:
    say()
    table(*volumes_ml(report))
    say()
    for note in report["notes"]:
        say(f"note: {note}")
    seconds, memory = report["seconds"]["total"], report["peak_memory_mb"] / 1024
    say(f"{seconds:.0f} s, {memory:.1f} GB of memory at most; {len(files)} files in {out}:")
    say("  " + " ".join(file.name for file in files))


def volumes_ml(report: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table of volumes: structure, ml in each phase and fused."""
    phases = [*report["plan"]["phases"]]
    where = [*phases, "fused"] if len(phases) > 1 else phases
    rows = []
    for structure in report["structures"]:
        figures = (structure["ml"].get(place) for place in where)
        rows.append((structure["name"], *("-" if ml is None else f"{ml:.1f}" for ml in figures)))
    return ("structure", *(f"{place} ml" for place in where)), rows
