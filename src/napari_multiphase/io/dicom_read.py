"""The pixels of one DICOM acquisition as a volume in HU."""

from __future__ import annotations

import hashlib
import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import open_files
from napari_multiphase.io.dicom_header import SYNTAXES, Header, header_of, is_deflated
from napari_multiphase.io.dicom_index import Series
from napari_multiphase.io.dicom_stack import SAME_PLACE_MM, offsets_mm, stack
from napari_multiphase.io.geometry import AIR_HU, MAX_VOXELS, check_affine, to_canonical
from napari_multiphase.io.values import check_scaling, check_steps
from napari_multiphase.volume import Source, Volume

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_COMPRESSED_MAX = 1000  # pixels per stored byte that the best codec could reach on a real slice


@dataclass(frozen=True)
class Slice:
    """One decoded slice: `stored` (rows, columns) raw values, their scaling, and which are padding."""

    header: Header
    stored: NDArray[Any]
    slope: float
    intercept: float
    padding: tuple[int, int] | None


def read_series(series: Series) -> Volume:
    """The scan of one acquisition: (D, H, W) int16 HU (float32 where slopes are fractions) on its canonical grid.

    `source.shape` and `source.affine_mm` are columns, rows and slices along the slice normal. Where slices are missing
    or uneven, they are those of the regular stack that the series spans, and ``source.header["stored_k"]`` holds the
    places of the stored slices in it.

    Raises
    ------
    UserError : for a series with problems, and for pixels that cannot be decoded or trusted.
    """
    if series.problems:
        raise UserError(f"{series.title}: {'; '.join(series.problems)}; choose another series")
    if series.rows * series.columns * series.slices > MAX_VOXELS:
        raise UserError(f"{series.title}: has more voxels than can be opened ({MAX_VOXELS:,}); crop the scan first")
    digest, slices = hashlib.sha256(), []
    with open_files(series.path) as files, tempfile.TemporaryDirectory(prefix="multiphase-") as scratch:
        for name in series.files:
            block = files.read(name)
            digest.update(block)
            slices.append(decode(block, name, Path(scratch)))
    slices, dropped = _without_duplicates(slices, series.title)
    return _volume(series, slices, digest.hexdigest(), dropped)


def decode(block: bytes, name: str, scratch: Path) -> Slice:
    """Decode one DICOM file; values outside the range its header declares are refused, not passed on.

    Raises
    ------
    UserError : damaged, truncated, of an unknown transfer syntax, or decoded to a range that cannot be.
    """
    if is_deflated(block):
        raise UserError(f"{name}: its transfer syntax (deflated) is not read; export the series uncompressed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are judged by what they are needed for
            return _decode(pydicom.dcmread(io.BytesIO(block)), block, name, scratch)
    except UserError:
        raise
    except Exception as error:  # pydicom parses late, and raises almost anything on a damaged file
        raise UserError(f"{name}: is not a readable DICOM file; copy the series again") from error


def _decode(dataset: pydicom.Dataset, block: bytes, name: str, scratch: Path) -> Slice:
    header = header_of(dataset, name)
    if header is None:
        raise UserError(f"{name}: is not a DICOM image; choose a CT series")
    if header.syntax not in SYNTAXES:
        raise UserError(f"{name}: its transfer syntax ({header.syntax or 'none'}) is not read; export it uncompressed")
    slope, intercept = _scaling(dataset, name)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if header.syntax in _NATIVE:
        stored = _native(dataset, rows, columns, name)
    else:
        if rows * columns > len(block) * _COMPRESSED_MAX:
            raise UserError(f"{name}: claims {rows} x {columns} pixels, more than it can hold; copy the series again")
        stored = _by_gdcm(block, slope, intercept, scratch, name)
    if stored.shape != (rows, columns):
        raise UserError(
            f"{name}: decodes to {stored.shape} pixels instead of {rows} x {columns}; copy the series again"
        )
    padding = _padding(dataset)
    _check_range(dataset, stored, padding, name)
    return Slice(header, stored, slope, intercept, padding)


def _scaling(dataset: pydicom.Dataset, name: str) -> tuple[float, float]:
    try:
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        values = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: its slope or intercept is not a number; export the scan again") from error
    check_scaling(*values, name)
    check_steps(values[0], name)
    return values


def _native(dataset: pydicom.Dataset, rows: int, columns: int, name: str) -> NDArray[Any]:
    bits, signed = int(dataset.get("BitsAllocated") or 0), int(dataset.get("PixelRepresentation") or 0)
    if bits not in (8, 16, 32) or signed not in (0, 1):
        raise UserError(f"{name}: stores {bits} bits per pixel, which is not read; export the series again")
    kind = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
    block = dataset.get("PixelData") or b""
    if len(block) < rows * columns * kind.itemsize:
        raise UserError(
            f"{name}: is cut off, {len(block):,} of its {rows * columns * kind.itemsize:,} pixel bytes are there"
        )
    stored = np.frombuffer(block, kind, rows * columns).reshape(rows, columns)
    return _sign_extended(stored, int(dataset.get("BitsStored") or bits)) if signed else stored


def _sign_extended(stored: NDArray[Any], bits: int) -> NDArray[Any]:
    """Signed values of fewer bits than their cells, whose sign some writers do not carry into the upper bits."""
    spare = stored.dtype.itemsize * 8 - bits
    if spare <= 0 or stored.min() < 0 or not 1 << (bits - 1) <= stored.max() < 1 << bits:
        return stored
    return (stored << spare) >> spare


def _by_gdcm(block: bytes, slope: float, intercept: float, scratch: Path, name: str) -> NDArray[Any]:
    import SimpleITK as sitk  # takes most of a second, and uncompressed series do without

    path = scratch / "slice.dcm"
    path.write_bytes(block)
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise UserError(f"{name}: its compressed pixels cannot be decoded; export the series uncompressed") from error
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    # GDCM hands out HU; the stored values are needed to check them against the header.
    return np.rint((values - intercept) / slope).astype(np.int32)


def _padding(dataset: pydicom.Dataset) -> tuple[int, int] | None:
    """Stored values (lowest, highest) that mean "no data"."""
    try:
        first = _as_stored(dataset, dataset.get("PixelPaddingValue"))
        last = _as_stored(dataset, dataset.get("PixelPaddingRangeLimit"))
    except (ValueError, TypeError):
        return None
    if first is None:
        return None
    return (first, first) if last is None else (min(first, last), max(first, last))


def _as_stored(dataset: pydicom.Dataset, value: Any) -> int | None:
    """A tag that may be written signed or unsigned, read as the pixels are."""
    if value is None or value == "":
        return None
    bits = int(dataset.BitsAllocated)
    number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
    number %= 1 << bits
    signed = int(dataset.get("PixelRepresentation") or 0)
    return number - (1 << bits) if signed and number >= 1 << (bits - 1) else number


def _check_range(dataset: pydicom.Dataset, stored: NDArray[Any], padding: tuple[int, int] | None, name: str) -> None:
    bits, signed = int(dataset.get("BitsStored") or 16), int(dataset.get("PixelRepresentation") or 0)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    least, most = int(stored.min()), int(stored.max())
    if least < low or most > high:
        odd = stored[(stored < low) | (stored > high)]
        if padding is None or not ((odd >= padding[0]) & (odd <= padding[1])).all():
            raise UserError(
                f"{name}: decodes to values from {least} to {most}, but its header allows {low} to {high}; "
                "the decoder or the file is wrong: export the series uncompressed"
            )
    for keyword, found in (("SmallestImagePixelValue", least), ("LargestImagePixelValue", most)):
        said = _as_stored(dataset, dataset.get(keyword))
        loss = str(dataset.get("LossyImageCompression", "")) == "01" or "lossy" in SYNTAXES[_syntax(dataset)]
        if said is not None and abs(said - found) > (0.05 * (high - low) if loss else 0) and padding is None:
            raise UserError(
                f"{name}: decodes to values from {least} to {most}, but its header says {keyword} is {said}; "
                "the decoder or the file is wrong: export the series uncompressed"
            )


def _syntax(dataset: pydicom.Dataset) -> str:
    return str(dataset.file_meta.TransferSyntaxUID)


def _without_duplicates(slices: list[Slice], name: str) -> tuple[list[Slice], int]:
    """Slices in order along the normal; copies at one place are dropped, different ones refused."""
    placed = [s.header.placed for s in slices if s.header.placed is not None]
    if len(placed) != len(slices):
        raise UserError(f"{name}: does not say where its slices lie; export it again")
    at = offsets_mm(placed)
    kept: list[Slice] = []
    last = -np.inf
    for i in np.argsort(at, kind="stable"):
        if at[i] - last > SAME_PLACE_MM:
            kept.append(slices[i])
            last = at[i]
        elif not _same_pixels(kept[-1], slices[i]):
            first, second = kept[-1].header.name, slices[i].header.name
            raise UserError(f"{name}: {first} and {second} lie at the same place but differ; keep one of them")
    return kept, len(slices) - len(kept)


def _same_pixels(first: Slice, second: Slice) -> bool:
    scaling = (first.slope, first.intercept) == (second.slope, second.intercept)
    return scaling and np.array_equal(first.stored, second.stored)


def _volume(series: Series, slices: list[Slice], sha256: str, dropped: int) -> Volume:
    name = series.title
    lattice = stack([s.header.placed for s in slices if s.header.placed is not None], name)
    check_affine(lattice.affine_mm, lattice.shape, name)
    stored_type = slices[0].stored.dtype.newbyteorder("=").name
    data, notes = _hu(slices)
    canonical, grid, words = to_canonical(data, lattice, order=1, background=AIR_HU)
    if dropped:
        notes.append(f"{dropped} repeated slice{'s' * (dropped != 1)} dropped (identical pixels)")
    source = Source(
        path=series.path,
        format="dicom",
        shape=lattice.shape,
        affine_mm=lattice.affine_mm,
        dtype=stored_type,
        slope=slices[0].slope,
        intercept=slices[0].intercept,
        sha256=sha256,
        resampled=words,
        header={
            "patient_id": series.patient_id,
            "study_uid": series.study_uid,
            "study_date": series.study_date,
            "acquisition_time": series.acquisition_time,
            "series_uid": series.series_uid,
            "series_number": series.number,
            "acquisition_number": series.acquisition,
            "frame_of_reference": series.frame_of_reference,
            "modality": series.modality,
            "description": series.description,
            "tags": dict(series.tags),
            "files": [s.header.name for s in slices],
            "stored_k": None if lattice.stored_k is None else lattice.stored_k.tolist(),
            "notes": [*series.notes, *notes],
        },
    )
    return Volume(np.ascontiguousarray(canonical), grid, source)


def _hu(slices: list[Slice]) -> tuple[NDArray[Any], list[str]]:
    """(columns, rows, slices) HU; int16 where every slope is 1 and every value fits, float32 otherwise."""
    notes: list[str] = []
    scalings = {(s.slope, s.intercept) for s in slices}
    if len(scalings) > 1:
        notes.append(f"slope and intercept change between slices ({len(scalings)} pairs): applied slice by slice")
    whole = all(s.slope == 1 and s.intercept.is_integer() for s in slices)
    rows, columns = slices[0].stored.shape
    limits = [(float(s.stored.min()) + s.intercept, float(s.stored.max()) + s.intercept) for s in slices]
    fits = whole and min(low for low, _ in limits) >= -32768 and max(high for _, high in limits) <= 32767
    data = np.empty((len(slices), rows, columns), np.int16 if fits else np.float32)
    for plane, piece in zip(data, slices, strict=True):
        if fits:
            plane[...] = piece.stored.astype(np.int32) + int(piece.intercept) if piece.intercept else piece.stored
        else:
            plane[...] = piece.stored * np.float32(piece.slope) + np.float32(piece.intercept)
        if piece.padding is not None and piece.padding[1] * piece.slope + piece.intercept < -900:
            plane[(piece.stored >= piece.padding[0]) & (piece.stored <= piece.padding[1])] = AIR_HU
    return data.transpose(2, 1, 0), notes
