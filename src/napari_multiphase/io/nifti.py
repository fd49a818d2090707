"""NIfTI-1 and -2 single files (.nii, .nii.gz): nibabel's header logic over a bounded reader.

The reader never takes in more than the header's own size says, so a small file cannot unpack into all memory.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.io.geometry import MAX_VOXELS, check_affine
from napari_multiphase.io.values import check_dtype

SYNTHETIC = "synthetic image: "
"""What the header's description begins with where a model made the image; such a file is never taken for a scan."""
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEADER_BYTES = {348: (nib.Nifti1Header, 348), 540: (nib.Nifti2Header, 540)}
_DEFLATE_MAX = 1100  # deflate cannot do better than about 1032 to 1
_CHUNK = 4 << 20
_GZIP_ERRORS: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile, igzip.isal_zlib.error)  # type: ignore[assignment]

_READ_ERRORS: tuple[type[Exception], ...] = (OSError, *_GZIP_ERRORS)


@dataclass(frozen=True)
class Stored:
    """What a file holds, before it is made canonical.

    `data` (I, J, K) as stored, `affine_mm` to LPS mm, slope and intercept as stored, `notes` for the user. `header`
    holds ``synthetic``, the description, where a model made the image.
    """

    data: NDArray[Any]
    affine_mm: NDArray[np.float64]
    slope: float
    intercept: float
    header: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_nifti(path: Path, channel: int | None = None) -> Stored:
    """The image of one NIfTI file; with `channel` that one of a 4-D file.

    Raises
    ------
    UserError : not NIfTI, truncated, corrupt, not one 3-D image, or a geometry that cannot be.
    """
    name = path.name
    try:
        with _opened(path) as stream:
            header = _read_header(stream, name)
            shape, dtype = _check_header(header, path, channel)
            data = _read_data(stream, header, shape, dtype, name, channel or 0)
    except _GZIP_ERRORS as error:
        raise UserError(f"{name}: its gzip data are truncated or corrupt; copy or download the file again") from error
    slope, intercept = _scaling(header)
    affine, notes = _affine(header, name)
    check_affine(affine, shape, name)
    facts: dict[str, Any] = {"sform_code": int(header["sform_code"]), "qform_code": int(header["qform_code"])}
    described = bytes(header["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")
    if described.startswith(SYNTHETIC):
        facts["synthetic"] = described
    return Stored(data, affine, slope, intercept, facts, notes)


def count_channels(path: Path) -> int:
    """How many 3-D images lie one after another in a NIfTI file; a UserError where it is none."""
    try:
        with _opened(path) as stream:
            header = _read_header(stream, path.name)
    except _READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as NIfTI; copy or download the file again") from error
    count = int(header["dim"][0])
    return int(np.prod([max(1, int(n)) for n in header["dim"][4 : count + 1]]))


def _opened(path: Path) -> IO[bytes]:
    return igzip.open(path, "rb") if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _read_header(stream: IO[bytes], name: str) -> Any:
    start = stream.read(4)
    sizes = {int.from_bytes(start, order): order for order in ("little", "big")} if len(start) == 4 else {}
    size = next((s for s in sizes if s in _HEADER_BYTES), None)
    if size is None:
        raise UserError(f"{name}: is not a NIfTI image; choose a .nii or .nii.gz file")
    kind, count = _HEADER_BYTES[size]
    block = start + stream.read(count - 4)
    if len(block) < count:
        raise UserError(f"{name}: ends within its header; copy or download the file again")
    try:
        header = kind.from_fileobj(io.BytesIO(block + bytes(4)), check=False)
    except (HeaderDataError, ValueError) as error:
        raise UserError(f"{name}: its NIfTI header is damaged; export the scan again") from error
    if not bytes(header["magic"].item()).startswith((b"n+1", b"n+2")):
        raise UserError(f"{name}: is not a single NIfTI file (.hdr/.img pairs are not read); convert it to .nii.gz")
    return header


def _check_header(header: Any, path: Path, channel: int | None) -> tuple[tuple[int, ...], np.dtype[Any]]:
    name = path.name
    count = int(header["dim"][0])
    full = [int(n) for n in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    shape, channels = full[:3] + [n for n in full[3:] if n != 1], 1
    if channel is not None and len(shape) == 4 and channel < shape[3]:
        shape, channels = shape[:3], shape[3]
    if len(shape) != 3 or min(shape) < 1 or sum(n > 1 for n in shape) < 3:
        words = " x ".join(map(str, full)) or "no"
        raise UserError(f"{name}: holds {words} values, not one 3-D scan; choose a file with a single 3-D image")
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise UserError(f"{name}: stores its voxels in a type that is not known; export the scan again") from error
    check_dtype(dtype, name)
    voxels = int(np.prod(shape, dtype=object)) * channels
    at_hand = path.stat().st_size * (_DEFLATE_MAX if _is_gzip(path) else 1)
    if voxels > MAX_VOXELS or voxels * dtype.itemsize > at_hand:
        words = " x ".join(map(str, shape))
        raise UserError(f"{name}: claims {words} voxels, more than the file can hold; copy or export it again")
    return tuple(shape), dtype


def _read_data(
    stream: IO[bytes], header: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, channel: int
) -> NDArray[Any]:
    offset = int(header["vox_offset"])
    if not int(header["sizeof_hdr"]) <= offset <= 1 << 26:
        raise UserError(f"{name}: its NIfTI header is damaged (voxels at byte {offset}); export the scan again")
    stream.seek(offset + channel * int(np.prod(shape)) * dtype.itemsize)  # the fourth axis varies slowest
    data = np.empty(int(np.prod(shape)), dtype)
    view, filled = data.view(np.uint8).data, 0
    while filled < len(view):
        got = stream.readinto(view[filled : filled + _CHUNK])  # type: ignore[attr-defined]
        if not got:
            raise UserError(f"{name}: ends after {filled / len(view):.0%} of its voxels; copy or download it again")
        filled += got
    stream.read(1 << 16)  # reaching the end of the file is what makes gzip compare its checksum
    return data.reshape(shape, order="F")


def _scaling(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    return (1.0, 0.0) if slope == 0 else (slope, intercept)  # the standard: zero means "not scaled"


def _affine(header: Any, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    try:
        affine = np.asarray(header.get_best_affine(), float)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise UserError(f"{name}: its orientation (quaternion) is damaged; export the scan again") from error
    notes: list[str] = []
    if sform == 0 and qform == 0:
        notes.append(f"{name} stores no orientation: left and right are taken as NIfTI's default, check them")
    elif sform and qform:
        try:
            other = np.asarray(header.get_qform(), float)
        except (HeaderDataError, ValueError):
            other = affine
        corners = np.array([[0, 0, 0, 1], [*(int(n) for n in header["dim"][1:4]), 1]], float).T
        apart_mm = float(np.abs((affine - other) @ corners).max())
        if apart_mm > 1:
            notes.append(f"{name} stores two positions {apart_mm:.1f} mm apart (sform, qform): the sform is used")
    return RAS_LPS @ affine, tuple(notes)


def write_nifti(
    path: Path,
    data: NDArray[Any],
    affine_mm: NDArray[np.float64],
    *,
    codes: tuple[int, int] = (1, 1),
    slope: float = 1.0,
    description: str = "",
) -> None:
    """Write (I, J, K) `data` with an LPS affine; `codes` are (sform, qform), `slope` is stored, not applied.

    A sheared affine has no quaternion: it is kept in the sform and the qform is marked as absent.
    """
    ras = RAS_LPS @ np.asarray(affine_mm, float)
    image = nib.Nifti1Image(np.asarray(data), ras)
    sform, qform = (codes[0] or 1, codes[1])
    image.header.set_xyzt_units("mm")
    image.set_sform(ras, sform)
    directions = ras[:3, :3] / np.linalg.norm(ras[:3, :3], axis=0)
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-5):
        image.set_qform(ras, qform)
    else:
        image.header["pixdim"][1:4] = np.linalg.norm(ras[:3, :3], axis=0)
        image.header["qform_code"] = 0
    image.header.set_slope_inter(slope, 0.0)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    nib.save(image, path)
