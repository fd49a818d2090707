"""``multiphase sample OUT_DIR``: a two-phase abdomen to try everything on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, verb


class Pathology(StrEnum):
    """What ails the phantom."""

    NONE = "none"
    LIVER = "liver"
    PANCREAS = "pancreas"


class Format(StrEnum):
    """How the scans are written."""

    NIFTI = "nifti"
    DICOM = "dicom"


@verb
def sample(
    out_dir: Annotated[Path, typer.Argument(help="Folder to write to.")],
    shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="D H W", help="Voxels along the body, from front to back, across.  [default: 96 192 192]"),
    ] = None,
    spacing_mm: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="Distance between voxels in mm.  [default: 3 2 2]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same patient.")] = 0,
    format: Annotated[Format, typer.Option(help="NIfTI files, or two DICOM series in one folder.")] = Format.NIFTI,
    pathology: Annotated[Pathology, typer.Option(help="Lesions to add.")] = Pathology.NONE,
) -> None:
    """Write a phantom: arterial and venous CT, exact labels of both, and the motion between them."""
    from napari_multiphase.jobs.tasks import sample as run

    given = {"shape": shape, "spacing_mm": spacing_mm}
    spec = {"seed": seed, "pathology": str(pathology), **{k: v for k, v in given.items() if v is not None}}
    check_folder(out_dir)
    with in_process("making the phantom") as context:
        files = run(context, out_dir, spec, str(format))
    say(f"{out_dir}: " + summary(files, out_dir))


def summary(files: list[Path], folder: Path) -> str:
    """The files by name where they are few, by number where they are many."""
    if len(files) > 12:
        return f"{len(files)} files"
    return ", ".join(str(file.relative_to(folder)) for file in files)
