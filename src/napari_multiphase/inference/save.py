"""Write what a run made, on the grids of the source files: maps or an image, and a report. All or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import write_whole
from napari_multiphase.io.images import write_on_source
from napari_multiphase.io.nifti import SYNTHETIC
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.study import Prediction, Study, Translation

REPORT_FILE = "report.json"
Format = Literal["nifti", "dicom-seg"]


def save_prediction(prediction: Prediction, study: Study, out: Path, *, format: Format = "nifti") -> list[Path]:
    """Write ``<phase>_labels``, ``<phase>_confidence``, ``fused_labels``, ``fused_confidence`` and ``report.json``.

    Maps are .nii.gz; those of a phase lie on its source's grid, the fused ones on that of
    ``prediction.fused_on``. With "dicom-seg"
    every label map is also written as DICOM SEG (``<name>_labels.dcm``); its source must be DICOM.

    Everything is written beside `out` first and moved in when complete; other files in `out` stay.

    Returns
    -------
    The files written.

    Raises
    ------
    UserError : the results belong to another study, or `out` cannot be written; nothing is left half-written.
    """
    out = Path(out)
    if prediction.study_id != study.id:
        raise UserError(f"these results belong to study {prediction.study_id}, not {study.id}; segment this one first")
    if format not in ("nifti", "dicom-seg"):
        raise UserError(f"there is no output format '{format}': choose nifti or dicom-seg")
    if format == "dicom-seg":
        _check_dicom(prediction, study)
    return write_whole(out, lambda part: _write(prediction, study, part, format))


def save_translation(translation: Translation, study: Study, out: Path) -> list[Path]:
    """Write ``synthetic_<phase>.nii.gz`` on exactly the grid of the scan it was made from, and its report, ``.json``.

    The name, the header's description and the report say that it is synthetic; opened again, it is no scan. Everything
    is written beside `out` first and moved in when complete; other files in `out` stay.

    Returns
    -------
    The files written.

    Raises
    ------
    UserError : the result belongs to another study, or `out` cannot be written; nothing is left half-written.
    """
    if translation.study_id != study.id:
        raise UserError(f"this image belongs to study {translation.study_id}, not {study.id}; translate this one first")
    return write_whole(Path(out), lambda part: _write_translation(translation, study, part))


def _write(prediction: Prediction, study: Study, part: Path, format: Format) -> list[str]:
    maps = [(phase.value, phase, p.labels, p.confidence) for phase, p in prediction.phases.items()]
    maps.append(("fused", prediction.fused_on, prediction.fused_labels, prediction.fused_confidence))
    names = []
    for name, phase, labels, confidence in maps:
        volume = study.volumes[phase]
        title = f"{name} by {prediction.model_name}"[:60]
        write_on_source(part / f"{name}_labels.nii.gz", labels, volume, kind="labels", description=title)
        write_on_source(part / f"{name}_confidence.nii.gz", confidence, volume, kind="confidence", description=title)
        names += [f"{name}_labels.nii.gz", f"{name}_confidence.nii.gz"]
        if format == "dicom-seg":
            from napari_multiphase.io.dicom_seg import write_seg

            write_seg(part / f"{name}_labels.dcm", labels, volume, STRUCTURES)
            names.append(f"{name}_labels.dcm")
    return [*names, _write_report(part / REPORT_FILE, prediction, names)]


def _write_translation(translation: Translation, study: Study, part: Path) -> list[str]:
    name = f"synthetic_{translation.to}"
    image = f"{name}.nii.gz"
    words = f"{SYNTHETIC}{translation.to} from {translation.source} by {translation.model_name}"
    volume = study.volumes[translation.source]
    write_on_source(part / image, translation.image, volume, kind="image", description=words)
    return [image, _write_report(part / f"{name}.json", translation, [image])]


def _write_report(path: Path, result: Prediction | Translation, names: list[str]) -> str:
    report = {**result.report, "notes": list(result.notes), "files": [*names, path.name]}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path.name


def _check_dicom(prediction: Prediction, study: Study) -> None:
    for phase in prediction.phases:
        source = study.volumes[phase].source
        if source.format != "dicom":
            raise UserError(
                f"{source.path.name}: DICOM SEG refers to DICOM images and the {phase} scan is {source.format}; "
                "write NIfTI instead"
            )
