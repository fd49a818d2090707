"""The header of one DICOM file: only the facts the index needs, read without trusting the file."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files
from napari_multiphase.io.dicom_stack import Placed

SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
    "1.2.840.10008.1.2.4.50": "JPEG baseline, lossy",
    "1.2.840.10008.1.2.4.51": "JPEG extended, lossy",
    "1.2.840.10008.1.2.4.55": "JPEG progressive, lossy",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS, near lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000, lossy",
    "1.2.840.10008.1.2.5": "RLE lossless",
}
"""Transfer syntaxes that are decoded."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEADER_LIMIT = 64 << 20

PHASE_TAGS = (
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "ContrastBolusStopTime",
    "ProtocolName",
    "StudyDescription",
    "ImageComments",
    "AcquisitionComments",
    "AcquisitionDateTime",
    "SeriesTime",
    "StudyTime",
    "ContentTime",
    "ConvolutionKernel",
    "BodyPartExamined",
    "Manufacturer",
)
_TAGS = [
    *PHASE_TAGS,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "PatientID",
    "StudyDate",
    "SeriesDescription",
    "SeriesNumber",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TriggerTime",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
]


@dataclass(frozen=True)
class Header:
    """The facts of one file that the index needs."""

    name: str
    facts: Mapping[str, Any]
    syntax: str
    placed: Placed | None

    def text(self, keyword: str) -> str:
        """A field as text, empty where absent."""
        value = self.facts.get(keyword)
        return "" if value is None else str(value).strip()

    def whole(self, keyword: str) -> int | None:
        """A field as a whole number, None where absent or not one."""
        try:
            return int(float(self.text(keyword)))
        except (ValueError, OverflowError):
            return None


class Damaged(Exception):
    """A file that says it is DICOM but cannot be parsed."""


class Bounded:
    """A file of which a header may take at most `_HEADER_LIMIT` bytes, whatever lengths its elements claim."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._left = _HEADER_LIMIT

    def read(self, size: int = -1) -> bytes:
        """As a file's, but raises `Damaged` beyond the limit."""
        self._left -= size if size >= 0 else _HEADER_LIMIT + 1
        if self._left < 0:
            raise Damaged
        return self._handle.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's."""
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        """As a file's."""
        return self._handle.tell()


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM files do."""
    try:
        with path.open("rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def is_deflated(start: bytes) -> bool:
    """Whether a file's first bytes name the deflated syntax, which pydicom would unpack without any bound."""
    return _DEFLATED in start[:4096]


def read_header(files: Files, name: str) -> Header | None:
    """The header of one file; None where it is not a DICOM image (DICOMDIR and reports included).

    Raises
    ------
    Damaged : a DICOM file that cannot be parsed. UserError : a damaged zip.
    """
    try:
        with files.open(name) as handle:
            if is_deflated(handle.read(4096)):
                raise Damaged
            handle.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # odd values are judged below, by what they are needed for
                dataset = pydicom.dcmread(Bounded(handle), stop_before_pixels=True, specific_tags=list(_TAGS))
                header = header_of(dataset, name)
            if header is None and not dataset.file_meta.get("MediaStorageSOPClassUID"):
                raise Damaged
            return header
    except InvalidDicomError:
        return None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{files.path.name}: {name} in it is damaged; copy or download the zip again") from error
    except Exception as error:  # a damaged header can raise almost anything in the parser
        raise Damaged from error


def header_of(dataset: pydicom.Dataset, name: str) -> Header | None:
    """The facts of a dataset that was read from `name`; None where it is no image."""
    if "SOPClassUID" not in dataset or not int(dataset.get("Rows") or 0):
        return None
    facts = {tag: _plain(dataset, tag) for tag in _TAGS}
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    return Header(name, {k: v for k, v in facts.items() if v not in (None, "", [])}, syntax, _placed(facts))


def _plain(dataset: pydicom.Dataset, tag: str) -> Any:
    try:
        value = dataset.get(tag)
        if isinstance(value, (list, tuple, MultiValue)):
            return [str(v) if isinstance(v, str) else float(v) for v in value]
        return None if value is None else str(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _placed(facts: Mapping[str, Any]) -> Placed | None:
    try:
        x, y, z = (float(v) for v in facts["ImagePositionPatient"])
        a, b, c, d, e, f = (float(v) for v in facts["ImageOrientationPatient"])
        row_mm, column_mm = (float(v) for v in facts["PixelSpacing"])
        thickness = float(facts.get("SliceThickness") or 1.0)
        rows, columns = int(facts["Rows"]), int(facts["Columns"])
    except (TypeError, ValueError, KeyError):
        return None
    row, column = np.array([a, b, c]), np.array([d, e, f])
    lengths = [np.linalg.norm(v) for v in (row, column, np.cross(row, column))]
    if not np.isfinite([x, y, z, row_mm, column_mm]).all() or not np.allclose(lengths, 1, atol=1e-2):
        return None
    return Placed((x, y, z), (a, b, c, d, e, f), rows, columns, row_mm, column_mm, thickness)
