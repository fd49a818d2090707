"""A volume as a CT series that other readers open (CT Image Storage, explicit little endian)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.geometry import AIR_HU
from napari_multiphase.volume import Phase, Volume

DELAY_S = {Phase.ARTERIAL: 32.0, Phase.VENOUS: 65.0}
"""Usual time from the start of the injection to the scan."""

_NUMBER = {Phase.ARTERIAL: 3, Phase.VENOUS: 4}

_SOFTWARE = "napari-multiphase"


def series_uids(*entropy: str) -> tuple[str, str]:
    """(study, frame of reference) UIDs, the same for the same text."""
    study = generate_uid(entropy_srcs=[_SOFTWARE, "study", *entropy])
    return str(study), str(generate_uid(entropy_srcs=[_SOFTWARE, "frame", *entropy]))


def write_series(
    folder: Path,
    volume: Volume,
    *,
    phase: Phase,
    patient_id: str,
    study_uid: str,
    frame_of_reference_uid: str,
    injection_start: str = "20260101100000",
    patient_name: str = "",
    description: str = "",
) -> None:
    """Write `volume` (HU) as one CT series, a file per slice, into `folder` (replaced whole).

    Slices run along the canonical z axis; the grid must be the volume's canonical one. Contrast and time tags are those
    of `phase`: the injection starts at `injection_start` (YYYYMMDDHHMMSS), the scan `DELAY_S` later. UIDs follow from
    the study's UID and the phase alone, so the same study gives the same files.

    Raises
    ------
    UserError : where the folder cannot be written or the values are no HU.
    """
    if volume.data.min() < -32768 or volume.data.max() > 32767:
        raise UserError(f"{folder}: values beyond 16 bits cannot be written as CT; check the volume's units")
    series_uid = str(generate_uid(entropy_srcs=[_SOFTWARE, "series", study_uid, str(phase)]))
    start = datetime.strptime(injection_start, "%Y%m%d%H%M%S")
    stored = np.rint(np.asarray(volume.data)).astype(np.int16)
    with atomic_folder(Path(folder)) as part:
        for k in range(volume.shape[0]):
            dataset = _slice(volume, k, stored[k], series_uid, study_uid, frame_of_reference_uid)
            _describe(dataset, phase, patient_id, patient_name, description or f"abdomen {phase}", start)
            dataset.save_as(part / f"{phase}_{k + 1:04d}.dcm", enforce_file_format=True)


def _slice(
    volume: Volume, k: int, stored: NDArray[np.int16], series_uid: str, study_uid: str, frame_uid: str
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[_SOFTWARE, "instance", series_uid, str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    sz, sy, sx = volume.spacing_mm
    oz, oy, ox = volume.grid.origin_mm
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study_uid, series_uid, frame_uid
    ds.PositionReferenceIndicator = ""
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = [_decimal(v) for v in (ox, oy, oz + k * sz)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation = _decimal(oz + k * sz)
    ds.SliceThickness = ds.SpacingBetweenSlices = _decimal(sz)
    ds.PixelSpacing = [_decimal(sy), _decimal(sx)]
    ds.Rows, ds.Columns = volume.shape[1], volume.shape[2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 400
    ds.PixelData = stored.astype("<i2").tobytes()
    return ds


def _decimal(value: float) -> str:
    """At most 16 characters, as DICOM's decimal strings allow."""
    return str(pydicom.valuerep.DSfloat(float(value), auto_format=True))


def _describe(
    ds: FileDataset, phase: Phase, patient_id: str, patient_name: str, description: str, start: datetime
) -> None:
    scan = start + timedelta(seconds=DELAY_S[phase])
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", _SOFTWARE, "phantom"
    ds.SoftwareVersions = _SOFTWARE
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = patient_name or patient_id, patient_id, "", ""
    ds.PatientPosition = "HFS"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription = "two-phase abdomen"
    ds.SeriesDescription, ds.ProtocolName, ds.BodyPartExamined = description[:64], "two-phase abdomen", "ABDOMEN"
    ds.SeriesNumber = ds.AcquisitionNumber = _NUMBER[phase]
    ds.StudyDate = start.strftime("%Y%m%d")
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = scan.strftime("%Y%m%d")
    ds.StudyTime = start.strftime("%H%M%S.%f")
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = scan.strftime("%H%M%S.%f")
    ds.ContrastBolusAgent, ds.ContrastBolusRoute = "iodinated contrast medium", "IV"
    ds.ContrastBolusStartTime = start.strftime("%H%M%S.%f")
    ds.KVP, ds.ConvolutionKernel = "120", "STANDARD"
    ds.PixelPaddingValue = int(AIR_HU)
