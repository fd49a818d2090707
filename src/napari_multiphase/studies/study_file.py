"""What ``study.json`` holds: the scans by path and hash, the transform, predictions, annotations; checked when read."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from napari_multiphase.errors import UserError
from napari_multiphase.io import dicom
from napari_multiphase.study import PhaseGuess, PhaseTransform
from napari_multiphase.volume import Phase, Volume

STUDY_FILE = "study.json"
FORMAT = "napari-multiphase study"
VERSION = 3
"""2: the transform between the phases also lies in ITK files, where a dense one is read from. 3: a title; the states of
structures lie with the annotation."""


def _affine(rows: list[list[float]]) -> list[list[float]]:
    """Four rows of four finite numbers, the last of them 0 0 0 1."""
    shaped = len(rows) == 4 and all(len(row) == 4 and all(math.isfinite(v) for v in row) for row in rows)
    if not shaped or rows[3] != [0.0, 0.0, 0.0, 1.0]:
        raise ValueError("the transform is not a 4 x 4 matrix of points")
    return rows


def inside(text: str) -> str:
    """A relative path, with /, that stays below the folder it is relative to."""
    path = PurePosixPath(text)
    drive = len(text) > 1 and text[1] == ":"
    if not text or path.is_absolute() or drive or "\\" in text or "\0" in text or ".." in path.parts:
        raise ValueError(f"'{text}' does not stay inside the study's folder")
    return str(path)


InsidePath = Annotated[str, AfterValidator(inside)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GuessEntry(_Part):
    """A `PhaseGuess` as JSON."""

    phase: Phase
    confidence: float
    reason: str
    measures_hu: dict[str, float] = Field(default_factory=dict)


class ScanEntry(_Part):
    """Where a scan lies and how to know it again. `path` is relative to the study's folder where it lies inside."""

    path: str
    format: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    series_uid: str = ""
    acquisition_number: int | None = None
    first_file: str = ""
    guess: GuessEntry | None = None

    def names(self, series: dicom.Series) -> bool:
        """Whether a DICOM series is this scan."""
        same = series.series_uid == self.series_uid and series.acquisition == self.acquisition_number
        return same and (not self.first_file or self.first_file in series.files)


class TransformEntry(_Part):
    """A `PhaseTransform` as JSON, and where its ITK files lie (`io.transforms`), from which a dense one is read."""

    venous_to_arterial_mm: Annotated[list[list[float]], AfterValidator(_affine)]
    method: str
    quality: dict[str, Any] = Field(default_factory=dict)
    folder: InsidePath | None = None
    dense: bool = False

    def is_of(self, transform: PhaseTransform) -> bool:
        """Whether this is `transform`: a registration's figures do not come out the same twice by chance."""
        own = {name: getattr(self, name) for name in ("venous_to_arterial_mm", "method", "quality")}
        return self.dense == transform.dense and own == transform.to_dict()


class PredictionEntry(_Part):
    """One kept prediction: its folder inside the study, the model, when, of which revision of the study."""

    folder: InsidePath
    model: str
    created: str
    revision: int = 0
    notes: list[str] = Field(default_factory=list)


class AnnotationEntry(_Part):
    """The corrected labels of a phase: the file inside the study. Each structure's state lies in that file."""

    model_config = ConfigDict(extra="ignore")  # version 2 named the states here as well

    file: InsidePath


class StudyFile(_Part):
    """The whole of ``study.json``."""

    format: Literal["napari-multiphase study"] = "napari-multiphase study"
    version: int = VERSION
    id: str = Field(pattern=r"^[0-9a-f]{6,64}$")
    title: str = Field(default="", max_length=200)
    revision: int = Field(default=0, ge=0)
    created: str
    scans: dict[Phase, ScanEntry] = Field(min_length=1)
    transform: TransformEntry | None = None
    predictions: list[PredictionEntry] = Field(default_factory=list)
    annotations: dict[Phase, AnnotationEntry] = Field(default_factory=dict)


def scan_entry(folder: Path, volume: Volume, guess: PhaseGuess | None) -> ScanEntry:
    """Where the scan of a study in `folder` lies. Raises UserError where it was never a file."""
    source = volume.source
    if source.format == "memory" or not source.sha256:
        raise UserError(f"{source.path} was never read from a file: save the scan first, then make a study of it")
    path = Path(source.path).resolve()
    header = source.header
    return ScanEntry(
        path=path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path),
        format=source.format,
        sha256=source.sha256,
        series_uid=str(header.get("series_uid") or ""),
        acquisition_number=header.get("acquisition_number"),
        first_file=str((header.get("files") or [""])[0]),
        guess=None if guess is None else GuessEntry(**vars(guess)),
    )


def read_study_file(path: Path) -> StudyFile:
    """The study file at `path`. Raises UserError where there is none, it is damaged, or a newer version wrote it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not path.parent.exists():
            raise UserError(f"{path.parent}: there is no such folder; check the name") from error
        raise UserError(f"{path.parent} holds no {STUDY_FILE}: give a folder that a study was saved in") from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged and cannot be read: restore it from a copy, or make a new study") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path} was not written by this program: choose a study's folder")
    if not isinstance(data.get("version"), int) or data["version"] > VERSION:
        raise UserError(f"{path} was written by a newer version of this program: update it to open the study")
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} is damaged ({where}: {first['msg']}): restore it from a copy") from error
