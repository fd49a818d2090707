"""Label maps as DICOM segmentation objects (highdicom, BINARY) that refer to the CT series they belong to.

Codes are those of pydicom's copy of DICOM's context groups (SNOMED CT); sides are given as modifiers, as CID 7198 does.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import open_files
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.images import to_source_array
from napari_multiphase.labels import STRUCTURES, Structure, name_of
from napari_multiphase.volume import Volume

_SCT = codes.SCT
_PROPERTY: Mapping[str, tuple[Code, Code | None, Code | None]] = MappingProxyType(
    {
        "liver": (_SCT.Liver, None, None),
        "spleen": (_SCT.Spleen, None, None),
        "right kidney": (_SCT.Kidney, _SCT.Right, None),
        "left kidney": (_SCT.Kidney, _SCT.Left, None),
        "aorta": (_SCT.Aorta, None, None),
        "pancreas": (_SCT.Pancreas, None, None),
        "stomach": (_SCT.Stomach, None, None),
        "gallbladder": (_SCT.Gallbladder, None, None),
        "inferior vena cava": (_SCT.InferiorVenaCava, None, None),
        "portal and splenic vein": (_SCT.PortalVein, None, None),
        "superior mesenteric artery": (_SCT.SuperiorMesentericArtery, None, None),
        "right adrenal": (_SCT.AdrenalGland, _SCT.Right, None),
        "left adrenal": (_SCT.AdrenalGland, _SCT.Left, None),
        "oesophagus": (_SCT.Esophagus, None, None),
        "duodenum": (_SCT.Duodenum, None, None),
        "small bowel": (_SCT.SmallIntestine, None, None),
        "colon": (_SCT.Colon, None, None),
        "spine and bones": (_SCT.Bone, None, None),
        "lungs": (_SCT.Lung, None, None),
        "heart": (_SCT.Heart, None, None),
        "liver tumour": (_SCT.Neoplasm, None, _SCT.Liver),
        "pancreatic mass": (_SCT.Mass, None, _SCT.Pancreas),
        "pancreatic duct": (_SCT.PancreaticDuct, None, None),
    }
)
"""(what it is, on which side, in which organ) by the structure's name."""


_PATIENT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Patient and visit."""


def write_seg(
    path: Path,
    labels: NDArray[Any],
    volume: Volume,
    table: Mapping[int, Structure] = STRUCTURES,
    *,
    description: str = "",
    algorithm: str = "napari-multiphase",
    identified: bool = True,
    corrected: bool = False,
) -> None:
    """Write labels (D, H, W) on `volume.grid` as one DICOM SEG on the slices of the volume's series.

    One segment per label present, with the table's names and colours. Frame of reference, study and patient are the
    source's. Slices the series lacks get none; where it is uneven, each slice takes the nearest plane.

    Parameters
    ----------
    identified : keep what names patient and visit; else it is empty. The UIDs of study, series and slices stay, for
        the object refers to the images by them.
    corrected : a person worked on the labels.

    Raises
    ------
    UserError : a volume that is not from DICOM, a series that is gone or changed, no label at all, a failed write.
    """
    path = Path(path)
    if volume.source.format != "dicom":
        raise UserError(
            f"{volume.source.path.name}: a DICOM SEG needs DICOM input, this is {volume.source.format}; use nifti"
        )
    ids = [int(i) for i in np.unique(labels) if i]
    if not ids:
        raise UserError(
            f"{path.name}: there is no labelled voxel, and a DICOM SEG cannot be empty; write nifti instead"
        )
    planes = _planes(labels, volume, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # de-identified names are not worth a warning per call
        segmentation = _segmentation(planes, ids, volume, table, description, algorithm, corrected)
        if not identified:
            _forget_patient(segmentation)
    with atomic_path(path) as part:
        segmentation.save_as(part)


def _segmentation(
    planes: NDArray[np.uint8],
    ids: list[int],
    volume: Volume,
    table: Mapping[int, Structure],
    description: str,
    algorithm: str,
    corrected: bool,
) -> Any:
    segmentation = hd.seg.Segmentation(
        source_images=_source_datasets(volume),
        pixel_array=planes,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(n, i, table, algorithm, corrected) for n, i in enumerate(ids, 1)],
        series_instance_uid=hd.UID(),
        series_number=1000 + int(volume.source.header.get("series_number") or 0),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="napari-multiphase",
        manufacturer_model_name=algorithm,
        software_versions=_version(),
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=(description or "research only, not for diagnosis")[:64],
        omit_empty_frames=True,
    )
    segmentation.SeriesDescription = (description or "segmentation")[:64]
    return segmentation


def _forget_patient(segmentation: pydicom.Dataset) -> None:
    """Empty what names patient and visit, wherever it was copied from the images."""
    for keyword in _PATIENT:
        setattr(segmentation, keyword, "")
    for keyword in ("PatientAge", "PatientSize", "PatientWeight", "OtherPatientIDs", "StudyDescription"):
        if keyword in segmentation:
            delattr(segmentation, keyword)
    segmentation.PatientIdentityRemoved = "YES"
    segmentation.DeidentificationMethod = "patient and visit left empty; UIDs kept"


def _planes(labels: NDArray[Any], volume: Volume, ids: list[int]) -> NDArray[np.uint8]:
    """(stored slices, rows, columns): segment numbers from 1 in the order of `ids`."""
    numbers = np.zeros(int(max(ids)) + 1, np.uint8)
    numbers[ids] = np.arange(1, len(ids) + 1)
    planes = to_source_array(numbers[labels], volume, order=0).transpose(2, 1, 0)
    stored_k = volume.source.header.get("stored_k")
    if stored_k is not None:
        planes = planes[np.clip(np.rint(stored_k).astype(int), 0, len(planes) - 1)]
    return np.ascontiguousarray(planes)


def _source_datasets(volume: Volume) -> list[pydicom.Dataset]:
    datasets = []
    names = volume.source.header.get("files") or []
    with open_files(volume.source.path) as files:
        for name in names:
            try:
                dataset = pydicom.dcmread(io.BytesIO(files.read(name)), stop_before_pixels=True)
            except Exception as error:  # the parser raises almost anything on a damaged file
                raise UserError(f"{name}: the source slice can no longer be read; restore the series") from error
            if str(dataset.get("SeriesInstanceUID", "")) != volume.source.header.get("series_uid"):
                raise UserError(f"{name}: is not the slice it was when the scan was opened; restore the series")
            datasets.append(_complete(dataset, volume))
    return datasets


def _complete(dataset: pydicom.Dataset, volume: Volume) -> pydicom.Dataset:
    """Patient and study fields that a SEG must carry, empty where a de-identified source dropped them."""
    for keyword in _PATIENT:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = CTImageStorage  # the index lets CT through only
    for keyword in ("FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not dataset.get(keyword):
            name = volume.source.path.name
            raise UserError(f"{name}: its slices lack {keyword}, which a DICOM SEG must refer to; write nifti instead")
    return dataset


def _segment(number: int, label: int, table: Mapping[int, Structure], algorithm: str, corrected: bool) -> Any:
    structure = table.get(label)
    name = structure.name if structure else name_of(label)
    what, side, organ = _PROPERTY.get(name, (_SCT.AnatomicalStructure, None, None))
    lesion = structure is not None and structure.kind == "lesion" and organ is not None
    how = hd.seg.SegmentAlgorithmTypeValues
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=_SCT.MorphologicallyAbnormalStructure if lesion else _SCT.AnatomicalStructure,
        segmented_property_type=what,
        algorithm_type=how.SEMIAUTOMATIC if corrected else how.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm[:64], version=_version(), family=codes.cid7162.ArtificialIntelligence
        ),
        tracking_uid=hd.UID(),
        tracking_id=name[:64],
        anatomic_regions=[organ] if organ else None,
        display_color=hd.color.CIELabColor.from_rgb(*structure.colour) if structure else None,
    )
    if side is not None:
        modifier = hd.sr.CodedConcept(side.value, side.scheme_designator, side.meaning)
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return segment


def _version() -> str:
    try:
        return version("napari-multiphase")
    except PackageNotFoundError:
        return "0"
