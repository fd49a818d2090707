"""``multiphase translate``: a synthetic image of one phase, made from the other and on exactly its grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, say_json, verb
from napari_multiphase.cli.segment import Device, Scan, StudyPath, To, inputs_of, say_findings

if TYPE_CHECKING:
    from napari_multiphase.jobs.server import Context
    from napari_multiphase.study import Study, Translation


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
    compare: Annotated[bool, typer.Option(help="Measure the image against the real scan, where there is one.")] = True,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Label map of the scan that is translated: the comparison adds HU per structure and the S-score."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Model that segments the image for the S-score; the default one without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report.")] = False,
) -> None:
    """Make a synthetic image of one phase from the scan of the other, on its grid, and a report.

    Where the study holds the real scan of that phase too, the report says how close the image comes to it.
    """
    from napari_multiphase.config import TranslateOptions
    from napari_multiphase.errors import UserError
    from napari_multiphase.inference.comparison import labels_for
    from napari_multiphase.io.models import find_translator
    from napari_multiphase.jobs import tasks
    from napari_multiphase.volume import Phase

    inputs, options, phase = inputs_of(study, arterial, venous), TranslateOptions(device=str(device)), Phase(str(to))  # type: ignore[arg-type]
    if labels is not None and not compare:
        raise UserError("--labels serves the comparison with the real scan: leave --no-compare out, or the labels")
    if judge is not None and labels is None:
        raise UserError("--judge segments for the S-score, which needs labels of the scan: give them with --labels")
    check_folder(out)
    chosen = find_translator(model)
    with in_process("reading", quiet=as_json) as context:
        opened = tasks.open_study(context, inputs, arterial=arterial, venous=venous)
        if not as_json:
            say_findings(opened)
            for sentence in tasks.plan_translation(context, opened, phase, chosen, options)["sentences"]:
                say(sentence)
        wanted = compare and len(opened.phases) == len(Phase)
        if labels is not None and not wanted:
            raise UserError(f"--labels serves the comparison with a real {phase} scan, and there is none: leave it out")
        if labels is not None:
            labels_for(opened, phase.other, labels)  # before the work, not after it
        translation = tasks.translate(context, opened, phase, chosen, options)
        if wanted:
            translation = _compared(context, opened, translation, labels, judge)
        files = tasks.save_translation(context, translation, opened, out)
    report = json.loads((out / f"synthetic_{to}.json").read_text(encoding="utf-8"))
    if as_json:
        say_json(report)
    else:
        _say_result(report, files, out)


def _compared(
    context: Context, study: Study, translation: Translation, labels: Path | None, judge: str | None
) -> Translation:
    """The same with how close it comes to the real scan in its report; an unregistered pair is registered first."""
    from napari_multiphase.io.models import find_model
    from napari_multiphase.jobs import tasks
    from napari_multiphase.jobs.translating import compare_translation, judge_translation

    if study.transform is None:
        study = study.with_transform(tasks.register(context, study))
    known = {translation.source: labels} if labels is not None else {}
    figures, _ = compare_translation(context, study, translation, known)
    if labels is not None:
        figures["s_score"] = judge_translation(context, study, translation, labels, find_model(judge))
    return replace(translation, report={**translation.report, "compared": figures})


def _say_result(report: Mapping[str, Any], files: list[Path], out: Path) -> None:
    say()
    for note in report["notes"]:
        say(f"note: {note}")
    if "compared" in report:
        from napari_multiphase.inference.comparison import in_words_of

        source = report["plan"]["source"]
        for line in in_words_of(report["compared"], report["synthetic"], source):
            say(f"compared: {line}")
    seconds, memory = report["seconds"]["total"], report["peak_memory_mb"] / 1024
    say(f"{seconds:.0f} s, {memory:.1f} GB of memory at most; {len(files)} files in {out}:")
    say("  " + " ".join(file.name for file in files))
