"""What lies behind the paths a user gives: every scan there is, and what is no scan with the reason in words."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io import dicom
from napari_multiphase.io.images import format_of, is_synthetic, read_image
from napari_multiphase.studies.study_file import STUDY_FILE
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import PhaseGuess
from napari_multiphase.volume import Volume

ScanKind = Literal["dicom", "image", "labels", "field", "confidence", "synthetic", "unreadable"]

SMALLEST_SLICES = 5
"""Fewer are a localiser or a test slice."""
KEPT_VOLUMES = 6
MOST_IMAGES = 30
MOST_LABELS = 120

_NAMED: tuple[tuple[ScanKind, str], ...] = (
    ("field", r"\b(motion|displacement|deformation|warp|dvf|velocity)\b"),
    ("confidence", r"\b(confidence|probabilit(y|ies)|probs?|uncertainty|softmax)\b"),
    ("labels", r"\b(labels?|seg|segs|segmentations?|masks?|annotations?|gt|ground ?truth)\b"),
    ("synthetic", r"\bsynthetic\b"),
)
_NAMES = {
    "labels": "label map",
    "field": "displacement field",
    "confidence": "confidence map",
    "synthetic": "synthetic image",
}


@dataclass(frozen=True)
class Scan:
    """One thing that was found.

    Attributes
    ----------
    key : unique among the scans of one search, stable between searches.
    kind : "dicom" and "image" are scans; the others are listed with the reason in `problems`.
    title : for a person.
    path : the file, or the DICOM folder or zip.
    series : of a DICOM scan.
    shape, spacing_mm : (D, H, W) slices, rows, columns as stored and their distances; of an image, canonical.
    guess : the phase, once it was recognised.
    reach_mm : lowest and highest point along the body (LPS z), once it was read.
    problems : in sentences, why this cannot be segmented; empty where it can.
    notes : in sentences, what the user should know all the same.
    """

    key: str
    kind: ScanKind
    title: str
    path: Path
    series: dicom.Series | None = None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    patient_id: str = ""
    study_date: str = ""
    acquisition_time: str = ""
    guess: PhaseGuess | None = None
    reach_mm: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it is a scan that can be opened."""
        return self.kind in ("dicom", "image") and not self.problems


@dataclass
class Loader:
    """Reads scans and keeps the last few, so that looking at a scan and opening it reads the file once."""

    _kept: dict[str, Volume] = field(default_factory=dict)

    def load(self, scan: Scan) -> Volume:
        """The scan's volume; raises UserError where it cannot be read."""
        if scan.key not in self._kept:
            volume = dicom.read_series(scan.series) if scan.series is not None else read_image(scan.path)
            self.keep(scan.key, volume)
        return self._kept[scan.key]

    def keep(self, key: str, volume: Volume) -> None:
        """Remember a volume, forgetting the oldest beyond a few."""
        self._kept[key] = volume
        while len(self._kept) > KEPT_VOLUMES:
            del self._kept[next(iter(self._kept))]


def find_scans(
    inputs: Sequence[Path],
    *,
    loader: Loader | None = None,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> list[Scan]:
    """Everything behind `inputs`: DICOM folders (whole trees), zips, folders of images, single images, workspaces.

    DICOM is listed from its headers. Image files are looked into, as a label map can bear any name. The order is the
    inputs', then by name.

    Raises
    ------
    UserError : an input is not there or cannot be read at all, or a folder holds more images than one study can.
    """
    loader = loader or Loader()
    found: dict[str, Scan] = {}
    for given in inputs:
        path = Path(given).expanduser().resolve()
        if not path.exists():
            raise UserError(f"{given}: there is no such file or folder; check the name")
        on_event(Event("progress", f"looking into {path.name}"))
        for scan in _behind(path, loader, on_event, cancel):
            found.setdefault(scan.key, scan)
    return list(found.values())


def with_guess(scan: Scan, guess: PhaseGuess, volume: Volume) -> Scan:
    """The scan with its phase, and with where it lies and how fine it is."""
    low = volume.grid.origin_mm[0] - 0.5 * volume.spacing_mm[0]
    reach = (low, low + volume.grid.extent_mm[0])
    return replace(scan, guess=guess, reach_mm=reach, spacing_mm=volume.spacing_mm)


def as_named(scan: Scan) -> Scan:
    """A synthetic image that the user named for a phase outright is taken for it; the fit report says what it is."""
    return replace(scan, kind="image", problems=()) if scan.kind == "synthetic" else scan


def _behind(path: Path, loader: Loader, on_event: OnEvent, cancel: Cancel | None) -> Iterator[Scan]:
    if path.is_file() and format_of(path) is not None:
        yield _image_scan(path, loader)
        return
    if (path / STUDY_FILE).is_file():
        yield from _kept_scans(path, loader)
        return
    images = _images_below(path) if path.is_dir() else []
    if len(images) > MOST_IMAGES:
        raise UserError(f"{path} holds {len(images)} images: give the folder of one patient, or the two files")
    for image in images:
        if cancel is not None:
            cancel.check()
        on_event(Event("progress", f"looking at {image.name}"))
        yield _image_scan(image, loader)
    try:
        series = dicom.index(path)
    except UserError:
        if not images:
            raise
        series = []
    if path.is_file() and not series and not zipfile.is_zipfile(path):
        raise UserError(f"{path.name} is not an image: give a DICOM folder or zip, NIfTI, NRRD or MetaImage")
    for one in series:
        yield _dicom_scan(one)


def _kept_scans(folder: Path, loader: Loader) -> Iterator[Scan]:
    """The sources of a workspace; its own label maps and predictions are no scans."""
    workspace = Workspace.open(folder)
    for phase, entry in workspace.scans.items():
        path = workspace.source_path(phase).resolve()
        if not path.exists():
            problem = f"the {phase.value} scan {path} is gone: put it back, or make a new study"
            yield Scan(str(path), "unreadable", path.name, path, problems=(problem,))
        elif entry.format != "dicom":
            yield as_named(_image_scan(path, loader))
        else:
            yield from (_dicom_scan(series) for series in dicom.index(path) if entry.names(series))


def _images_below(folder: Path) -> list[Path]:
    """Image files in the folder and one level down, hidden ones left out."""
    below = []
    for place, folders, files in os.walk(folder):
        if Path(place) != folder:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below += [Path(place, name) for name in sorted(files) if not name.startswith(".") and format_of(Path(name))]
    return below


def _dicom_scan(series: dicom.Series) -> Scan:
    problems = [f"{series.path.name}, {series.title}: {words}" for words in series.problems]
    if not problems and series.slices < SMALLEST_SLICES:
        problems.append(f"{series.title} has {series.slices} slices: a localiser or a test, not a scan")
    return Scan(
        key=f"{series.path}::{series.series_uid}::{series.files[0] if series.files else series.acquisition}",
        kind="dicom",
        title=series.title,
        path=series.path,
        series=series,
        shape=(series.slices, series.rows, series.columns),
        spacing_mm=series.spacing_mm,
        patient_id=series.patient_id,
        study_date=series.study_date,
        acquisition_time=series.acquisition_time,
        problems=tuple(problems),
        notes=series.notes,
    )


def _image_scan(path: Path, loader: Loader) -> Scan:
    named = kind_by_name(path.name)
    bare = Scan(key=str(path), kind=named or "image", title=path.name, path=path)
    if named in ("field", "synthetic"):
        return replace(bare, problems=(f"{path.name} is a {_NAMES[named]}, not a scan",))
    try:
        volume = loader.load(bare)
    except UserError as error:
        return replace(bare, kind="unreadable", problems=(str(error),))
    kind = "synthetic" if is_synthetic(volume.source) else kind_by_content(volume, named)
    scan = replace(bare, kind=kind, shape=volume.shape, spacing_mm=volume.spacing_mm)
    if kind != "image":
        return replace(scan, problems=(f"{path.name} is a {_NAMES[kind]}, not a scan",))
    if min(volume.shape) < SMALLEST_SLICES:
        shape = " x ".join(str(n) for n in volume.shape)
        return replace(scan, problems=(f"{path.name} has {shape} voxels: too thin for a scan",))
    notes = [f"{path.name} is named like a {_NAMES[named]} but holds an image"] if named else []
    if float(np.min(volume.data[volume.shape[0] // 2])) > -200:
        notes.append(f"{path.name} shows no air (nothing below -200): are its values HU?")
    return replace(scan, notes=(*bare.notes, *notes))


def kind_by_name(name: str) -> ScanKind | None:
    """What a file name claims beyond "image": label map, field, confidence, synthetic; None where it claims nothing."""
    plain = re.sub(r"[\W_\d]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower()
    return next((kind for kind, pattern in _NAMED if re.search(pattern, plain)), None)


def kind_by_content(volume: Volume, named: ScanKind | None) -> ScanKind:
    """What the values are: few whole numbers from 0 up are labels and CT is an image, whatever the name."""
    d, h, w = volume.shape
    sample = volume.data[:: max(1, d // 40), :: max(1, h // 256), :: max(1, w // 256)]
    low, high = float(np.min(sample)), float(np.max(sample))
    if low < 0:
        return "image"
    if named == "confidence" and high <= 255:
        return "confidence"
    whole = sample.dtype.kind in "iub" or bool(np.array_equal(sample, np.rint(sample)))
    if whole and len(np.unique(sample)) <= MOST_LABELS:
        return "labels"
    return "confidence" if high <= 1.0 else "image"
