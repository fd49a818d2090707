"""``multiphase share``: a study's labels, names, transform and report for somebody else, without the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, verb
from napari_multiphase.cli.segment import Format


@verb
def share(
    study: Annotated[Path, typer.Argument(help="A study's workspace, or a folder that segment wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the files, or one zip (.zip).", show_default=False)] = ...,  # type: ignore[assignment]
    format: Annotated[Format, typer.Option(help="Labels as NIfTI, or as DICOM SEG.")] = Format.NIFTI,
    identified: Annotated[
        bool, typer.Option("--identified", help="Keep what names the patient: paths, file names, patient and dates.")
    ] = False,
) -> None:
    """Export a study: labels, their names and states, transform, and a report with pictures. The scans stay here."""
    from napari_multiphase.jobs.sharing import share_study

    check_folder(out.parent if out.suffix.lower() == ".zip" else out)
    with in_process("reading") as context:
        files = share_study(context, out, folder=study, format=str(format), identified=identified)  # type: ignore[arg-type]
    if out.suffix.lower() == ".zip":
        say(f"{out}, {out.stat().st_size / 1e6:.1f} MB; open report.html in it with a browser")
    else:
        say(f"{len(files)} files in {out}; open {out / 'report.html'} with a browser:")
        say("  " + " ".join(file.name for file in files))
    if identified:
        say("note: these files name the patient")
