"""What a folder or zip of DICOM holds, from headers alone: one `Series` per acquisition."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files, open_files
from napari_multiphase.io.dicom_acquisitions import acquisitions, by_series
from napari_multiphase.io.dicom_header import PHASE_TAGS, SYNTAXES, Damaged, Header, is_dicom, read_header
from napari_multiphase.io.dicom_stack import SAME_PLACE_MM, offsets_mm, stack
from napari_multiphase.io.geometry import check_affine
from napari_multiphase.io.values import check_scaling, check_steps

FEWEST_SLICES = 5
_UNPLACED = "does not say where its slices lie (position, orientation or spacing is missing or impossible)"
_SCALING = (("RescaleSlope", "1"), ("RescaleIntercept", "0"))


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
        """A name for a person, what tells two apart first: "series 4, acq. 2, LIVER 3 PHASE"."""
        parts = [f"series {self.number}" if self.number is not None else "series"]
        parts += [f"acq. {self.acquisition}"] if self.acquisition is not None else []
        parts += [self.description] if self.description else []
        return ", ".join(parts)

    def __reduce__(self) -> Any:
        values = {**self.__dict__, "tags": dict(self.tags)}
        return _series, (values,)


def _series(values: dict[str, Any]) -> Series:
    return Series(**values)


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
        if path.suffix.lower() == ".zip":
            raise UserError(f"{path.name}: is not a readable zip; copy or download it again")
        if not is_dicom(path):
            return []
        path, only = path.parent, path.name
    with open_files(path) as files:
        headers, damaged = _headers(files)
    groups = [part for group in by_series(headers) for part in acquisitions(group)]
    found = [_describe(path, group) for group in groups]
    if damaged:
        words = (
            f"{len(damaged)} DICOM file{'s' * (len(damaged) != 1)} here cannot be read ({damaged[0]}): copy them again"
        )
        if not found:
            raise UserError(f"{path}: {words}")
        found = [replace(s, notes=(*s.notes, words)) for s in found]
    if only is not None:
        found = [s for s in found if only in s.files]
    return sorted(
        found, key=lambda s: (s.patient_id, s.number is None, s.number or 0, s.acquisition or 0, s.series_uid)
    )


def _headers(files: Files) -> tuple[list[Header], list[str]]:
    """The headers of all DICOM images, and the names of the DICOM files that are damaged."""
    headers, damaged = [], []
    for name in files.names():
        try:
            header = read_header(files, name)
        except Damaged:
            damaged.append(name)
            continue
        if header is not None:
            headers.append(header)
    return headers, damaged


def _describe(path: Path, group: list[Header]) -> Series:
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
        tags={tag: first.text(tag) for tag in PHASE_TAGS if first.text(tag)},
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
        (lambda: len(group) < FEWEST_SLICES, f"has too few slices ({len(group)}), a scan has {FEWEST_SLICES} or more"),
        (
            lambda: any(h.placed is None for h in group),
            _UNPLACED,
        ),
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
        return (f"has too few slices at different places ({len(keep)}), a scan has {FEWEST_SLICES} or more",)
    try:
        for header in group:
            slope, intercept = (header.text(k) or default for k, default in _SCALING)
            check_scaling(float(slope), float(intercept), name)
            check_steps(float(slope), name)
        lattice = stack(keep, name)
        check_affine(lattice.affine_mm, lattice.shape, name)
    except UserError as error:
        return (str(error).removeprefix(f"{name}: "),)
    except ValueError:
        return ("has a slope or intercept that is not a number; export it again",)
    return ()
