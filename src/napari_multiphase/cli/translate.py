"""``multiphase translate``: a synthetic image of one phase, made from the other and on exactly its grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, say_json, verb
from napari_multiphase.cli.segment import Device, Scan, StudyPath, To, inputs_of, say_findings


@verb
def translate(
    study: StudyPath = None,
    to: Annotated[To, typer.Option(help="The phase to make, from the other one.", show_default=False)] = ...,  # type: ignore[assignment]
    out: Annotated[Path, typer.Option(help="Folder for the results.", show_default=False)] = ...,  # type: ignore[assignment]
    arterial: Scan = None,
    venous: Scan = None,
    model: Annotated[
        str | None, typer.Option(help="Name or folder of a model; the first that translates without.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = Device.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report.")] = False,
) -> None:
    """Make a synthetic image of one phase from the scan of the other, on its grid, and a report."""
    from napari_multiphase.config import TranslateOptions
    from napari_multiphase.io.models import find_translator
    from napari_multiphase.jobs import tasks
    from napari_multiphase.volume import Phase

    inputs, options, phase = inputs_of(study, arterial, venous), TranslateOptions(device=str(device)), Phase(str(to))  # type: ignore[arg-type]
    check_folder(out)
    chosen = find_translator(model)
    with in_process("reading", quiet=as_json) as context:
        opened = tasks.open_study(context, inputs, arterial=arterial, venous=venous)
        if not as_json:
            say_findings(opened)
            for sentence in tasks.plan_translation(context, opened, phase, chosen, options)["sentences"]:
                say(sentence)
        translation = tasks.translate(context, opened, phase, chosen, options)
        files = tasks.save_translation(context, translation, opened, out)
    report = json.loads((out / f"synthetic_{to}.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(report)
    else:
        _say_result(report, files, out)


def _say_result(report: Mapping[str, Any], files: list[Path], out: Path) -> None:
    say()
    for note in report["notes"]:
        say(f"note: {note}")
    seconds, memory = report["seconds"]["total"], report["peak_memory_mb"] / 1024
    say(f"{seconds:.0f} s, {memory:.1f} GB of memory at most; {len(files)} files in {out}:")
    say("  " + " ".join(file.name for file in files))
