"""What a folder or zip of DICOM holds, from headers alone: one `Series` per acquisition."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files, open_files
from napari_multiphase.io.dicom_stack import SAME_PLACE_MM, Placed, offsets_mm, stack
from napari_multiphase.io.geometry import check_affine
from napari_multiphase.io.values import check_scaling

FEWEST_SLICES = 5
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

_PHASE_TAGS = (
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
    *_PHASE_TAGS,
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
class Series:
    """One acquisition: the slices that make up one scan.

    Attributes
    ----------
    path : the folder or zip they lie in.
    files : their names below `path`, from the first slice along the slice normal to the last.
    acquisition_time : "HHMMSS.ffffff" or empty; dates are "YYYYMMDD" or empty.
    number, acquisition : SeriesNumber and AcquisitionNumber, None where absent.
    slices : how many are stored; spacing_mm is (between slices, between rows, between columns).
    problems : in sentences, why this is no scan to segment; empty where it can be read.
    notes : in sentences, what the user should know all the same.
    tags : further DICOM fields by keyword, as text: contrast bolus, protocol, kernel.
    """

    path: Path
    files: tuple[str, ...]
    series_uid: str
    study_uid: str
    description: str
    modality: str
    patient_id: str
    study_date: str
    acquisition_time: str
    frame_of_reference: str
    number: int | None
    acquisition: int | None
    rows: int
    columns: int
    slices: int
    spacing_mm: tuple[float, float, float]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))

    @property
    def title(self) -> str:
        """A name for a person: "series 4, LIVER 3 PHASE, acquisition 2"."""
        parts = [f"series {self.number}" if self.number is not None else "series"]
        parts += [self.description] if self.description else []
        parts += [f"acquisition {self.acquisition}"] if self.acquisition is not None else []
        return ", ".join(parts)

    def __reduce__(self) -> Any:
        values = {**self.__dict__, "tags": dict(self.tags)}
        return _series, (values,)


def _series(values: dict[str, Any]) -> Series:
    return Series(**values)


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


def index(path: Path) -> list[Series]:
    """Every image series behind `path`: a folder tree, a zip, or one DICOM file (its whole acquisition).

    Files that are not DICOM are passed over. Series that are no scan (localisers, MR, segmentations) are listed with
    the reason in `problems`.

    Raises
    ------
    UserError : where `path` cannot be read; not where it merely holds no DICOM.
    """
    path = Path(path).resolve()
    only = None
    if path.is_file() and not zipfile.is_zipfile(path):
        path, only = path.parent, path.name
    with open_files(path) as files:
        names = files.names()
        headers = [h for h in (read_header(files, name) for name in names) if h is not None]
    groups = [part for group in _by_series(headers) for part in acquisitions(group)]
    found = [_describe(path, group, len(groups)) for group in groups]
    if only is not None:
        found = [s for s in found if only in s.files]
    return sorted(
        found, key=lambda s: (s.patient_id, s.number is None, s.number or 0, s.acquisition or 0, s.series_uid)
    )


def read_header(files: Files, name: str) -> Header | None:
    """The header of one file; None where it is not a DICOM image (DICOMDIR and reports included)."""
    try:
        with files.open(name) as handle:
            dataset = pydicom.dcmread(handle, stop_before_pixels=True, specific_tags=_TAGS)
            return header_of(dataset, name)
    except InvalidDicomError:
        return None
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{files.path.name}: {name} in it is damaged; copy or download the zip again") from error
    except Exception:  # a damaged header can raise almost anything in the parser; such a file is not an image
        return None


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
        if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
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
    if not np.isfinite([x, y, z, a, b, c, d, e, f, row_mm, column_mm]).all():
        return None
    return Placed((x, y, z), (a, b, c, d, e, f), rows, columns, row_mm, column_mm, thickness)


def _by_series(headers: Iterable[Header]) -> list[list[Header]]:
    """Files of one SeriesInstanceUID that share size, spacing and orientation."""
    groups: dict[tuple[Any, ...], list[list[Header]]] = defaultdict(list)
    for header in headers:
        keys = ("PatientID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
        for group in (alike := groups[tuple(header.text(k) for k in keys)]):
            if _parallel(group[0].placed, header.placed):
                group.append(header)
                break
        else:
            alike.append([header])
    return [group for alike in groups.values() for group in alike]


def _parallel(first: Placed | None, second: Placed | None) -> bool:
    if first is None or second is None:
        return first is second
    spacing = (first.row_spacing_mm - second.row_spacing_mm, first.column_spacing_mm - second.column_spacing_mm)
    return max(map(abs, spacing)) < 1e-3 and np.abs(np.subtract(first.orientation, second.orientation)).max() < 2e-3


def acquisitions(group: list[Header]) -> list[list[Header]]:
    """Split files of one series that hold several scans of the same places (phases) into one list per scan.

    By AcquisitionNumber, acquisition, trigger or content time where one of them tells the scans apart; otherwise by
    the order of InstanceNumber. A few repeated slices are left in: reading decides whether they are copies.
    """
    if any(h.placed is None for h in group):
        return [group]
    firsts, copies = _without_copies(group)
    most, repeats = _repeats(firsts)
    if most < 2:
        parts = [firsts]
    else:
        parts = _by_field(firsts, most) or ([firsts] if repeats < max(2, len(firsts) // 4) else _by_order(firsts))
    for copy in copies:  # the same object twice, for instance in a backup folder
        next(p for p in parts if any(h.text("SOPInstanceUID") == copy.text("SOPInstanceUID") for h in p)).append(copy)
    return parts


def _without_copies(group: list[Header]) -> tuple[list[Header], list[Header]]:
    seen: set[str] = set()
    firsts, copies = [], []
    for header in group:
        uid = header.text("SOPInstanceUID")
        (copies if uid and uid in seen else firsts).append(header)
        seen.add(uid)
    return firsts, copies


def _places(group: list[Header]) -> list[int]:
    """A number per file, the same for files at the same place along the slice normal."""
    at = offsets_mm([h.placed for h in group if h.placed is not None])
    order = np.argsort(at, kind="stable")
    jumps = np.diff(at[order], prepend=at[order[0]]) > SAME_PLACE_MM
    places = np.empty(len(at), int)
    places[order] = np.cumsum(jumps)
    return places.tolist()


def _repeats(group: list[Header]) -> tuple[int, int]:
    """How often the most repeated place occurs, and how many files lie at a place that is taken already."""
    counts = Counter(_places(group))
    return max(counts.values()), sum(counts.values()) - len(counts)


def _by_field(group: list[Header], most: int) -> list[list[Header]] | None:
    for keyword in ("AcquisitionNumber", "AcquisitionTime", "TriggerTime", "ContentTime"):
        parts: dict[str, list[Header]] = defaultdict(list)
        for header in group:
            parts[header.text(keyword)].append(header)
        if len(parts) == most and all(_repeats(part)[0] == 1 for part in parts.values()):
            return [parts[key] for key in sorted(parts, key=_numeric)]
    return None


def _numeric(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _by_order(group: list[Header]) -> list[list[Header]]:
    ordered = sorted(group, key=lambda h: (h.whole("InstanceNumber") or 0, h.name))
    parts: list[list[Header]] = [[]]
    taken: set[int] = set()
    for header, place in zip(ordered, _places(ordered), strict=True):
        if place in taken:
            parts.append([])
            taken = set()
        parts[-1].append(header)
        taken.add(place)
    # Phases stored slice by slice (1a 1b 2a 2b ...) give parts of one slice each: deal them out instead.
    if len(parts) > _repeats(group)[0]:
        dealt: dict[int, int] = defaultdict(int)
        parts = [[] for _ in range(_repeats(group)[0])]
        for header, place in zip(ordered, _places(ordered), strict=True):
            parts[dealt[place]].append(header)
            dealt[place] += 1
    return parts


def _describe(path: Path, group: list[Header], _groups: int) -> Series:
    first = group[0]
    spacing = (0.0, 0.0, 0.0)
    problems, notes = _problems(group)
    if first.placed is not None:
        order = np.argsort(offsets_mm([h.placed for h in group if h.placed is not None]), kind="stable")
        group = [group[i] for i in order]
        spacing = _spacing(group)
    times = sorted(h.text("AcquisitionTime") for h in group if h.text("AcquisitionTime"))
    series = Series(
        path=path,
        files=tuple(h.name for h in group),
        series_uid=first.text("SeriesInstanceUID"),
        study_uid=first.text("StudyInstanceUID"),
        description=first.text("SeriesDescription"),
        modality=first.text("Modality"),
        patient_id=first.text("PatientID"),
        study_date=first.text("StudyDate"),
        acquisition_time=times[0] if times else "",
        frame_of_reference=first.text("FrameOfReferenceUID"),
        number=first.whole("SeriesNumber"),
        acquisition=_common(group, "AcquisitionNumber"),
        rows=first.whole("Rows") or 0,
        columns=first.whole("Columns") or 0,
        slices=len(group),
        spacing_mm=spacing,
        problems=problems,
        notes=notes,
        tags={tag: first.text(tag) for tag in _PHASE_TAGS if first.text(tag)},
    )
    if problems:
        return series
    return replace(series, problems=_stack_problems(group, series.title))


def _common(group: list[Header], keyword: str) -> int | None:
    values = {h.whole(keyword) for h in group}
    return values.pop() if len(values) == 1 else None


def _spacing(group: list[Header]) -> tuple[float, float, float]:
    placed = group[0].placed
    assert placed is not None
    at = np.unique(np.round(offsets_mm([h.placed for h in group if h.placed is not None]), 3))
    step = float(np.median(np.diff(at))) if len(at) > 1 else placed.thickness_mm
    return step, placed.row_spacing_mm, placed.column_spacing_mm


def _problems(group: list[Header]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    first = group[0]
    checks: list[tuple[Callable[[], bool], str]] = [
        (lambda: first.text("Modality") != "CT", f"is {first.text('Modality') or 'of no modality'}, not CT"),
        (lambda: "LOCALIZER" in first.text("ImageType").upper(), "is a localiser (scout), not a scan"),
        (lambda: (first.whole("NumberOfFrames") or 1) > 1, "holds many frames per file; export it as single-frame CT"),
        (lambda: (first.whole("SamplesPerPixel") or 1) != 1, "is a colour picture, not a scan"),
        (lambda: len(group) < FEWEST_SLICES, f"has only {len(group)} slices, a scan has {FEWEST_SLICES} or more"),
        (lambda: any(h.placed is None for h in group), "does not say where its slices lie; export it again"),
    ]
    for failed, words in checks:
        if failed():
            return (words,), ()
    unknown = {h.syntax for h in group} - SYNTAXES.keys()
    if unknown:
        return (f"is stored in a transfer syntax that is not read ({', '.join(sorted(unknown)) or 'none named'})",), ()
    lossy = {SYNTAXES[h.syntax] for h in group if "loss" in SYNTAXES[h.syntax] and "lossless" not in SYNTAXES[h.syntax]}
    return (), tuple(f"is compressed with loss ({kind}): HU are approximate" for kind in sorted(lossy))


def _stack_problems(group: list[Header], name: str) -> tuple[str, ...]:
    placed = [h.placed for h in group if h.placed is not None]
    keep = [
        p for p, step in zip(placed, np.diff(offsets_mm(placed), prepend=-np.inf), strict=True) if step > SAME_PLACE_MM
    ]
    if len(keep) < FEWEST_SLICES:
        return (f"has only {len(keep)} slices at different places",)
    try:
        for header in group:
            check_scaling(float(header.text("RescaleSlope") or 1), float(header.text("RescaleIntercept") or 0), name)
        lattice = stack(keep, name)
        check_affine(lattice.affine_mm, lattice.shape, name)
    except UserError as error:
        return (str(error).removeprefix(f"{name}: "),)
    except ValueError:
        return ("has a slope or intercept that is not a number; export it again",)
    return ()
