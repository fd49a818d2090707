"""Jobs only the window asks for: look at what was opened, read the chosen pair, show a registration.

What they return about scans is plain JSON, so that the window's process need not import the rooms that read files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.imaging.windows import WINDOWS_HU
from napari_multiphase.jobs.server import Context
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase, Volume

if TYPE_CHECKING:
    from napari_multiphase.studies import Loader, Scan, Workspace

THUMBNAIL_VOX = 128


def look(context: Context, inputs: Sequence[Path]) -> dict[str, Any]:
    """Everything behind `inputs`, recognised, and the study of the pair that suits best.

    Returns ``{"scans": [...], "chosen": {phase: key}, "study": Study or None, "problem": sentence}``; a pair that does
    not fit leaves the study out and says why, so that the user can choose another.
    """
    from napari_multiphase.studies import Loader, find_scans, recognise_scans
    from napari_multiphase.studies.open import best_pair
    from napari_multiphase.studies.workspace import workspace_in

    loader = Loader()
    found = find_scans(inputs, loader=loader, on_event=context.on_event, cancel=context.cancel)
    scans = recognise_scans(found, loader=loader, on_event=context.on_event, cancel=context.cancel)
    usable = [scan for scan in scans if scan.usable and scan.guess is not None]
    if not usable:
        reasons = [problem for scan in scans for problem in scan.problems]
        raise UserError(
            "; ".join(reasons[:3]) or "no CT scan was found there: open a DICOM folder, NIfTI or NRRD files"
        )
    home = workspace_in(inputs)
    chosen = (_kept_roles(home, usable) if home else {}) or best_pair(usable)
    study, problem = None, ""
    try:
        study = _study(chosen, loader, context, home)
    except UserError as error:
        problem = str(error)
    described = [_described(scan, loader) for scan in scans]
    keys = {str(phase): scan.key for phase, scan in chosen.items()}
    return {"scans": described, "chosen": keys, "study": study, "problem": problem}


def pair(context: Context, inputs: Sequence[Path], keys: Mapping[str, str]) -> Study:
    """The study of the scans with these keys, by phase."""
    from napari_multiphase.studies import Loader, find_scans

    loader = Loader()
    scans = {scan.key: scan for scan in find_scans(inputs, loader=loader, cancel=context.cancel)}
    missing = [key for key in keys.values() if key not in scans]
    if missing:
        raise UserError(f"{missing[0]}: this scan is no longer there; open the folder again")
    return _study({Phase(phase): scans[key] for phase, key in keys.items()}, loader, context)


def _kept_roles(workspace: Workspace, scans: Sequence[Scan]) -> dict[Phase, Scan]:
    """The scans in the roles that the workspace gives them; empty where one of them is not there."""
    roles = {}
    for phase, entry in workspace.scans.items():
        place = workspace.source_path(phase).resolve()
        for scan in scans:
            if scan.path == place and (scan.series is None or entry.names(scan.series)):
                roles[phase] = scan
    return roles if len(roles) == len(workspace.scans) else {}


def _study(chosen: Mapping[Phase, Scan], loader: Loader, context: Context, home: Workspace | None = None) -> Study:
    from napari_multiphase.studies import build_study, recalled

    volumes = {}
    for phase, scan in chosen.items():
        context.cancel.check()
        context.on_event(Event("progress", f"reading {scan.title}"))
        volumes[phase] = loader.load(scan)
    # A guess says why a scan got its role: one that the user gave against the guess has none.
    guesses = {p: scan.guess for p, scan in chosen.items() if scan.guess is not None and scan.guess.phase == p}
    study = build_study(volumes, guesses)
    return recalled(study, home.folder if home is not None and home.id == study.id else None)


def _described(scan: Scan, loader: Loader) -> dict[str, Any]:
    guess = scan.guess
    return {
        "key": scan.key,
        "title": scan.title,
        "kind": scan.kind,
        "usable": scan.usable,
        "shape": scan.shape,
        "spacing_mm": scan.spacing_mm,
        "time": scan.acquisition_time,
        "problems": list(scan.problems),
        "notes": list(scan.notes),
        "guess": None if guess is None else {"phase": str(guess.phase), "sure": guess.confidence, "why": guess.reason},
        "thumbnail": thumbnail(loader.load(scan)) if scan.usable else None,
    }


def thumbnail(volume: Volume) -> NDArray[np.uint8]:
    """(h, w) grey picture of the middle axial slice through the soft-tissue window, in true proportions."""
    middle = volume.data[volume.shape[0] // 2]
    size_mm = max(volume.grid.extent_mm[1:])
    step_mm = size_mm / THUMBNAIL_VOX
    rows, columns = (
        np.minimum((np.arange(max(1, int(n * s / step_mm))) * step_mm / s).astype(int), n - 1)
        for n, s in zip(middle.shape, volume.spacing_mm[1:], strict=True)
    )
    low, high = WINDOWS_HU["soft tissue"]
    grey = (middle[np.ix_(rows, columns)].astype(np.float32) - low) * (255 / (high - low))
    return np.clip(grey, 0, 255).astype(np.uint8)


def aligned(context: Context, study: Study) -> NDArray[Any]:
    """The arterial scan on the venous grid, through the study's transform: (D, H, W) in the arterial dtype."""
    from napari_multiphase.imaging.resample import resample

    arterial, venous = study.volumes[Phase.ARTERIAL], study.volumes[Phase.VENOUS]
    through = study.transform.into(Phase.ARTERIAL) if study.transform else None
    context.on_event(Event("progress", "moving the arterial scan"))
    return resample(arterial.data, arterial.grid, venous.grid, 1, through)


def centres(context: Context, labels: NDArray[np.uint8]) -> dict[str, tuple[int, int, int]]:
    """A voxel in the middle of each structure of a label map, by id as text: where the window jumps."""
    from napari_multiphase.imaging.tables import structure_table

    return {str(row.id): row.centre_vox for row in structure_table(labels, 1.0)}


WINDOW_TASKS: Mapping[str, Callable[..., Any]] = {"look": look, "pair": pair, "aligned": aligned, "centres": centres}
