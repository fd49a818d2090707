"""DICOM SEG: other readers find our labels where we put them, and it is refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from napari_multiphase.errors import UserError
from napari_multiphase.io.dicom import index, read_series, series_uids, write_series
from napari_multiphase.io.dicom_seg import write_seg
from napari_multiphase.io.images import read_labels
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.volume import Phase, Volume


def scan(folder: Path, missing: tuple[int, ...] = ()) -> Volume:
    data = np.random.default_rng(0).integers(-1000, 1000, (8, 16, 20)).astype(np.int16)
    study, frame = series_uids("seg")
    volume = Volume.from_array(data, (2.5, 0.7, 0.8), (-10.0, 5.0, 20.0))
    write_series(folder, volume, phase=Phase.VENOUS, patient_id="P", study_uid=study, frame_of_reference_uid=frame)
    names = sorted(folder.glob("*.dcm"))
    for number in missing:
        names[number].unlink()
    return read_series(index(folder)[0])


def labels_like(volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.shape, np.uint8)
    labels[1:4, 2:9, 3:12] = 1
    labels[2:4, 4:6, 5:7] = 21
    labels[3:7, 10:15, 14:19] = 3
    labels[5, 3, 3] = 23
    return labels


def voxels_mm(segmentation: hd.seg.Segmentation) -> dict[str, np.ndarray]:
    """LPS positions of each segment's voxels, sorted, from the frames' own positions."""
    found: dict[str, list[np.ndarray]] = {}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    for frame, group in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        holder = group if "SegmentIdentificationSequence" in group else shared  # one segment alone is shared
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        r, c = np.nonzero(frame)
        points = position + np.outer(c * spacing[1], row) + np.outer(r * spacing[0], column)
        found.setdefault(segmentation.SegmentSequence[number - 1].SegmentLabel, []).append(points)
    return {name: np.unique(np.round(np.concatenate(points), 3), axis=0) for name, points in found.items()}


@pytest.mark.parametrize("missing", [(), (3,), (2, 3)])
def test_every_voxel_lies_where_it_was_labelled(tmp_path: Path, missing: tuple[int, ...]) -> None:
    volume = scan(tmp_path / "ct", missing)
    labels = labels_like(volume)
    write_seg(tmp_path / "labels.dcm", labels, volume, STRUCTURES)
    segmentation = hd.seg.segread(tmp_path / "labels.dcm")
    present = np.ones(volume.shape[0], bool)
    present[list(missing)] = False
    worst = 0.0
    for name, points in voxels_mm(segmentation).items():
        (label,) = [s.id for s in STRUCTURES.values() if s.name == name]
        index_zyx = np.argwhere((labels == label) & present[:, None, None])
        wanted = index_zyx[:, ::-1] * np.array(volume.spacing_mm[::-1]) + np.array(volume.grid.origin_mm[::-1])
        wanted = np.unique(np.round(wanted, 3), axis=0)
        assert wanted.shape == points.shape
        worst = max(worst, float(np.abs(wanted - points).max()))
    print(f"DICOM SEG with missing slices {missing}: worst error {worst:.1e} mm")
    assert worst < 2e-3


def test_it_refers_to_its_series_and_names_its_segments(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    write_seg(tmp_path / "labels.dcm", labels_like(volume), volume)
    source = pydicom.dcmread(sorted((tmp_path / "ct").glob("*.dcm"))[0])
    segmentation = hd.seg.segread(tmp_path / "labels.dcm")
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID"):
        assert segmentation[keyword].value == source[keyword].value
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert [s.SegmentLabel for s in segmentation.SegmentSequence] == [
        "liver",
        "right kidney",
        "liver tumour",
        "pancreatic duct",
    ]
    kidney = segmentation.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert (kidney.CodeValue, kidney.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    tumour = segmentation.get_segment_description(3)
    assert tumour.anatomic_regions[0].meaning == "Liver"
    colour = hd.color.CIELabColor.from_dicom_value(segmentation.SegmentSequence[0].RecommendedDisplayCIELabValue)
    assert np.abs(np.subtract(colour.to_rgb(), STRUCTURES[1].colour)).max() <= 2


def test_every_structure_of_the_table_has_a_code_of_its_own(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    labels = np.zeros(volume.shape, np.uint8)
    labels[2].flat[: len(STRUCTURES)] = list(STRUCTURES)
    write_seg(tmp_path / "all.dcm", labels, volume)
    codes = []
    for segment in hd.seg.segread(tmp_path / "all.dcm").SegmentSequence:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        side = kind.get("SegmentedPropertyTypeModifierCodeSequence")
        codes.append((kind.CodeValue, side[0].CodeValue if side else ""))
    assert len(set(codes)) == len(STRUCTURES)
    assert "91723000" not in [code for code, _ in codes]  # "anatomical structure": the stopgap for foreign labels


def test_what_cannot_be_a_segmentation_is_refused(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    with pytest.raises(UserError, match="no labelled voxel"):
        write_seg(tmp_path / "a.dcm", np.zeros(volume.shape, np.uint8), volume)
    memory = Volume.from_array(np.ones((3, 4, 5), np.int16), (1, 1, 1))
    with pytest.raises(UserError, match="needs DICOM input"):
        write_seg(tmp_path / "a.dcm", np.ones(memory.shape, np.uint8), memory)
    for path in (tmp_path / "ct").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.save_as(path)
    with pytest.raises(UserError, match="not the slice it was"):
        write_seg(tmp_path / "a.dcm", labels_like(volume), volume)
    assert not (tmp_path / "a.dcm").exists()


@pytest.mark.real_ct
def test_the_reading_of_positions_agrees_with_a_foreign_segmentation(real_data: Path) -> None:
    """The helper above, checked on a SEG by dcmqi against the NRRD it was made from."""
    folder = real_data / "dicom_seg"
    mine = voxels_mm(hd.seg.segread(folder / "liver.dcm"))
    image = sitk.ReadImage(str(folder / "liver_seg.nrrd"))
    index_zyx = np.argwhere(sitk.GetArrayFromImage(image))
    theirs = np.array(
        [image.TransformIndexToPhysicalPoint([int(i) for i in v[::-1]]) for v in index_zyx[:: len(index_zyx) // 20]]
    )
    distance = [np.abs(mine["Liver"] - point).max(axis=1).min() for point in theirs]
    assert max(distance) < 2e-3
    assert len(mine["Liver"]) == len(index_zyx)
    assert read_labels(folder / "liver_seg.nrrd").data.max() == 1


@pytest.mark.real_ct
def test_real_series_from_a_zip(real_data: Path, tmp_path: Path) -> None:
    volume = read_series(index(real_data / "hcc_015_dicom.zip")[1])
    labels = np.zeros(volume.shape, np.uint8)
    labels[20:30, 200:260, 100:200] = 1
    write_seg(tmp_path / "s.dcm", labels, volume)
    points = voxels_mm(hd.seg.segread(tmp_path / "s.dcm"))["liver"]
    assert len(points) == np.count_nonzero(labels)
    corner = np.array(volume.grid.origin_mm) + np.array([20, 200, 100]) * volume.spacing_mm
    assert np.allclose(points.min(axis=0)[::-1], corner, atol=2e-3)
