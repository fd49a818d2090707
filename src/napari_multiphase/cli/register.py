"""``multiphase register``: how the arterial scan lies to the venous one; ``carry``: files and points to the other."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, say_json, table, verb
from napari_multiphase.cli.segment import Scan, StudyPath, To, inputs_of, say_findings


class Method(StrEnum):
    """How the phases are brought together."""

    RIGID = "rigid"
    MIND = "mind"
    DEMONS = "demons"


class Where(StrEnum):
    """A registration does not run on mps."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Labels = Annotated[Path | None, typer.Option(help="Label map of this phase, to judge the registration by.")]


@verb
def register(
    study: StudyPath = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.", show_default=False)] = ...,  # type: ignore[assignment]
    arterial: Scan = None,
    venous: Scan = None,
    fixed: Annotated[To, typer.Option(help="The scan that stays.")] = To.VENOUS,
    method: Annotated[
        Method, typer.Option(help="Rigid, or then each organ its own way: mind (ours), demons (HPN's).")
    ] = Method.MIND,
    arterial_labels: Labels = None,
    venous_labels: Labels = None,
    device: Annotated[Where, typer.Option(help="Where a deformation is searched.")] = Where.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print registration.json.")] = False,
) -> None:
    """Align the two phases; write the transform, its inverse (ITK), the moved scan and a report."""
    from napari_multiphase.config import RegisterOptions
    from napari_multiphase.errors import UserError
    from napari_multiphase.jobs import tasks
    from napari_multiphase.volume import Phase

    inputs = inputs_of(study, arterial, venous)
    if (arterial_labels is None) != (venous_labels is None):
        raise UserError("labels of one phase alone compare with nothing: give --arterial-labels and --venous-labels")
    options = RegisterOptions(method=str(method), fixed=Phase(str(fixed)), device=str(device))  # type: ignore[arg-type]
    check_folder(out)
    with in_process("reading", quiet=as_json) as context:
        opened = tasks.open_study(context, inputs, arterial=arterial, venous=venous)
        if not as_json:
            say_findings(opened)
        transform = tasks.register(context, opened, options, arterial_labels, venous_labels)
        opened = opened.with_transform(transform)
        files = tasks.save_registration(context, opened, out, options.fixed)
        if study is not None and (study / "study.json").is_file():
            tasks.keep(context, opened, study)
    report = json.loads((out / "registration.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(report)
    else:
        _say_result(report, files, out)


def _say_result(report: dict[str, Any], files: list[Path], out: Path) -> None:
    say()
    say(report["quality"]["sentence"])
    rows = report["quality"].get("labels", [])
    if rows:
        say()
        cells = [
            [
                row["name"],
                *(f"{row[f'dice_{w}']:.3f}" for w in _WHEN),
                *(f"{row[f'surface_mm_{w}']:.2f}" for w in _WHEN),
            ]
            for row in rows
        ]
        table(["structure", "Dice before", "after", "surface mm before", "after"], cells)
    say(f"{len(files)} files in {out}:")
    say("  " + " ".join(file.name for file in files))


_WHEN = ("before", "after")


@verb
def carry(
    file: Annotated[Path, typer.Argument(help="Label map, image or confidence of one phase; or points (.csv).")],
    through: Annotated[Path, typer.Option(help="Folder that register wrote.", show_default=False)] = ...,  # type: ignore[assignment]
    to: Annotated[To, typer.Option(help="The phase to carry to, from the other one.", show_default=False)] = ...,  # type: ignore[assignment]
    out: Annotated[Path, typer.Option(help="File for the result: .nii.gz, or .csv.", show_default=False)] = ...,  # type: ignore[assignment]
    onto: Annotated[Path | None, typer.Option(help="Scan of that phase, whose grid the result takes.")] = None,
) -> None:
    """Carry what lies on one phase to the other. Points: columns x, y, z in LPS mm, others are kept."""
    from napari_multiphase.jobs import tasks
    from napari_multiphase.volume import Phase

    with in_process("carrying") as context:
        say(tasks.carry_file(context, file, through, Phase(str(to)), out, onto))
