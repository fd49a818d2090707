"""The folder that keeps a study: ``study.json`` names sources, roles, transform, predictions and annotations.

The scans themselves stay where they are and are known by path and hash. What is stored in the folder is named by
paths that cannot leave it. Every change is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io import dicom
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.images import read_image
from napari_multiphase.io.lock import briefly
from napari_multiphase.io.places import data_folder
from napari_multiphase.io.transforms import read_transform, write_transform
from napari_multiphase.studies.fit import report
from napari_multiphase.studies.study_file import (
    STUDY_FILE,
    VERSION,
    AnnotationEntry,
    PredictionEntry,
    ScanEntry,
    StudyFile,
    TransformEntry,
    inside,
    read_study_file,
    scan_entry,
)
from napari_multiphase.study import Finding, PhaseGuess, PhaseTransform, Study, title_of
from napari_multiphase.volume import Phase, Volume

LOCK_FILE = ".study.lock"


class Workspace:
    """A study's folder. Make one with `create` or `open`; every setter saves."""

    def __init__(self, folder: Path, state: StudyFile) -> None:
        self.folder = folder
        self._state = state

    @staticmethod
    def create(folder: Path, study: Study) -> Workspace:
        """A new workspace in `folder` (made if need be) for a study read from files.

        Raises UserError where the folder holds a study already, or a scan was never a file.
        """
        folder = Path(folder).expanduser().resolve()
        scans = {}
        for phase, volume in study.volumes.items():
            scans[phase] = scan_entry(folder, volume, study.guesses.get(phase))
        workspace = Workspace(folder, StudyFile(id=study.id, title=title_of(study), created=_now(), scans=scans))
        with contextlib.suppress(OSError):  # what is in the way is told by the write
            folder.mkdir(parents=True, exist_ok=True)
        with workspace._lock():
            if (folder / STUDY_FILE).exists():
                raise UserError(f"{folder} holds a study already: open it, or choose another folder")
            workspace._write_with(study.transform, workspace._state)
        return workspace

    @staticmethod
    def open(folder: Path) -> Workspace:
        """The workspace in `folder` (or whose ``study.json`` is named).

        Raises UserError where there is none, it is damaged, or a newer version wrote it.
        """
        folder = Path(folder).expanduser().resolve()
        folder = folder.parent if folder.name == STUDY_FILE else folder
        return Workspace(folder, read_study_file(folder / STUDY_FILE))

    @property
    def id(self) -> str:
        """The study's id."""
        return self._state.id

    @property
    def title(self) -> str:
        """What the study is called where several are listed."""
        return self._state.title or self.id

    @property
    def revision(self) -> int:
        """Grows with every change; a result for an older one is recognised by it."""
        return self._state.revision

    @property
    def predictions(self) -> tuple[PredictionEntry, ...]:
        """What was predicted and kept, oldest first."""
        return tuple(self._state.predictions)

    @property
    def annotations(self) -> dict[Phase, AnnotationEntry]:
        """The corrected labels by phase."""
        return dict(self._state.annotations)

    @property
    def transform(self) -> PhaseTransform | None:
        """The kept transform between the phases. Raises UserError where its files are gone or damaged."""
        entry = self._state.transform
        if entry is not None and entry.dense:
            return read_transform(self.resolve(entry.folder or ""))
        return None if entry is None else PhaseTransform.from_dict(entry.model_dump())

    @property
    def scans(self) -> dict[Phase, ScanEntry]:
        """Where each phase's scan lies and how to know it again."""
        return dict(self._state.scans)

    def source_path(self, phase: Phase) -> Path:
        """Where a phase's scan lies."""
        return self.folder / self._state.scans[phase].path

    def resolve(self, place: str) -> Path:
        """The full path of something stored in the study's folder; UserError where a link leads out of it."""
        try:
            path = (self.folder / inside(place)).resolve()
        except ValueError as error:
            raise UserError(str(error)) from error
        if not path.is_relative_to(self.folder):
            raise UserError(f"{place} leads out of the study's folder {self.folder}")
        return path

    def study(self, *, accept_changed: bool = False, on_event: OnEvent = ignore, cancel: Cancel | None = None) -> Study:
        """Read the scans and return the study with its kept transform and a fresh fit report.

        Raises
        ------
        UserError : a scan is gone, or its content is no longer what the study was made from (unless
            `accept_changed`, which puts a warning into the findings instead).
        """
        volumes, warnings = {}, []
        for number, (phase, entry) in enumerate(self._state.scans.items()):
            if cancel is not None:
                cancel.check()
            on_event(Event("progress", f"reading the {phase.value} scan", number / len(self._state.scans)))
            volumes[phase] = self._load(phase, entry)
            if volumes[phase].source.sha256 != entry.sha256:
                text = f"the {phase.value} scan {self.source_path(phase)} has changed since this study was made"
                if not accept_changed:
                    raise UserError(f"{text}: bring the old file back, or make a new study from it")
                warnings.append(Finding("warning", f"{text[0].upper()}{text[1:]}."))
        entries = {phase: e.guess for phase, e in self._state.scans.items() if e.guess is not None}
        guesses = {phase: PhaseGuess(**guess.model_dump()) for phase, guess in entries.items()}
        ordered = {phase: volumes[phase] for phase in Phase if phase in volumes}
        try:
            transform = self.transform
        except UserError as error:
            transform = None
            warnings.append(Finding("warning", f"The kept registration cannot be used: {error}."))
        return Study(self.id, ordered, guesses, transform, (*warnings, *report(ordered, guesses)))

    def set_transform(self, transform: PhaseTransform | None) -> None:
        """Keep (or drop) the transform between the phases, in ``study.json`` and as ITK files beside it.

        Raises UserError where someone else kept another one since this was opened.
        """
        with self._alone() as kept:
            if _same(kept.transform, transform):
                self._state = kept
            elif kept.transform == self._state.transform:
                self._write_with(transform, _next(kept))
                self._forget(kept.transform)
            else:
                raise UserError(f"{self.folder} was changed by another window or process: open the study again")

    def add_prediction(self, made: Path | str, model: str, *, notes: tuple[str, ...] = ()) -> PredictionEntry:
        """Remember the prediction in the folder `made` inside the study, which is moved to a name of its own."""
        whole = self.folder / self._relative(made)
        with self._alone() as kept:
            folder = self._free_name(model)
            entry = PredictionEntry(
                folder=self._relative(folder), model=model, created=_now(), revision=self.revision, notes=list(notes)
            )
            try:
                folder.parent.mkdir(exist_ok=True)
                whole.rename(folder)
            except OSError as error:
                raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
            try:
                self._write(_next(kept, predictions=[*kept.predictions, entry]))
            except UserError:
                folder.rename(whole)  # what nobody remembers takes no name
                raise
        return entry

    def annotation_file(self, phase: Phase) -> Path:
        """Where a phase's corrected labels lie (`annotation.Annotation`), or will."""
        entry = self._state.annotations.get(phase)
        return self.resolve(entry.file if entry else f"annotations/{phase.value}.sqlite")

    def set_annotation(self, phase: Phase, file: Path | str) -> None:
        """Remember where a phase's corrected labels lie."""
        entry = AnnotationEntry(file=self._relative(file))
        with self._alone() as kept:
            self._write(_next(kept, annotations={**kept.annotations, phase: entry}))

    def _free_name(self, model: str) -> Path:
        """Of a prediction's folder; only who is alone here may take it."""
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in model)[:40] or "model"
        number = 1
        while (self.folder / "predictions" / f"{number:03d}-{name}").exists():
            number += 1
        return self.folder / "predictions" / f"{number:03d}-{name}"

    def _forget(self, entry: TransformEntry | None) -> None:
        """Remove the files of a transform that is no longer kept."""
        if entry is not None and entry.folder is not None:
            shutil.rmtree(self.resolve(entry.folder), ignore_errors=True)

    def _relative(self, path: Path | str) -> str:
        full = (self.folder / path).resolve()
        if not full.is_relative_to(self.folder) or full == self.folder:
            raise UserError(f"{path} does not lie inside the study's folder {self.folder}: save it there first")
        return full.relative_to(self.folder).as_posix()

    def _load(self, phase: Phase, entry: ScanEntry) -> Volume:
        path = self.source_path(phase)
        if not path.exists():
            raise UserError(f"the {phase.value} scan {path} is gone: put it back, or make a new study")
        if entry.format != "dicom":
            return read_image(path)
        for series in dicom.index(path):
            if entry.names(series):
                return dicom.read_series(series)
        raise UserError(f"{path} no longer holds the {phase.value} series {entry.series_uid}: put it back")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[StudyFile]:
        """What ``study.json`` says; nobody else changes it before this ends."""
        with self._lock():
            yield read_study_file(self.folder / STUDY_FILE)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            with briefly(self.folder / LOCK_FILE):
                yield
        except TimeoutError as error:
            raise UserError(f"{self.folder} is being changed by {error}: wait for it, then try again") from error

    def _write_with(self, transform: PhaseTransform | None, state: StudyFile) -> None:
        """Write `state` with `transform`, whose files lie under the number of that revision."""
        entry = None
        if transform is not None:
            place = f"registration/{state.revision:04d}"
            entry = TransformEntry(**transform.to_dict(), folder=place, dense=transform.dense)
        try:
            if transform is not None:
                write_transform(self.resolve(place), transform)
            self._write(state.model_copy(update={"transform": entry}))
        except UserError:
            self._forget(entry)
            raise

    def _write(self, state: StudyFile) -> None:
        with atomic_path(self.folder / STUDY_FILE) as temporary:
            temporary.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self._state = state


def _next(kept: StudyFile, **values: Any) -> StudyFile:
    """The revision after `kept`, with other values."""
    merged = {**kept.model_dump(), **values, "revision": kept.revision + 1, "version": VERSION}
    return StudyFile.model_validate(merged)


def _same(entry: TransformEntry | None, transform: PhaseTransform | None) -> bool:
    return entry is None if transform is None else entry is not None and entry.is_of(transform)


def default_folder(study: Study) -> Path:
    """Where a study is kept unless the user says otherwise."""
    return data_folder() / "studies" / study.id


def keep(study: Study, folder: Path | None = None) -> Workspace:
    """The study's workspace, made if there is none yet, holding the study's transform.

    `folder` is `default_folder` unless given. Raises UserError where it belongs to another study or cannot be written.
    """
    folder = folder or default_folder(study)
    if not (folder / STUDY_FILE).exists():
        try:
            return Workspace.create(folder, study)
        except UserError:
            if not (folder / STUDY_FILE).exists():  # else another job of the same study made it just now
                raise
    workspace = Workspace.open(folder)
    if workspace.id != study.id:
        raise UserError(f"{folder} holds another study: choose another folder")
    if study.transform is not None:
        workspace.set_transform(study.transform)
    return workspace


def workspace_in(inputs: Sequence[Path]) -> Workspace | None:
    """The workspace that was opened, where `inputs` are one; a damaged one is passed over."""
    try:
        return Workspace.open(inputs[0]) if len(inputs) == 1 and (Path(inputs[0]) / STUDY_FILE).is_file() else None
    except UserError:
        return None


def recalled(study: Study, folder: Path | None = None) -> Study:
    """The study with the transform that its workspace in `folder` (the default one unless given) keeps, if there is
    one; a damaged workspace is passed over."""
    folder = folder or default_folder(study)
    if study.transform is not None or not (folder / STUDY_FILE).exists():
        return study
    try:
        workspace = Workspace.open(folder)
        fits = workspace.id == study.id and set(workspace.scans) == set(study.volumes)
        transform = workspace.transform if fits else None
    except UserError:
        return study
    return study if transform is None else study.with_transform(transform)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
