"""All studies as a list: their scans, the state of each structure, how unsure the model was. No scan is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from napari_multiphase.errors import UserError
from napari_multiphase.io.places import data_folder
from napari_multiphase.studies.annotation import StructureState, peek
from napari_multiphase.studies.predictions import describe
from napari_multiphase.studies.study_file import STUDY_FILE, PredictionEntry
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.volume import Phase


@dataclass(frozen=True)
class CaseRow:
    """One study.

    Attributes
    ----------
    folder, id, title : of its workspace.
    scans : where each phase's scan lies; `missing` are the phases whose scan is not there any more.
    states : by phase, `StructureState` by label id; empty for a phase that nobody began to correct.
    model : of the newest prediction, or "".
    uncertainty : 1 - mean confidence (M of Eq. 3) over the voxels of all structures of that prediction; None without.
    edited : when the study was last changed, ISO time, UTC.
    problem : in words, why it cannot be opened, or what of it cannot be read; "" where all is well.
    """

    folder: Path
    id: str = ""
    title: str = ""
    scans: Mapping[Phase, Path] = field(default_factory=dict)
    missing: tuple[Phase, ...] = ()
    states: Mapping[Phase, Mapping[int, StructureState]] = field(default_factory=dict)
    model: str = ""
    uncertainty: float | None = None
    edited: str = ""
    problem: str = ""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases it has a scan of, arterial first."""
        return tuple(phase for phase in Phase if phase in self.scans)

    @property
    def state(self) -> str:
        """The whole case in a word: "new", "predicted", "corrected", or "complete" where every structure is done."""
        found = {state for states in self.states.values() for state in states.values()} - {"not annotated"}
        if found == {"complete"}:
            return "complete"
        if found & {"corrected", "complete"}:
            return "corrected"
        return "predicted" if found or self.model else "new"


def list_cases(folder: Path | None = None, also: Iterable[Path] = ()) -> list[CaseRow]:
    """The studies in `folder` (the user's studies unless given) and the workspaces `also`, last edited first.

    A study that cannot be read is listed with its `problem`.
    """
    home = data_folder() / "studies" if folder is None else Path(folder)
    try:
        found = sorted(home.iterdir()) if home.is_dir() else []
    except OSError:
        found = []
    places = dict.fromkeys(place.resolve() for place in (*found, *map(Path, also)) if (place / STUDY_FILE).is_file())
    return sorted((case_of(place) for place in places), key=lambda row: row.edited, reverse=True)


def case_of(folder: Path) -> CaseRow:
    """The row of one workspace."""
    try:
        workspace = Workspace.open(folder)
    except UserError as error:
        return CaseRow(folder, folder.name, folder.name, edited=_changed(folder / STUDY_FILE), problem=str(error))
    scans = {phase: workspace.source_path(phase) for phase in workspace.scans}
    states: dict[Phase, Mapping[int, StructureState]] = {}
    edited, problems = [_changed(workspace.folder / STUDY_FILE)], []
    for phase in workspace.annotations:
        try:
            states[phase], saved = peek(workspace.annotation_file(phase))
            edited.append(saved)
        except UserError as error:
            problems.append(str(error))
    last = workspace.predictions[-1] if workspace.predictions else None
    return CaseRow(
        folder=workspace.folder,
        id=workspace.id,
        title=workspace.title,
        scans=scans,
        missing=tuple(phase for phase, path in scans.items() if not path.exists()),
        states=states,
        model=last.model if last else "",
        uncertainty=_uncertainty(workspace, last) if last else None,
        edited=max(edited),
        problem="; ".join(problems),
    )


def _changed(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except OSError:
        return ""


def _uncertainty(workspace: Workspace, entry: PredictionEntry) -> float | None:
    try:
        structures = describe(workspace.resolve(entry.folder))["report"]["structures"]
        known = [(float(row["ml"].get("fused", 0)), row["mean_confidence"].get("fused")) for row in structures]
        total = sum(ml for ml, sure in known if sure is not None)
        return 1.0 - sum(ml * float(sure) for ml, sure in known if sure is not None) / total if total else None
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None
