"""From files to a study: which scans there are, which phase each shows, whether they fit, the folder that keeps it."""

from napari_multiphase.studies.fit import report
from napari_multiphase.studies.open import build_study, open_study, recognise_scans
from napari_multiphase.studies.phases import recognise
from napari_multiphase.studies.scans import Loader, Scan, find_scans
from napari_multiphase.studies.workspace import Workspace, default_folder, keep, recalled

__all__ = [
    "Loader",
    "Scan",
    "Workspace",
    "build_study",
    "default_folder",
    "find_scans",
    "keep",
    "open_study",
    "recalled",
    "recognise",
    "recognise_scans",
    "report",
]
