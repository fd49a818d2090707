"""One 3-D image per file: NIfTI, NRRD, MetaImage; and results written onto exactly the source's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.geometry import AIR_HU, Lattice, from_canonical, to_canonical
from napari_multiphase.io.itk_files import read_itk, voxel_file
from napari_multiphase.io.nifti import Stored, read_nifti, write_nifti
from napari_multiphase.io.values import sha256_of, to_hu, to_labels
from napari_multiphase.volume import Source, Volume

SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
}
"""File endings that are read, and the format each stands for."""

Kind = Literal["labels", "confidence", "image"]


def format_of(path: Path) -> str | None:
    """The image format a file's name stands for, or None."""
    name = path.name.lower()
    return next((SUFFIXES[end] for end in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(end)), None)


def is_synthetic(source: Source) -> bool:
    """Whether a model made the image: its header says so, or the name of its file."""
    return source.synthetic


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that an image is read from: itself, and where its header keeps the voxels apart, theirs.

    A file that cannot be read is taken for whole: reading it says what is wrong.
    """
    if format_of(path) not in ("nrrd", "metaimage"):
        return (path,)
    try:
        voxels = voxel_file(path)
    except (UserError, OSError):
        return (path,)
    return (path,) if voxels == path else (path, voxels)


def read_image(path: Path, channel: int | None = None) -> Volume:
    """A scan: (D, H, W) int16 HU where nothing is lost, float32 otherwise, on its canonical grid.

    With `channel`, that one of a 4-D NIfTI file.

    Raises
    ------
    UserError : for everything that is not one readable 3-D scan, in one sentence.
    """
    path, kind, stored = _read(Path(path), channel)
    data = to_hu(stored.data, stored.slope, stored.intercept, path.name)
    return _volume(path, kind, stored, data, order=1, background=AIR_HU)


def read_labels(path: Path) -> Volume:
    """A label map: (D, H, W) uint8 or uint16 on its canonical grid.

    Raises
    ------
    UserError : as `read_image`, and for values that are not label numbers.
    """
    path, kind, stored = _read(Path(path))
    data = to_labels(stored.data, stored.slope, stored.intercept, path.name)
    return _volume(path, kind, stored, data, order=0, background=0)


def _read(path: Path, channel: int | None = None) -> tuple[Path, str, Stored]:
    kind = format_of(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such file; check the name")
    if path.is_dir():
        raise UserError(
            f"{path}: is a folder, not an image; name one file ({', '.join(SUFFIXES)}), and convert a DICOM series to "
            "NIfTI first (by dcm2niix, say)"
        )
    if kind is None:
        raise UserError(f"{path}: is not an image that is read here; name a file that ends in {', '.join(SUFFIXES)}")
    try:
        return path, kind, read_nifti(path, channel) if kind == "nifti" else read_itk(path)
    except PermissionError as error:
        raise UserError(f"{path}: you may not read this file; change its permissions") from error
    except MemoryError as error:
        raise UserError(f"{path.name}: does not fit into memory; close other programs or crop the scan") from error
    except OSError as error:
        raise UserError(
            f"{path.name}: cannot be read ({error.strerror or error}); copy or download it again"
        ) from error


def _volume(
    path: Path, kind: str, stored: Stored, data: NDArray[Any], *, order: Literal[0, 1], background: float
) -> Volume:
    i, j, k = data.shape
    canonical, grid, words = to_canonical(
        data, Lattice((i, j, k), stored.affine_mm), order=order, background=background
    )
    source = Source(
        path=path.resolve(),
        format=kind,
        shape=(i, j, k),
        affine_mm=stored.affine_mm,
        dtype=stored.data.dtype.newbyteorder("=").name,
        slope=stored.slope,
        intercept=stored.intercept,
        sha256=sha256_of(path),
        resampled=words,
        header={**stored.header, "notes": list(stored.notes)},
    )
    return Volume(np.ascontiguousarray(canonical), grid, source)


def source_lattice(source: Source) -> Lattice:
    """The grid of the file a volume came from."""
    return Lattice(source.shape, np.asarray(source.affine_mm, float))


def to_source_array(data: NDArray[Any], volume: Volume, *, order: Literal[0, 1] = 0) -> NDArray[Any]:
    """`data` (D, H, W) on `volume.grid` in the source's own axis order (I, J, K), shape `volume.source.shape`.

    A permutation where the source is aligned; resampled (nearest for `order` 0, linear for 1) where it is not, with
    0 (HU of air for signed or floating-point images) outside.
    """
    if data.shape != volume.grid.shape:
        raise ValueError(f"data has shape {data.shape}, the volume {volume.grid.shape}")
    background = AIR_HU if order == 1 and data.dtype.kind in "if" else 0.0
    return from_canonical(data, volume.grid, source_lattice(volume.source), order=order, background=background)


def write_on_source(path: Path, data: NDArray[Any], volume: Volume, *, kind: Kind, description: str = "") -> None:
    """Write `data` (D, H, W) on `volume.grid` as NIfTI with the source's shape, affine and axis order.

    Parameters
    ----------
    kind : "labels" (uint8 or uint16, nearest), "confidence" (uint8 with slope 1/255), "image" (HU, linear).
    description : up to 79 characters, kept in the header; without one an image keeps the mark of a synthetic source.

    Raises
    ------
    UserError : where the file cannot be written; nothing is left half-written.
    """
    path = Path(path)
    if format_of(path) != "nifti":
        raise UserError(f"{path.name}: results are written as NIfTI; choose a name that ends in .nii.gz")
    array = to_source_array(_storable(data, kind), volume, order=0 if kind == "labels" else 1)
    affine, codes = np.asarray(volume.source.affine_mm, float), (1, 1)
    if volume.source.format == "memory":  # no file to be faithful to: the axis order every other reader expects
        array, affine = array.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]
    if volume.source.format == "nifti":
        codes = (int(volume.source.header.get("sform_code", 1)), int(volume.source.header.get("qform_code", 1)))
    if kind == "image" and not description:
        description = str(volume.source.header.get("synthetic", ""))
    with atomic_path(path) as part:
        slope = 1 / 255 if kind == "confidence" else 1.0
        write_nifti(part, array, affine, codes=codes, slope=slope, description=description)


def _storable(data: NDArray[Any], kind: Kind) -> NDArray[Any]:
    if kind == "confidence":
        if data.dtype != np.uint8:
            raise ValueError("confidence is stored as uint8")
        return data
    if kind == "labels":
        return data if data.dtype in (np.uint8, np.uint16) else to_labels(data, 1.0, 0.0, "labels")
    return data.astype(np.int16 if data.dtype.kind in "iub" and data.dtype.itemsize <= 2 else np.float32, copy=False)
