"""``multiphase sample OUT_DIR``: a two-phase abdomen to try everything on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_multiphase.cli.console import check_folder, in_process, say, verb
from napari_multiphase.errors import UserError


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
    atlas: Annotated[
        Path | None,
        typer.Option(metavar="LABELMAP", help="Give the phantom this label map's anatomy (needs --labels)."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Which structure each value of the label map is.")
    ] = None,
    warp: Annotated[
        float | None,
        typer.Option(help="How far --atlas is deformed: 0 not at all, 1 as training does.  [default: 0.7]"),
    ] = None,
) -> None:
    """Write a phantom: arterial and venous CT, exact labels of both, and the motion between them."""
    from napari_multiphase.jobs.tasks import sample as run

    given = {"shape": shape, "spacing_mm": spacing_mm}
    spec: dict[str, object] = {
        "seed": seed,
        "pathology": str(pathology),
        **{k: v for k, v in given.items() if v is not None},
    }
    if atlas is not None or labels is not None or warp is not None:
        spec |= _atlas(atlas, labels, 0.7 if warp is None else warp)
    check_folder(out_dir)
    with in_process("making the phantom") as context:
        files = run(context, out_dir, spec, str(format))
    say(f"{out_dir}: " + summary(files, out_dir))


def _atlas(atlas: Path | None, labels: Path | None, warp: float) -> dict[str, object]:
    if atlas is None or labels is None:
        raise UserError("--atlas LABELMAP and --labels JSON belong together; give both, or neither")
    return {"atlas": str(atlas), "names": str(labels), "warp": warp}


def summary(files: list[Path], folder: Path) -> str:
    """The files by name where they are few, by number where they are many."""
    if len(files) > 12:
        return f"{len(files)} files"
    return ", ".join(str(file.relative_to(folder)) for file in files)
