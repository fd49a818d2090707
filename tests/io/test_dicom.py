"""DICOM series: what is found, how acquisitions are told apart, pixels, geometry, refusals, and our own writer."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from napari_multiphase.errors import UserError
from napari_multiphase.io.dicom import Series, index, read_series, series_uids, write_series
from napari_multiphase.io.dicom_read import decode
from napari_multiphase.io.images import to_source_array
from napari_multiphase.volume import Phase, Volume

SHAPE = (8, 10, 12)


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Volume:
    data = np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)
    return Volume.from_array(data, (2.5, 0.7, 0.8), (-100.25, -50.5, -30.123456))


def write(folder: Path, scan: Volume | None = None, phase: Phase = Phase.VENOUS, patient: str = "P1") -> Volume:
    scan = scan or volume()
    study, frame = series_uids("test", patient)
    write_series(folder, scan, phase=phase, patient_id=patient, study_uid=study, frame_of_reference_uid=frame)
    return scan


def edit(folder: Path, change: Callable[[int, pydicom.Dataset], bool | None]) -> None:
    """Apply `change` to every slice in order; a slice for which it returns False is deleted."""
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        if change(number, dataset) is False:
            path.unlink()
        else:
            dataset.save_as(path)


def only(path: Path) -> Series:
    (series,) = index(path)
    return series


def test_a_written_series_comes_back_exactly(tmp_path: Path) -> None:
    scan = write(tmp_path / "v")
    series = only(tmp_path)
    assert series.problems == ()
    assert (series.slices, series.rows, series.columns) == SHAPE
    back = read_series(series)
    assert back.data.dtype == np.int16
    assert np.array_equal(back.data, scan.data)
    assert back.grid.matches(scan.grid, 1e-4)
    assert back.source.resampled == ""
    assert len(back.source.sha256) == 64


def test_simpleitk_and_pydicom_open_what_is_written(tmp_path: Path) -> None:
    scan = write(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), scan.data)
    error = np.abs(np.array(image.GetOrigin()[::-1]) - scan.grid.origin_mm).max()
    error = max(error, np.abs(np.array(image.GetSpacing()[::-1]) - scan.spacing_mm).max())
    print(f"written DICOM against SimpleITK: {error:.2e} mm")
    assert error < 1e-5
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    first = pydicom.dcmread(sorted(tmp_path.glob("*.dcm"))[0])
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert np.array_equal(first.pixel_array, scan.data[0])
    for keyword in ("PatientID", "StudyDate", "ReferringPhysicianName", "KVP", "AcquisitionTime", "ContrastBolusAgent"):
        assert keyword in first


def test_uids_follow_from_the_study_alone(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    files = [sorted((tmp_path / name).glob("*.dcm")) for name in "ab"]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    uids = [pydicom.dcmread(p).SOPInstanceUID for p in files[0]]
    assert len(set(uids)) == len(uids)
    assert all(pydicom.uid.UID(u).is_valid for u in uids)


def test_two_phases_carry_their_times(tmp_path: Path) -> None:
    for phase in Phase:
        write(tmp_path / str(phase), volume(), phase)
    first, second = index(tmp_path)
    assert (first.acquisition_time, second.acquisition_time) == ("100032.000000", "100105.000000")
    assert first.frame_of_reference == second.frame_of_reference != ""
    assert first.study_uid == second.study_uid
    assert first.tags["ContrastBolusStartTime"] == "100000.000000"


def test_a_zip_reads_like_its_folder_and_hostile_names_stay_inside(tmp_path: Path) -> None:
    scan = write(tmp_path / "v")
    with zipfile.ZipFile(tmp_path / "v.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "v").glob("*.dcm")):
            archive.write(path, f"../../{path.name}")
        archive.writestr("readme.txt", "hello")
    series = only(tmp_path / "v.zip")
    assert np.array_equal(read_series(series).data, scan.data)
    assert not list(tmp_path.parent.glob("*.dcm"))


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    write(tmp_path)
    assert only(sorted(tmp_path.glob("*.dcm"))[3]).slices == SHAPE[0]


def test_a_series_survives_pickling_between_processes(tmp_path: Path) -> None:
    write(tmp_path)
    series = only(tmp_path)
    assert pickle.loads(pickle.dumps(series)) == series


def test_other_files_are_passed_over_and_damaged_ones_named(tmp_path: Path) -> None:
    write(tmp_path / "v")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "v" / ".hidden.dcm").write_bytes(b"x")
    assert only(tmp_path).notes == ()
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 40)
    assert any("broken.dcm" in note for note in only(tmp_path).notes)


def test_nothing_dicom_is_an_empty_list_and_a_broken_zip_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert index(tmp_path) == []
    with pytest.raises(UserError, match="no such"):
        index(tmp_path / "gone")


def shift_x(dataset: pydicom.Dataset, mm: float) -> None:
    dataset.ImagePositionPatient = [float(dataset.ImagePositionPatient[0]) + mm, *dataset.ImagePositionPatient[1:]]


def two_in_one(folder: Path, tag: str | None, interleaved: bool = False) -> tuple[Volume, Volume]:
    """Two scans of the same places under one SeriesInstanceUID, told apart by `tag` or by InstanceNumber only."""
    first, second = volume(1), volume(2)
    write(folder / "a", first)
    write(folder / "b", second)
    for which, name in enumerate("ab"):

        def change(number: int, dataset: pydicom.Dataset, which: int = which, name: str = name) -> None:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            for keyword in ("AcquisitionNumber", "AcquisitionTime", "ContentTime"):
                delattr(dataset, keyword)
            if tag == "AcquisitionNumber":
                dataset.AcquisitionNumber = which + 1
            elif tag:
                setattr(dataset, tag, f"1000{32 + which}")
            dataset.InstanceNumber = 2 * number + which if interleaved else number + which * SHAPE[0]

        edit(folder / name, change)
    return first, second


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "AcquisitionTime", "ContentTime", None])
@pytest.mark.parametrize("interleaved", [False, True])
def test_one_series_with_two_acquisitions_becomes_two(tmp_path: Path, tag: str | None, interleaved: bool) -> None:
    scans = two_in_one(tmp_path, tag, interleaved)
    found = index(tmp_path)
    assert [s.slices for s in found] == [SHAPE[0]] * 2
    for scan, series in zip(scans, found, strict=True):
        assert np.array_equal(read_series(series).data, scan.data)


def test_a_number_per_slab_does_not_split_a_scan(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, lambda number, ds: setattr(ds, "AcquisitionNumber", number // 2 + 1))
    assert only(tmp_path).slices == SHAPE[0]


def test_localisers_and_other_modalities_are_listed_with_their_reason(tmp_path: Path) -> None:
    write(tmp_path / "mr")
    edit(tmp_path / "mr", lambda _, ds: setattr(ds, "Modality", "MR"))
    assert "MR, not CT" in only(tmp_path).problems[0]
    edit(tmp_path / "mr", lambda _, ds: (setattr(ds, "Modality", "CT"), ds.ImageType.append("LOCALIZER"), None)[-1])
    assert "localiser" in only(tmp_path).problems[0]
    with pytest.raises(UserError, match="localiser"):
        read_series(only(tmp_path))


def test_few_slices_are_no_scan(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, lambda number, _: number < 3)
    assert "too few slices (3)" in only(tmp_path).problems[0]


def test_reversed_and_shuffled_files_give_the_same_scan(tmp_path: Path) -> None:
    scan = write(tmp_path)
    names = sorted(tmp_path.glob("*.dcm"))
    order = np.random.default_rng(0).permutation(len(names))
    for path, new in zip(names, order, strict=True):
        path.rename(tmp_path / f"x{new:03d}.dcm")
    edit(tmp_path, lambda number, ds: setattr(ds, "InstanceNumber", 100 - number))
    assert np.array_equal(read_series(only(tmp_path)).data, scan.data)


TURNED = [(1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)]


@pytest.mark.parametrize("orientation", TURNED)
def test_turned_series_agree_with_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    write(tmp_path)
    normal = np.cross(orientation[:3], orientation[3:])

    def change(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [float(v) for v in np.array([10.0, 20.0, 30.0]) + 2.5 * number * normal]

    edit(tmp_path, change)
    mine = read_series(only(tmp_path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = sitk.DICOMOrient(reader.Execute(), "LPS")
    assert np.array_equal(sitk.GetArrayFromImage(theirs), mine.data)
    assert np.allclose(theirs.GetOrigin()[::-1], mine.grid.origin_mm, atol=1e-5)


def test_missing_slices_up_to_three_steps_are_filled_and_named(tmp_path: Path) -> None:
    scan = write(tmp_path)
    edit(tmp_path, lambda number, _: number not in (3, 4))
    back = read_series(only(tmp_path))
    assert back.source.resampled == "2 missing slices interpolated"
    assert back.shape == SHAPE
    kept = [0, 1, 2, 5, 6, 7]
    assert np.array_equal(back.data[kept], scan.data[kept])
    between = (2 * scan.data[2].astype(float) + scan.data[5]) / 3
    assert np.abs(back.data[3] - between).max() <= 0.5
    assert back.source.header["stored_k"] == kept
    assert to_source_array(back.data, back).shape == back.source.shape == (12, 10, 8)


def test_a_larger_gap_is_refused(tmp_path: Path) -> None:
    write(tmp_path, volume(shape=(12, 10, 12)))
    edit(tmp_path, lambda number, _: number not in (4, 5, 6))
    series = only(tmp_path)
    assert "a gap of 10.0 mm after slice 4" in series.problems[0]
    with pytest.raises(UserError, match=r"a gap of 10\.0 mm"):
        read_series(series)


def test_repeated_slices_are_dropped_when_alike_and_refused_when_not(tmp_path: Path) -> None:
    scan = write(tmp_path)
    first = sorted(tmp_path.glob("*.dcm"))[2]
    shutil.copy(first, tmp_path / "copy.dcm")
    back = read_series(only(tmp_path))
    assert np.array_equal(back.data, scan.data)
    assert "1 repeated slice dropped" in back.source.header["notes"][-1]
    other = pydicom.dcmread(first)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "copy.dcm")
    with pytest.raises(UserError, match="same place but differ"):
        read_series(only(tmp_path))


def test_gantry_tilt_is_named_and_resampled(tmp_path: Path) -> None:
    write(tmp_path)

    def tilt(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(0.3)), float(-np.sin(0.3))]
        dataset.ImagePositionPatient = [0, 0, 2.5 * number]

    edit(tmp_path, tilt)
    back = read_series(only(tmp_path))
    assert f"sheared by {np.degrees(0.3):.2f} degrees" in back.source.resampled
    assert to_source_array(np.zeros(back.shape, np.uint8), back).shape == (12, 10, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _, ds: ds.__setattr__("RescaleSlope", "1e30"), "cannot give Hounsfield"),
        (lambda _, ds: ds.__setattr__("RescaleIntercept", "-1e9"), "cannot give Hounsfield"),
        (lambda _, ds: ds.__setattr__("PixelSpacing", [0.001, 0.001]), "not those of a CT"),
        (lambda _, ds: ds.__setattr__("PixelSpacing", [0, 0]), "singular"),
        (lambda _, ds: ds.__delattr__("ImagePositionPatient"), "where its slices lie"),
        (lambda _, ds: ds.__setattr__("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "where its slices lie"),
        (lambda n, ds: shift_x(ds, 9.0 * (n % 2)), "do not lie on one line"),
        (lambda _, ds: ds.__setattr__("SamplesPerPixel", 3), "colour picture"),
        (lambda _, ds: ds.__setattr__("NumberOfFrames", 8), "many frames"),
    ],
)
def test_absurd_headers_are_problems_in_words(tmp_path: Path, change: Callable, words: str) -> None:
    write(tmp_path)
    edit(tmp_path, lambda n, ds: change(n, ds))
    series = only(tmp_path)
    with pytest.raises(UserError, match=words):
        read_series(series)
    assert series.problems


def test_an_unknown_transfer_syntax_is_a_problem_in_words(tmp_path: Path) -> None:
    write(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.77"))
    series = only(tmp_path)
    assert "transfer syntax that is not read" in series.problems[0]


def test_a_deflated_dataset_is_never_unpacked(tmp_path: Path) -> None:
    write(tmp_path)
    first = pydicom.dcmread(sorted(tmp_path.glob("*.dcm"))[0])
    first.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    first.save_as(tmp_path / "deflated.dcm")
    with pytest.raises(UserError, match="deflated"):
        decode((tmp_path / "deflated.dcm").read_bytes(), "deflated.dcm", tmp_path)


def test_a_cut_off_slice_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    path = sorted(tmp_path.glob("*.dcm"))[4]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"0005\.dcm"):
        read_series(only(tmp_path))


def test_values_outside_the_declared_bits_are_refused(tmp_path: Path) -> None:
    write(tmp_path)

    def change(_: int, dataset: pydicom.Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 10, 9

    edit(tmp_path, change)
    with pytest.raises(UserError, match="its header allows -512 to 511"):
        read_series(only(tmp_path))


def test_values_that_contradict_the_largest_pixel_tag_are_refused(tmp_path: Path) -> None:
    write(tmp_path)

    def change(_: int, dataset: pydicom.Dataset) -> None:
        del dataset.PixelPaddingValue
        dataset.add_new("LargestImagePixelValue", "SS", 7)

    edit(tmp_path, change)
    with pytest.raises(UserError, match="LargestImagePixelValue is 7"):
        read_series(only(tmp_path))


def test_slopes_per_slice_are_applied_slice_by_slice(tmp_path: Path) -> None:
    scan = write(tmp_path)

    def change(number: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = (1, -10) if number % 2 else (0.5, 3)

    edit(tmp_path, change)
    back = read_series(only(tmp_path))
    assert back.data.dtype == np.float32
    assert np.allclose(back.data[1], scan.data[1].astype(float) - 10)
    assert np.allclose(back.data[2], scan.data[2] * 0.5 + 3)
    assert "change between slices" in back.source.header["notes"][-1]


def test_padding_becomes_air(tmp_path: Path) -> None:
    scan = write(tmp_path)

    def change(_: int, dataset: pydicom.Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[:5] = -2000
        dataset.PixelData = pixels.tobytes()
        dataset["PixelPaddingValue"] = pydicom.DataElement("PixelPaddingValue", "US", 63536)

    edit(tmp_path, change)
    back = read_series(only(tmp_path))
    assert (back.data[:, 0, :5] == -1024).all()
    assert np.array_equal(back.data[:, 1:], scan.data[:, 1:])


def test_missing_identifiers_are_no_obstacle(tmp_path: Path) -> None:
    scan = write(tmp_path)

    def change(_: int, dataset: pydicom.Dataset) -> None:
        for keyword in ("PatientID", "SeriesNumber", "AcquisitionNumber", "FrameOfReferenceUID", "StudyDate"):
            delattr(dataset, keyword)

    edit(tmp_path, change)
    series = only(tmp_path)
    assert (series.patient_id, series.number, series.acquisition) == ("", None, None)
    assert np.array_equal(read_series(series).data, scan.data)


def test_writing_into_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        write(tmp_path / "f")


@pytest.mark.real_ct
def test_eleven_transfer_syntaxes_give_one_slice(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "transfer_syntaxes"
    wanted = decode((folder / "CTImage.dcm").read_bytes(), "CTImage.dcm", tmp_path)
    hu = wanted.stored * wanted.slope + wanted.intercept
    names = sorted(p for p in folder.iterdir() if ".dcm" in p.name)
    assert len(names) == 11
    for path in names:
        if "4.50" in path.name:  # eight bits for 4400 HU: organs 32 HU apart cannot be told from each other
            with pytest.raises(UserError, match=r"steps of 32\.1"):
                decode(path.read_bytes(), path.name, tmp_path)
            continue
        piece = decode(path.read_bytes(), path.name, tmp_path)
        error = np.abs(piece.stored * piece.slope + piece.intercept - hu)
        print(f"{piece.header.syntax:28s} largest error {error.max():7.1f} HU, mean {error.mean():.2f} HU")
        lossy = piece.header.syntax.endswith((".51", ".55"))
        assert error.mean() < 4 if lossy else error.max() == 0


@pytest.mark.real_ct
def test_real_pairs_are_two_scans_each(real_data: Path) -> None:
    first, second = index(real_data / "hcc_015_dicom.zip")
    assert (first.slices, second.slices, first.problems, second.problems) == (61, 62, (), ())
    first, second = index(real_data / "hcc_002_dicom.zip")
    assert first.series_uid == second.series_uid
    assert (first.slices, second.slices, first.acquisition, second.acquisition) == (109, 109, 1, 2)


@pytest.mark.real_ct
def test_real_scan_agrees_with_simpleitk(real_data: Path, tmp_path: Path) -> None:
    series = index(real_data / "hcc_015_dicom.zip")[0]
    mine = read_series(series)
    with zipfile.ZipFile(real_data / "hcc_015_dicom.zip") as archive:
        paths = []
        for number, name in enumerate(series.files):
            paths.append(str(tmp_path / f"{number}.dcm"))
            Path(paths[-1]).write_bytes(archive.read(name))
    theirs = sitk.DICOMOrient(sitk.ReadImage(paths), "LPS")
    hu = sitk.GetArrayFromImage(theirs)
    hu[hu == -2000] = -1024
    assert np.array_equal(hu, mine.data)
    error = np.abs(np.array(theirs.GetOrigin()[::-1]) - mine.grid.origin_mm).max()
    print(f"hcc_015 against SimpleITK: origin {error:.1e} mm apart")
    assert error < 1e-4


@pytest.mark.real_ct
def test_real_head_with_tilt_and_mixed_steps_is_named(real_data: Path) -> None:
    scan = read_series(only(real_data / "ge_head_tilt_dicom.zip"))
    assert "sheared by 18.50 degrees" in scan.source.resampled
    assert "uneven slice steps of 1.14 to 7.38 mm" in scan.source.resampled
    skull = np.argwhere(scan.data > 400) * scan.spacing_mm
    size = np.ptp(skull, axis=0)
    assert 120 < size[1] < 240
    assert 100 < size[2] < 200


@pytest.mark.real_ct
def test_jpeg2000_without_identifiers(real_data: Path) -> None:
    series = only(real_data / "totalsegmentator_example" / "dicom_jpeg2000")
    scan = read_series(series)
    assert scan.shape == (20, 512, 512)
    assert scan.data.min() == -1024
    assert series.patient_id == ""


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "v").glob("*.dcm")):
            archive.write(path, path.name)
    block = bytearray(memory.getvalue())
    block[600:1400] = bytes(800)
    (tmp_path / "bad.zip").write_bytes(bytes(block))
    shutil.rmtree(tmp_path / "v")
    with pytest.raises(UserError, match=r"damaged|not a readable|cannot be read"):
        _read_all(tmp_path / "bad.zip")


def _read_all(path: Path) -> None:
    for series in index(path):
        read_series(series)


def test_signed_values_of_twelve_bits_get_their_sign(tmp_path: Path) -> None:
    small = volume()
    scan = write(tmp_path, small.with_data((small.data // 2).astype(np.int16)))

    def change(_: int, dataset: pydicom.Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") & 0x0FFF).astype("<i2").tobytes()

    edit(tmp_path, change)
    assert np.array_equal(read_series(only(tmp_path)).data, scan.data)


def test_files_that_are_not_dicom_do_not_drag_their_folder_in(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "scan.nii").write_bytes(bytes(400))
    (tmp_path / "scan.zip").write_bytes(bytes(400))
    assert index(tmp_path / "scan.nii") == []
    with pytest.raises(UserError, match="not a readable zip"):
        index(tmp_path / "scan.zip")


def test_random_damage_is_refused_or_read_and_never_a_traceback(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    write(tmp_path / "v", volume(shape=(6, 8, 9)))
    whole = {path: path.read_bytes() for path in sorted((tmp_path / "v").glob("*.dcm"))}
    refused = 0
    for _ in range(25):
        for path, block in whole.items():
            damaged = bytearray(block)
            for at in rng.integers(132, len(block) - 144, 3):
                damaged[at] = rng.integers(0, 256)
            path.write_bytes(bytes(damaged))
        try:
            _read_all(tmp_path / "v")
        except UserError:
            refused += 1
    assert refused > 5
