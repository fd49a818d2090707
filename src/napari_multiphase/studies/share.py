"""A study for others: labels, names, transform, report, as files in a folder or one zip, without the patient."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io.atomic import atomic_path, write_whole
from napari_multiphase.io.html import version_of
from napari_multiphase.io.images import is_synthetic, write_on_source
from napari_multiphase.io.label_tables import write_label_tables
from napari_multiphase.io.transforms import write_transform
from napari_multiphase.labels import name_of
from napari_multiphase.studies.identity import Identity
from napari_multiphase.studies.share_report import REPORT_FILE, report_page
from napari_multiphase.studies.shared import Shared, ids_of, state_of
from napari_multiphase.volume import Phase

FACTS_FILE = "share.json"
README_FILE = "README.txt"
FORMAT = "napari-multiphase export"
VERSION = 1
RESEARCH_ONLY = "Research software, not a medical device."
Format = Literal["nifti", "dicom-seg"]
_STEPS = 5


def share_study(
    shared: Shared,
    out: Path,
    *,
    format: Format = "nifti",
    identified: bool = False,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> list[Path]:
    """Write everything about `shared` but the scans into the folder `out`, or the zip where it ends in .zip.

    Parameters
    ----------
    format : label maps as NIfTI on the scans' own grids, or as DICOM SEG that refer to the scans' slices.
    identified : keep paths, names of files and what the scans' headers say of the patient; without it none of that
        is in any file, but the UIDs by which a DICOM SEG refers to its images.

    Returns
    -------
    The files written: of a zip, itself.

    Raises
    ------
    UserError : no DICOM where DICOM SEG is asked for, or `out` cannot be written; nothing is left half-written.
    """
    out = Path(out)
    _check(shared, format)
    if not identified:
        shared = _without_patient(shared, Identity(shared.study, *shared.folders))
    writer = _Writer(shared, format, identified, on_event, cancel or Cancel())
    if out.suffix.lower() != ".zip":
        return write_whole(out, writer.write)
    with tempfile.TemporaryDirectory(prefix="multiphase-") as folder, atomic_path(out) as part:
        names = writer.write(Path(folder))
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                packed = name.endswith((".nii.gz", ".dcm", ".h5"))
                archive.write(Path(folder) / name, name, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)
    return [out]


def _check(shared: Shared, format: Format) -> None:
    for phase in shared.phases:
        source = shared.study.volumes[phase].source
        if format == "dicom-seg" and source.format != "dicom":
            raise UserError(
                f"{source.path.name}: DICOM SEG refers to DICOM images and the {phase} scan is {source.format}; choose "
                "nifti"
            )


def _without_patient(shared: Shared, identity: Identity) -> Shared:
    """Every sentence that goes out, without what names the patient."""
    study = shared.study
    findings = tuple(replace(f, text=str(identity.without(f.text))) for f in study.findings)
    transform = study.transform
    if transform is not None:
        transform = replace(transform, quality=identity.without(dict(transform.quality)))
    study = replace(study, findings=findings, transform=transform)
    notes, model = identity.sentences(shared.notes), identity.without(dict(shared.model))
    return replace(shared, study=study, notes=notes, model=model)


class _Writer:
    def __init__(self, shared: Shared, format: Format, identified: bool, on_event: OnEvent, cancel: Cancel) -> None:
        self._shared, self._format, self._identified = shared, format, identified
        self._on_event, self._cancel, self._done = on_event, cancel, 0

    def _step(self, words: str) -> None:
        self._cancel.check()
        self._on_event(Event("progress", words, self._done / _STEPS))
        self._done += 1

    def write(self, part: Path) -> list[str]:
        """Everything, into the empty folder `part`; returns the names."""
        self._done = 0
        shared, study = self._shared, self._shared.study
        maps: dict[str, str] = {}
        for phase, labels in shared.phases.items():
            self._step(f"writing the {phase} labels")
            maps |= self._write_map(part, str(phase), phase, labels.labels, labels.corrected)
            if labels.reviewed is not None:
                name = f"{phase}_reviewed.nii.gz"
                reviewed = labels.reviewed.astype(np.uint8)
                write_on_source(part / name, reviewed, study.volumes[phase], kind="labels", description="reviewed")
                maps[name] = f"1 where a person changed a {phase} label or looked at it"
        if shared.fused is not None:
            home, fused = shared.fused
            maps |= self._write_map(part, "fused", home, fused, False)
        tables = write_label_tables(part, ids_of(shared))
        files = {**maps, **dict(zip(tables, _TABLES, strict=True))}
        if study.transform is not None and len(study.phases) > 1:
            files |= {path.name: _TRANSFORMS[path.name] for path in write_transform(part, study.transform)}
        self._step("drawing the report")
        text, figures = report_page(shared, files, self._on_slice)
        (part / REPORT_FILE).write_text(text, encoding="utf-8")
        files = {REPORT_FILE: "pictures, volumes, states and figures; open it in a browser, print it there", **files}
        files[FACTS_FILE] = "the same facts for a program"
        (part / FACTS_FILE).write_text(json.dumps(self._facts(files, figures), indent=2) + "\n", encoding="utf-8")
        (part / README_FILE).write_text(_readme(files), encoding="utf-8")
        return [*files, README_FILE]

    def _on_slice(self, share: float) -> None:
        self._cancel.check()
        self._on_event(Event("progress", "drawing the report", (self._done - 1 + share) / _STEPS))

    def _write_map(
        self, part: Path, title: str, phase: Phase, labels: NDArray[np.uint8], corrected: bool
    ) -> dict[str, str]:
        volume = self._shared.study.volumes[phase]
        model = str(self._shared.model.get("name") or "")
        by = "corrected by a person" if corrected else f"by {model}" if model else "predicted"
        words = f"labels of the {title} scan, {by}" if title != "fused" else f"labels of both phases together, {by}"
        if self._format == "dicom-seg" and labels.any():
            from napari_multiphase.io.dicom_seg import write_seg

            name = f"{title}_labels.dcm"
            algorithm = model or "napari-multiphase"
            write_seg(
                part / name, labels, volume, description=f"{title} labels", algorithm=algorithm,
                identified=self._identified, corrected=corrected,
            )  # fmt: skip
            return {name: f"{words}; DICOM SEG"}
        name = f"{title}_labels.nii.gz"
        write_on_source(part / name, labels, volume, kind="labels", description=f"{title} labels, {by}"[:79])
        return {name: f"{words}, on the grid of the {phase} scan"}

    def _facts(self, files: Mapping[str, str], figures: list[dict[str, Any]]) -> dict[str, Any]:
        shared, study = self._shared, self._shared.study
        phases = {}
        for phase, labels in shared.phases.items():
            source = study.volumes[phase].source
            phases[str(phase)] = {
                "corrected": labels.corrected,
                "states": {str(label): state_of(labels, label) for label in ids_of(shared)},
                "scan_sha256": source.sha256,
                "synthetic": is_synthetic(source),
                "grid": study.volumes[phase].grid.to_dict(),
                **({"scan": str(source.path)} if self._identified else {}),
            }
        return {
            "format": FORMAT,
            "version": VERSION,
            "program": f"napari-multiphase {version_of('napari-multiphase')}",
            "study": study.id,
            "phases": phases,
            "structures": figures,
            "labels": {str(label): name_of(label) for label in ids_of(shared)},
            "model": dict(shared.model),
            "transform": None if study.transform is None else study.transform.to_dict(),
            "findings": [{"level": finding.level, "text": finding.text} for finding in study.findings],
            "notes": list(shared.notes),
            "files": dict(files),
            "note": RESEARCH_ONLY,
        }


_TABLES = (
    "names, colours and groups of the labels",
    "the same for ITK-SNAP (Segmentation > Import label descriptions)",
    "the same for 3D Slicer (drop it on the window, then choose it as the labels' colours)",
)
_TRANSFORMS = {
    "arterial_to_venous.h5": "ITK transform that resamples the arterial image onto the venous grid (LPS mm)",
    "venous_to_arterial.h5": "its inverse",
    "registration.json": "how the phases were brought together, with figures",
}


def _readme(files: Mapping[str, str]) -> str:
    width = max(map(len, files))
    lines = [f"{name.ljust(width)}  {words}" for name, words in files.items()]
    return "\n".join(["A two-phase CT study, exported by napari-multiphase. " + RESEARCH_ONLY, "", *lines]) + "\n"
