"""The transform between the phases as files that ITK, 3D Slicer and SimpleITK read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.field import DenseField, PointMap
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Grid, Phase

FORWARD_FILE = "arterial_to_venous.h5"
INVERSE_FILE = "venous_to_arterial.h5"
REPORT_FILE = "registration.json"
FORMAT_VERSION = 1
MOST_BYTES = 2_000_000_000
"""Of a transform file that is read."""


def write_transform(folder: Path, transform: PhaseTransform) -> list[Path]:
    """Write three files into `folder` and return their paths.

    `arterial_to_venous.h5` resamples the arterial image onto the venous grid, so it maps venous points to arterial ones
    (LPS mm), as ITK's resampling wants; `venous_to_arterial.h5` is its inverse; `registration.json` holds matrix,
    method and quality. A dense map is written as a displacement field, which ITK takes for no movement beyond its grid.
    Raises UserError where the folder cannot be written.
    """
    written = [folder / FORWARD_FILE, folder / INVERSE_FILE, folder / REPORT_FILE]
    for path, phase in zip(written[:2], (Phase.ARTERIAL, Phase.VENOUS), strict=True):
        with atomic_path(path) as temporary:
            try:
                sitk.WriteTransform(itk_transform(transform.into(phase)), str(temporary))
            except RuntimeError as error:
                raise UserError(f"cannot write {path}: check that the folder is writable and not full") from error
    report = {"format_version": FORMAT_VERSION, **transform.to_dict(), "files": [FORWARD_FILE, INVERSE_FILE]}
    report["maps"] = "venous point -> arterial point, LPS mm (x, y, z)"
    report["dense"] = transform.dense
    with atomic_path(written[2]) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return written


def read_transform(folder: Path) -> PhaseTransform:
    """The transform that `write_transform` left in `folder`; UserError where there is none or it is damaged."""
    path = folder / REPORT_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] > FORMAT_VERSION:
            raise UserError(f"{path} was written by a newer version of this program: update it")
        names = (FORWARD_FILE, INVERSE_FILE) if data.get("dense") else ()
        fields = [_read_field(folder / name) for name in names]
        transform = PhaseTransform.from_dict(data, *fields)
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no {REPORT_FILE}: name a folder that `multiphase register` wrote") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: run the registration again") from error
    if not is_rigid(transform.venous_to_arterial_mm):
        raise UserError(f"{path} holds a matrix that is not a rigid motion: run the registration again")
    return transform


def _read_field(path: Path) -> DenseField:
    found = _read_itk(path)
    if found.GetTransformEnum() != sitk.sitkDisplacementField or found.GetDimension() != 3:
        raise UserError(f"{path} holds no displacement field in three dimensions: run the registration again")
    image = sitk.DisplacementFieldTransform(found).GetDisplacementField()
    if not np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-9):
        raise UserError(f"{path} holds a field on a turned grid, which is not used here: run the registration again")
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds numbers that are not finite: run the registration again")
    (sx, sy, sz), (ox, oy, oz), (d, h, w) = image.GetSpacing(), image.GetOrigin(), values.shape[:3]
    return DenseField(values, Grid((d, h, w), (sz, sy, sx), (oz, oy, ox)))


def _read_itk(path: Path) -> sitk.Transform:
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than any transform that is read here: name another file")
    try:
        return sitk.ReadTransform(str(path))
    except RuntimeError as error:
        why = "it is damaged or of another kind" if path.exists() else "there is no such file"
        raise UserError(f"{path} cannot be read as an ITK transform: {why}; name a .h5 or .tfm file") from error


def read_itk_matrix(path: Path) -> NDArray[np.float64]:
    """4 x 4 of a linear ITK transform in a file (.h5, .tfm, .txt, .mat), point -> point in LPS mm.

    Raises
    ------
    UserError : there is no such file, it is no transform, or it is not linear.
    """
    transform = _read_itk(path)
    if not transform.IsLinear():
        raise UserError(f"{path} holds a deformation; training takes rigid or affine transforms, export one of these")
    return matrix_of(transform)


def matrix_of(transform: sitk.Transform) -> NDArray[np.float64]:
    """4 x 4 of any linear ITK transform, from where it puts four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        unit = [0.0, 0.0, 0.0]
        unit[axis] = 1.0
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - origin
    matrix[:3, 3] = origin
    return matrix


def is_rigid(matrix: NDArray[np.float64], tolerance: float = 1e-4) -> bool:
    """Whether a 4 x 4 only turns and shifts."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    turn = matrix[:3, :3]
    proper = np.abs(turn @ turn.T - np.eye(3)).max() < tolerance and np.linalg.det(turn) > 0
    return bool(proper and np.array_equal(matrix[3], [0, 0, 0, 1]))


def itk_transform(through: PointMap) -> sitk.Transform:
    """A map on LPS mm as ITK knows it: an affine transform or a displacement field."""
    if isinstance(through, DenseField):
        image = sitk.GetImageFromArray(through.displacement_mm.astype(np.float64), isVector=True)
        image.SetSpacing([float(s) for s in through.grid.spacing_mm[::-1]])
        image.SetOrigin([float(o) for o in through.grid.origin_mm[::-1]])
        return sitk.DisplacementFieldTransform(image)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(np.asarray(through[:3, :3], float).ravel().tolist())
    affine.SetTranslation(np.asarray(through[:3, 3], float).tolist())
    return affine
