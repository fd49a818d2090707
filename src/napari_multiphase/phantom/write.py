"""A phantom as files: what ``multiphase sample`` leaves in its folder."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.nifti import write_nifti
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom.spec import PhantomStudy
from napari_multiphase.volume import Grid, Phase

DESCRIPTION = "napari-multiphase phantom (synthetic)"


def write_sample(study: PhantomStudy, folder: Path, *, motion: bool = True) -> list[Path]:
    """Write both phases, both label maps, the motion and ``labels.json``; returns the paths written.

    Images are (x, y, z) int16 HU, labels uint8, ``motion_mm.nii.gz`` is a vector image (x, y, z, 1, 3) of float32 LPS
    mm, to 1/512 mm, on the venous grid (venous point + motion = arterial point). All files appear together, or none.

    Raises
    ------
    UserError : where the folder cannot be written.
    """
    folder = Path(folder)
    grids = {phase: volume.grid for phase, volume in study.volumes.items()}
    files: list[tuple[str, NDArray[Any], Grid]] = []
    for phase in Phase:
        files.append((f"{phase}.nii.gz", study.volumes[phase].data, grids[phase]))
        files.append((f"{phase}_labels.nii.gz", study.labels[phase], grids[phase]))
    with ExitStack() as stack:
        written = []

        def place(name: str) -> Path:
            written.append(folder / name)
            return stack.enter_context(atomic_path(folder / name))

        for name, data, grid in files:
            write_nifti(place(name), data.transpose(2, 1, 0), _affine_xyz_mm(grid), description=DESCRIPTION)
        if motion:
            _write_vectors(place("motion_mm.nii.gz"), study.motion_mm, grids[Phase.VENOUS])
        names = {str(label): structure.name for label, structure in STRUCTURES.items()}
        place("labels.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    return written


def _affine_xyz_mm(grid: Grid) -> NDArray[np.float64]:
    """Index (x, y, z, 1) -> LPS mm: the axis order other programs expect in a file."""
    return grid.affine_mm[:, [2, 1, 0, 3]]


def _write_vectors(path: Path, vectors_mm: NDArray[np.float32], grid: Grid) -> None:
    """A NIfTI of intent "vector": ITK reads its components as they are, in LPS."""
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ _affine_xyz_mm(grid)
    # To 1/512 mm: the last bits of a float would double the file.
    rounded = np.rint(vectors_mm * 512) / np.float32(512)
    image = nib.Nifti1Image(rounded.transpose(2, 1, 0, 3)[:, :, :, None, :], ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(ras, 1)
    image.set_qform(ras, 1)
    image.header.set_intent("vector")
    image.header["descrip"] = DESCRIPTION.encode("ascii")
    nib.save(image, path)
