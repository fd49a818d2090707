"""From files to a study: which scans there are, which phase each shows, whether they fit, the folder that keeps it.

Names are bound when first asked for, so that the window can use `studies.annotation` without the rooms that read scans.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_multiphase.studies.annotation import Annotation, StructureState
    from napari_multiphase.studies.cases import CaseRow, list_cases
    from napari_multiphase.studies.fit import report
    from napari_multiphase.studies.open import build_study, open_study, recognise_scans
    from napari_multiphase.studies.phases import recognise
    from napari_multiphase.studies.scans import Loader, Scan, find_scans
    from napari_multiphase.studies.workspace import Workspace, default_folder, keep, recalled

_HOMES = {
    "annotation": ("Annotation", "StructureState"),
    "cases": ("CaseRow", "list_cases"),
    "fit": ("report",),
    "open": ("build_study", "open_study", "recognise_scans"),
    "phases": ("recognise",),
    "scans": ("Loader", "Scan", "find_scans"),
    "workspace": ("Workspace", "default_folder", "keep", "recalled"),
}

__all__ = [
    "Annotation",
    "CaseRow",
    "Loader",
    "Scan",
    "StructureState",
    "Workspace",
    "build_study",
    "default_folder",
    "find_scans",
    "keep",
    "list_cases",
    "open_study",
    "recalled",
    "recognise",
    "recognise_scans",
    "report",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
