"""Image files: against nibabel and SimpleITK, round trips on the source grid, and every refusal."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_multiphase.errors import UserError
from napari_multiphase.io.images import read_image, read_labels, to_source_array, write_on_source
from napari_multiphase.volume import Volume

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ct(shape: tuple[int, int, int] = (5, 6, 7), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([0.7, 0.8, 2.5, 1.0]) if affine is None else affine), path)
    return path


def worst_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between where two affines put the corners of a grid."""
    corners = np.array([(*c, 1.0) for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    return float(np.linalg.norm((first @ corners - second @ corners)[:3], axis=0).max())


def header_bytes(path: Path, at: int, values: bytes) -> None:
    """Overwrite bytes of an uncompressed NIfTI file."""
    block = bytearray(path.read_bytes())
    block[at : at + len(values)] = values
    path.write_bytes(bytes(block))


def test_48_orientations_agree_with_nibabel_and_simpleitk(tmp_path: Path) -> None:
    data, worst = ct(), 0.0
    for order, signs in ORIENTATIONS:
        affine = np.zeros((4, 4))
        for column in range(3):
            affine[order[column], column] = signs[column] * (0.7, 0.9, 2.5)[column]
        affine[:, 3] = (12.5, -30.25, 101.125, 1)
        path = save(tmp_path / "scan.nii.gz", data, affine)
        volume = read_image(path)
        assert volume.source.resampled == ""
        assert volume.data.dtype == np.int16
        theirs = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
        assert np.array_equal(sitk.GetArrayFromImage(theirs), volume.data)
        assert np.allclose(theirs.GetSpacing()[::-1], volume.spacing_mm, atol=1e-6)
        worst = max(worst, float(np.abs(np.array(theirs.GetOrigin()[::-1]) - volume.grid.origin_mm).max()))
        out = tmp_path / "out.nii.gz"
        write_on_source(out, volume.data, volume, kind="image")
        again = nib.load(out)
        assert np.array_equal(np.asarray(again.dataobj), data)
        worst = max(worst, worst_mm(again.affine, affine, data.shape))
    print(f"48 orientations, against nibabel and SimpleITK: worst error {worst:.2e} mm")
    assert worst < 1e-4


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nhdr", ".mhd"])
def test_nrrd_and_metaimage_go_through_lps_as_simpleitk_says(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(ct())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10, -20, 30))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image, str(path))
    volume = read_image(path)
    theirs = sitk.DICOMOrient(image, "LPS")
    assert np.array_equal(sitk.GetArrayFromImage(theirs), volume.data)
    assert np.allclose(theirs.GetOrigin()[::-1], volume.grid.origin_mm, atol=1e-6)
    write_on_source(tmp_path / "labels.nii.gz", (volume.data > 0).astype(np.uint8), volume, kind="labels")
    back = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert back.GetSize() == image.GetSize()
    assert np.allclose(back.GetDirection(), image.GetDirection(), atol=1e-6)
    assert np.allclose(back.GetOrigin(), image.GetOrigin(), atol=1e-4)
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image) > 0)


def test_nrrd_in_ras_lands_at_the_same_place(tmp_path: Path) -> None:
    data = ct((4, 5, 6))
    text = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 5 6\n"
        "space directions: (-0.5,0,0) (0,0.6,0) (0,0,2)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (11,-12,13)\n\n"
    )
    path = tmp_path / "ras.nrrd"
    path.write_bytes(text.encode() + data.tobytes(order="F"))
    nifti = save(
        tmp_path / "ras.nii", data, np.array([[-0.5, 0, 0, 11], [0, 0.6, 0, -12], [0, 0, 2, 13], [0, 0, 0, 1.0]])
    )
    first, second = read_image(path), read_image(nifti)
    assert np.array_equal(first.data, second.data)
    assert first.grid.matches(second.grid, 1e-5)


def test_sheared_nifti_and_nrrd_are_resampled_alike_and_written_back_sheared(tmp_path: Path) -> None:
    data = ct((12, 14, 10))
    affine = np.diag([0.75, 0.75, 2.0, 1.0])  # exact in float32, as NIfTI stores it
    affine[1, 2] = 0.5
    nifti = save(tmp_path / "tilt.nii.gz", data, affine)
    volume = read_image(nifti)
    assert "sheared" in volume.source.resampled
    out = tmp_path / "labels.nii.gz"
    write_on_source(out, np.ones(volume.shape, np.uint8), volume, kind="labels")
    back = nib.load(out)
    assert back.shape == data.shape
    assert worst_mm(back.affine, affine, data.shape) < 1e-5
    assert int(back.header["qform_code"]) == 0
    lps = RAS_LPS @ affine
    vectors = " ".join(f"({','.join(map(repr, lps[:3, c].tolist()))})" for c in range(3))
    text = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 12 14 10\n"
        f"space directions: {vectors}\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "tilt.nrrd").write_bytes(text.encode() + data.tobytes(order="F"))
    other = read_image(tmp_path / "tilt.nrrd")
    assert np.array_equal(other.data, volume.data)


def test_oblique_image_written_back_keeps_its_own_affine(tmp_path: Path) -> None:
    angle = np.radians(15)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = affine @ np.diag([0.8, 0.8, 2.0, 1.0])
    index = np.indices((30, 32, 8)).astype(float)
    smooth = (100 * np.sin(index[0] / 6) + 80 * np.cos(index[1] / 7)).astype(np.int16)
    volume = read_image(save(tmp_path / "oblique.nii.gz", smooth, affine))
    assert "oblique by 15.00 degrees" in volume.source.resampled
    write_on_source(tmp_path / "back.nii.gz", volume.data, volume, kind="image")
    back = nib.load(tmp_path / "back.nii.gz")
    assert worst_mm(back.affine, affine, smooth.shape) < 1e-5
    error = np.abs(np.asarray(back.dataobj)[2:-2, 2:-2, 1:-1] - smooth[2:-2, 2:-2, 1:-1])
    print(f"oblique there and back: largest error {error.max()} HU of {np.ptp(smooth)}")
    assert error.max() <= 5


def test_confidence_is_stored_with_its_slope(tmp_path: Path) -> None:
    volume = read_image(save(tmp_path / "scan.nii.gz", ct()))
    confidence = np.random.default_rng(1).integers(0, 256, volume.shape).astype(np.uint8)
    write_on_source(tmp_path / "c.nii.gz", confidence, volume, kind="confidence", description="log r / log 1000")
    back = nib.load(tmp_path / "c.nii.gz")
    assert back.dataobj.slope == pytest.approx(1 / 255)
    assert back.get_fdata().max() == pytest.approx(confidence.max() / 255)
    assert np.array_equal(to_source_array(confidence, volume), np.rint(back.get_fdata() * 255))
    assert bytes(back.header["descrip"].item()).startswith(b"log r")


def test_a_volume_made_in_memory_is_written_as_other_readers_expect(tmp_path: Path) -> None:
    volume = Volume.from_array(ct((3, 4, 5)), (2.5, 0.7, 0.8), (1.0, 2.0, 3.0))
    write_on_source(tmp_path / "m.nii.gz", volume.data, volume, kind="image")
    theirs = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    assert theirs.GetSize() == (5, 4, 3)
    assert np.allclose(theirs.GetOrigin(), (3, 2, 1), atol=1e-6)
    assert np.allclose(theirs.GetDirection(), np.eye(3).ravel(), atol=1e-6)
    again = read_image(tmp_path / "m.nii.gz")
    assert np.array_equal(again.data, volume.data)
    assert again.grid.matches(volume.grid, 1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_whole_hu_become_int16_whatever_they_were_stored_as(tmp_path: Path, dtype: str, order: str) -> None:
    data = np.random.default_rng(2).integers(0, 200, (4, 5, 6)).astype(np.dtype(dtype).newbyteorder(order))
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(data, np.eye(4), header), tmp_path / "scan.nii")
    volume = read_image(tmp_path / "scan.nii")
    assert volume.data.dtype == np.int16
    assert np.array_equal(to_source_array(volume.data, volume), data)


def test_fractions_and_large_values_stay_float32(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.nii", ct().astype(np.float32) + 0.25)).data.dtype == np.float32
    assert read_image(save(tmp_path / "b.nii", ct().astype(np.int32) * 100)).data.dtype == np.float32


def test_nifti_2_is_read_alike(tmp_path: Path) -> None:
    data = ct()
    nib.save(nib.Nifti2Image(data, np.diag([0.7, 0.8, 2.5, 1.0])), tmp_path / "two.nii.gz")
    first, second = read_image(tmp_path / "two.nii.gz"), read_image(save(tmp_path / "one.nii.gz", data))
    assert np.array_equal(first.data, second.data)
    assert first.grid.matches(second.grid, 1e-5)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full((3, 4, 5), 1024, np.int16), np.eye(4))
    image.header.set_slope_inter(1.0, -1024.0)
    nib.save(image, tmp_path / "s.nii")
    volume = read_image(tmp_path / "s.nii")
    assert (volume.data == 0).all()
    assert (volume.source.slope, volume.source.intercept) == (1.0, -1024.0)


def test_a_single_time_point_is_a_scan_and_a_missing_orientation_is_noted(tmp_path: Path) -> None:
    volume = read_image(save(tmp_path / "t.nii.gz", ct()[..., None]))
    assert volume.source.shape == (5, 6, 7)
    path = save(tmp_path / "none.nii", ct())
    header_bytes(path, 252, struct.pack("<hh", 0, 0))
    assert "stores no orientation" in read_image(path).source.header["notes"][0]


REFUSED_HEADERS = [
    (112, struct.pack("<f", float("nan")), "not a number"),
    (112, struct.pack("<f", float("inf")), "not a number"),
    (116, struct.pack("<f", float("nan")), "not a number"),
    (112, struct.pack("<f", 1e20), "cannot give Hounsfield"),
    (116, struct.pack("<f", 1e20), "cannot give Hounsfield"),
    (280, struct.pack("<f", float("nan")), "not numbers"),
    (280, struct.pack("<f", 1e9), "not those of a CT"),
    (280, struct.pack("<ffff", 0, 0, 0, 0), "singular"),
    (42, struct.pack("<hhh", 32767, 32767, 32767), "more than the file can hold"),
    (40, struct.pack("<hhh", 2, 30, 7), "not one 3-D scan"),
    (40, struct.pack("<h", -5), "not one 3-D scan"),
    (70, struct.pack("<hh", 1999, 16), "type that is not known"),
    (108, struct.pack("<f", 1e9), "header is damaged"),
    (344, b"ni1\0", "single NIfTI file"),
    (0, struct.pack("<i", 12345), "not a NIfTI"),
]


@pytest.mark.parametrize(("at", "values", "words"), REFUSED_HEADERS)
def test_a_crafted_header_is_refused_in_one_sentence(tmp_path: Path, at: int, values: bytes, words: str) -> None:
    path = save(tmp_path / "scan.nii", ct())
    header_bytes(path, at, values)
    with pytest.raises(UserError, match=words) as caught:
        read_image(path)
    assert "scan.nii" in str(caught.value)
    assert "\n" not in str(caught.value)


def make_refused(kind: str, folder: Path) -> Path:
    path = folder / "scan.nii.gz"
    if kind == "four":
        return save(path, np.zeros((3, 4, 5, 2), np.int16))
    if kind == "flat":
        return save(path, np.zeros((30, 40, 1), np.int16))
    if kind == "complex":
        return save(path, np.ones((3, 4, 5), np.complex64))
    if kind == "rgb":
        return save(path, np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    if kind == "nan":
        data = ct().astype(np.float32)
        data[0, 0, :3] = (np.nan, np.inf, -np.inf)
        return save(path, data)
    save(path, ct((20, 21, 22)))
    block = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(block[: len(block) // 2])
    elif kind == "corrupt":
        path.write_bytes(block[:3000] + bytes(200) + block[3200:])
    elif kind == "checksum":
        path.write_bytes(block[:-8] + bytes(4) + block[-4:])
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "short":
        path = folder / "scan.nii"
        path.write_bytes(gzip.decompress(block)[:-100])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("four", "not one 3-D scan"),
        ("flat", "not one 3-D scan"),
        ("complex", "complex"),
        ("rgb", "colours"),
        ("nan", "3 of 210 voxels are not numbers"),
        ("truncated", "truncated or corrupt"),
        ("corrupt", "truncated or corrupt"),
        ("checksum", "truncated or corrupt"),
        ("text", "not a NIfTI"),
        ("empty", "not a NIfTI"),
        ("short", "ends after 99% of its voxels"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_image(make_refused(kind, tmp_path))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path, words in (
        (tmp_path / "notes.txt", "not an image"),
        (tmp_path, "not an image"),
        (tmp_path / "no.nii", "no such"),
    ):
        with pytest.raises(UserError, match=words):
            read_image(path)


def test_a_deflate_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    small = save(tmp_path / "small.nii", np.zeros((3, 4, 5), np.int16)).read_bytes()
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=9) as handle:
        handle.write(small)
        for _ in range(256):
            handle.write(bytes(1 << 20))
    assert (tmp_path / "bomb.nii.gz").stat().st_size < 400_000
    assert read_image(tmp_path / "bomb.nii.gz").shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nencoding: raw\ndata file: /etc/hostname\n\n",
            "outside its own",
        ),
        (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nencoding: raw\ndata file: ../secret.raw\n\n",
            "outside its own",
        ),
        ("NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nencoding: raw\ndata file: LIST\na.raw\n", "several files"),
        ("NRRD0004\ntype: short\ndimension: 3\nsizes: 3 4 5\nencoding: raw\ndata file: gone.raw\n\n", "missing"),
        (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding: raw\nendian: little\n\n",
            "more than",
        ),
        ("NRRD0004\ntype: short\ndimension: 2\nsizes: 30 40\nencoding: raw\nendian: little\n\n", "not one 3-D"),
        ("NRRD0004\ntype: nonsense\n\n", "header is damaged"),
        ("hello", "not an NRRD"),
    ],
)
def test_nrrd_headers_are_not_trusted(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "scan.nhdr"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_image(path)


@pytest.mark.parametrize(
    "line", ["NDims = -3", "NDims = 99", "NDims = x", "DimSize = 3 4 -5", "DimSize = 3 4", "HeaderSize = -7"]
)
def test_metaimage_counts_are_checked_before_itk_sees_them(tmp_path: Path, line: str) -> None:
    fields = {"NDims": "3", "DimSize": "3 4 5", "ElementType": "MET_SHORT"}
    key, _, value = line.partition(" = ")
    text = "".join(f"{k} = {v}\n" for k, v in {**fields, key: value}.items())
    path = tmp_path / "scan.mha"
    path.write_bytes(text.encode() + b"ElementDataFile = LOCAL\n" + bytes(120))
    with pytest.raises(UserError, match="header is damaged"):
        read_image(path)
    path.write_bytes(b"NDims = 3\n" + text.encode() + b"ElementDataFile = LOCAL\n" + bytes(120))
    with pytest.raises(UserError, match=r"twice|header is damaged"):
        read_image(path)


@pytest.mark.parametrize("target", ["/etc/hostname", "../x.raw", "C:\\x.raw", "..\\x.raw"])
def test_metaimage_data_stay_in_their_folder(tmp_path: Path, target: str) -> None:
    path = tmp_path / "scan.mhd"
    path.write_text(f"NDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementDataFile = {target}\n")
    with pytest.raises(UserError, match="outside its own folder"):
        read_image(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "x.raw").write_bytes(bytes(120))
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "x.raw").symlink_to(tmp_path / "away" / "x.raw")
    (folder / "s.mhd").write_text("NDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementDataFile = x.raw\n")
    with pytest.raises(UserError, match="outside its own folder"):
        read_image(folder / "s.mhd")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_truncated_itk_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(ct((20, 21, 22))), str(path), useCompression=True)
    block = path.read_bytes()
    path.write_bytes(block[: len(block) // 2])
    with pytest.raises(UserError, match="truncated or corrupt"):
        read_image(path)


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    labels = np.random.default_rng(3).integers(0, 24, (4, 5, 6))
    for dtype, wanted in (("int16", np.uint8), ("float32", np.uint8), ("int32", np.uint8)):
        volume = read_labels(save(tmp_path / "l.nii.gz", labels.astype(dtype)))
        assert volume.data.dtype == wanted
        assert np.array_equal(to_source_array(volume.data, volume), labels)
    assert read_labels(save(tmp_path / "l.nii.gz", (labels * 100).astype(np.int16))).data.dtype == np.uint16
    with pytest.raises(UserError, match="holds fractions"):
        read_labels(save(tmp_path / "f.nii.gz", labels + 0.5))
    with pytest.raises(UserError, match="run from -1"):
        read_labels(save(tmp_path / "n.nii.gz", (labels - 1).astype(np.int16)))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    volume = read_image(save(tmp_path / "scan.nii.gz", ct()))
    target = tmp_path / "labels.nii.gz"
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match="shape"):
        write_on_source(target, np.zeros((2, 2, 2), np.uint8), volume, kind="labels")
    assert target.read_bytes() == b"old"
    with pytest.raises(UserError, match="part of the path is a file"):
        write_on_source(target / "inside.nii.gz", np.zeros(volume.shape, np.uint8), volume, kind="labels")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.nii.gz", "scan.nii.gz"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    volume = read_image(save(tmp_path / "scan.nii.gz", ct()))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(UserError, match="may not write"):
        write_on_source(locked / "l.nii.gz", np.zeros(volume.shape, np.uint8), volume, kind="labels")


@pytest.mark.real_ct
def test_real_ct_and_its_labels_return_exactly(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "totalsegmentator_example"
    scan = read_image(folder / "totalseg_example_ct.nii.gz")
    theirs = nib.load(folder / "totalseg_example_seg_fast_force_split.nii.gz")
    labels = read_labels(folder / "totalseg_example_seg_fast_force_split.nii.gz")
    assert labels.grid.matches(scan.grid)
    write_on_source(tmp_path / "l.nii.gz", labels.data, scan, kind="labels")
    back = nib.load(tmp_path / "l.nii.gz")
    assert np.array_equal(np.asarray(back.dataobj), np.asarray(theirs.dataobj))
    assert worst_mm(back.affine, theirs.affine, back.shape) == 0.0
    liver_z, spine_y = (np.argwhere(labels.data == 5).mean(axis=0)[0], np.argwhere(labels.data == 29).mean(axis=0)[1])
    pelvis_z = np.argwhere(np.isin(labels.data, (77, 78))).mean(axis=0)[0] if (labels.data == 77).any() else 0
    assert liver_z > pelvis_z  # superior grows with z
    assert spine_y > np.argwhere(labels.data == 5).mean(axis=0)[1]  # posterior grows with y
    assert np.argwhere(labels.data == 1).mean(axis=0)[2] > np.argwhere(labels.data == 5).mean(axis=0)[2]  # spleen: left


def test_random_damage_is_refused_or_read_and_never_a_traceback(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    save(tmp_path / "a.nii", ct())
    sitk.WriteImage(sitk.GetImageFromArray(ct()), str(tmp_path / "a.nrrd"), useCompression=True)
    refused = 0
    for name, header in (("a.nii", 352), ("a.nrrd", 300)) * 60:
        block = bytearray((tmp_path / name).read_bytes())
        for at in rng.integers(0, header, 3):
            block[at] = rng.integers(0, 256)
        path = tmp_path / f"x{name[1:]}"
        path.write_bytes(bytes(block))
        try:
            read_image(path)
        except UserError:
            refused += 1
    assert 20 < refused < 120
