"""NRRD and MetaImage through SimpleITK, after their text header was looked at."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.io.geometry import MAX_VOXELS, check_affine
from napari_multiphase.io.nifti import Stored
from napari_multiphase.io.values import check_dtype

if TYPE_CHECKING:
    import SimpleITK as sitk

_HEADER_LIMIT = 1 << 16
_DEFLATE_MAX = 1100
_SPACES = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}


def read_itk(path: Path) -> Stored:
    """The image of one .nrrd, .nhdr, .mha or .mhd file.

    Raises
    ------
    UserError : not such a file, truncated, corrupt, not one 3-D image, data outside its folder.
    """
    import SimpleITK as sitk  # takes most of a second, and many sessions never meet such a file

    name = path.name
    fields = _header_fields(path)
    data_file = _data_file(path, fields)
    _check_numbers(fields, name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        reader.SetImageIO("NrrdImageIO")
    else:
        reader.SetImageIO("MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(name, error) from error
    _check_information(reader, name, data_file)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _damaged(name, error) from error
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    affine = _own_affine(fields) if path.suffix.lower() in (".nrrd", ".nhdr") else None
    if affine is None:
        affine = _affine(image)
    notes = (
        () if _is_oriented(path, fields) else (f"{name} stores no orientation: LPS is assumed, check left and right",)
    )
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    check_dtype(data.dtype, name)
    check_affine(affine, data.shape, name)
    return Stored(data, affine, 1.0, 0.0, {}, notes)


def voxel_file(path: Path) -> Path:
    """The file that the voxels of an NRRD or MetaImage lie in: itself, or another one in its folder.

    Raises
    ------
    UserError : as `read_itk`, where the header is not one of these or names no such file.
    """
    return _data_file(path, _header_fields(path))


def _damaged(name: str, error: RuntimeError) -> UserError:
    if "orthonormal" in str(error) or "irection" in str(error):
        return UserError(f"{name}: its axes are not at right angles or not valid; export the scan again")
    return UserError(f"{name}: is not a readable image, or it is truncated or corrupt; copy or export it again")


def _header_fields(path: Path) -> dict[str, str]:
    """The `key: value` (NRRD) or `key = value` (MetaImage) lines before the data, keys in lower case."""
    with path.open("rb") as handle:
        block = handle.read(_HEADER_LIMIT)
    nrrd = block.startswith(b"NRRD000")
    if path.suffix.lower() in (".nrrd", ".nhdr") and not nrrd:
        raise UserError(f"{path.name}: is not an NRRD image; choose another file")
    fields: dict[str, str] = {}
    for raw in block.split(b"\n"):
        line = raw.decode("latin-1").strip()
        if nrrd and not line:
            break
        if nrrd and line.startswith("#"):
            continue
        key, mark, value = line.partition(":" if nrrd else "=")
        if mark and key.strip().lower() in fields:
            raise UserError(f"{path.name}: its header says '{key.strip()}' twice; export the scan again")
        if mark:
            fields[key.strip().lower()] = value.lstrip("=").strip()
        if not nrrd and key.strip().lower() == "elementdatafile":
            break
    if not nrrd and "elementdatafile" not in fields:
        raise UserError(f"{path.name}: is not a MetaImage; choose another file")
    return fields


_COUNTS = {"ndims": (2, 4), "dimension": (2, 4), "elementnumberofchannels": (1, 16)}
_BYTES = ("headersize", "compresseddatasize", "byte skip", "byteskip", "line skip", "lineskip")


def _check_numbers(fields: dict[str, str], name: str) -> None:
    """Refuse counts that ITK would trust: a negative number of dimensions ends its process."""
    dimensions = fields.get("ndims") or fields.get("dimension") or ""
    sizes = (fields.get("dimsize") or fields.get("sizes") or "").split()
    try:
        bad = any(k in fields and not low <= int(fields[k]) <= high for k, (low, high) in _COUNTS.items())
        bad |= any(k in fields and not -1 <= int(fields[k]) < 1 << 40 for k in _BYTES)
        bad |= len(sizes) != int(dimensions) or not all(0 < int(n) < 1 << 31 for n in sizes)
    except ValueError:
        bad = True
    if bad:
        raise UserError(f"{name}: its header is damaged or not of a 3-D image; copy or export it again")


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    """The file the voxels lie in: the image itself, or one that it names in its own folder."""
    named = fields.get("data file") or fields.get("datafile") or fields.get("elementdatafile") or ""
    if not named or named.upper() == "LOCAL":
        return path
    if named.upper().startswith("LIST") or re.search(r"%\d*d", named):
        raise UserError(f"{path.name}: spreads its voxels over several files; save it as one file (.nrrd, .mha)")
    if not named.isprintable():
        raise UserError(f"{path.name}: names its voxels in a way that is no file name; export the scan again")
    parts = {*PurePosixPath(named).parts, *PureWindowsPath(named).parts}
    outside = PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive or ".." in parts
    target = (path.parent / named).resolve()
    if outside or "\\" in named or not target.is_relative_to(path.parent.resolve()):
        raise UserError(f"{path.name}: points to voxels outside its own folder ({named}); save it as one file")
    if not target.is_file():
        raise UserError(f"{path.name}: its voxels should lie in {named}, which is missing; copy both files")
    return target


def _check_information(reader: sitk.ImageFileReader, name: str, data_file: Path) -> None:
    import SimpleITK as sitk

    size = [int(n) for n in reader.GetSize()]
    if len(size) == 4 and size[3] == 1:
        size = size[:3]
    if len(size) != 3 or sum(n > 1 for n in size) < 3:
        raise UserError(
            f"{name}: holds {' x '.join(map(str, size))} values, not one 3-D scan; choose a single 3-D image"
        )
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind:
        raise UserError(f"{name}: holds complex numbers, not Hounsfield units; choose a CT scan")
    if reader.GetNumberOfComponents() != 1:
        raise UserError(f"{name}: holds colours or several values per voxel; choose a scan with one value per voxel")
    voxels = int(np.prod(size, dtype=object))
    if voxels > MAX_VOXELS or voxels > data_file.stat().st_size * _DEFLATE_MAX:
        words = " x ".join(map(str, size))
        raise UserError(f"{name}: claims {words} voxels, more than the file can hold; copy or export it again")


def _affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def _is_oriented(path: Path, fields: dict[str, str]) -> bool:
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        return "space directions" in fields
    return any(key in fields for key in ("transformmatrix", "rotation", "orientation"))


def _own_affine(fields: dict[str, str]) -> np.ndarray | None:
    """NRRD's axes as written: ITK straightens sheared ones. None where the header has no such axes for three axes."""
    signs = _SPACES.get(fields.get("space", "").lower())
    vectors = [_vector(text) for text in re.findall(r"\([^)]*\)", fields.get("space directions", ""))]
    origin = _vector(fields.get("space origin", "(0,0,0)"))
    if signs is None or len(vectors) != 3 or origin is None or any(v is None for v in vectors):
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors, float).T
    affine[:3, 3] = origin
    return np.diag([*signs, 1.0]) @ affine


def _vector(text: str) -> list[float] | None:
    try:
        values = [float(part) for part in text.strip("() ").split(",")]
    except ValueError:
        return None
    return values if len(values) == 3 else None
