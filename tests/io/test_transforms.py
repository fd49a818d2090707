"""The written transform maps points as the matrix does, for ITK and for us."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from tests.registration.test_rigid import rigid

from napari_multiphase.errors import UserError
from napari_multiphase.field import DenseField
from napari_multiphase.imaging.resample import resample
from napari_multiphase.io.transforms import (
    FORWARD_FILE,
    INVERSE_FILE,
    REPORT_FILE,
    is_rigid,
    read_transform,
    write_transform,
)
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Grid, Phase

POINTS = [(0.0, 0.0, 0.0), (100.0, -20.0, 300.5), (-17.0, 250.0, -90.0)]


@pytest.fixture
def transform() -> PhaseTransform:
    return PhaseTransform(rigid((5.0, -7.5, 12.25), (3.0, -2.0, 8.0)), "rigid", {"mi_after": 1.2})


def test_itk_maps_points_as_the_matrix_does(tmp_path: Path, transform: PhaseTransform) -> None:
    write_transform(tmp_path, transform)
    forward = sitk.ReadTransform(str(tmp_path / FORWARD_FILE))
    inverse = sitk.ReadTransform(str(tmp_path / INVERSE_FILE))
    for point in POINTS:
        expected = (transform.venous_to_arterial_mm @ [*point, 1.0])[:3]
        assert forward.TransformPoint(point) == pytest.approx(expected, abs=1e-9)
        assert inverse.TransformPoint(tuple(expected)) == pytest.approx(point, abs=1e-9)


def test_itk_resampling_brings_the_arterial_image_onto_the_venous_grid(tmp_path: Path) -> None:
    """One bright voxel, venous at (x, y, z) = (4, 5, 6), arterial two voxels to the left and one higher."""
    write_transform(tmp_path, PhaseTransform(rigid((2.0, 0.0, 1.0), (0.0, 0.0, 0.0)), "rigid"))
    arterial = np.zeros((12, 12, 12), np.float32)
    arterial[7, 5, 6] = 100.0
    grid = sitk.Image(12, 12, 12, sitk.sitkFloat32)
    onto = sitk.Resample(
        sitk.GetImageFromArray(arterial), grid, sitk.ReadTransform(str(tmp_path / FORWARD_FILE)), sitk.sitkLinear
    )
    assert np.unravel_index(sitk.GetArrayFromImage(onto).argmax(), arterial.shape) == (6, 5, 4)


def test_reads_back_what_was_written(tmp_path: Path, transform: PhaseTransform) -> None:
    paths = write_transform(tmp_path, transform)
    assert {path.name for path in paths} == {FORWARD_FILE, INVERSE_FILE, REPORT_FILE}
    back = read_transform(tmp_path)
    assert np.array_equal(back.venous_to_arterial_mm, transform.venous_to_arterial_mm)
    assert (back.method, dict(back.quality)) == ("rigid", {"mi_after": 1.2})


@pytest.fixture
def dense() -> PhaseTransform:
    """Smooth maps of some millimetres, there and (not exactly) back."""
    grid = Grid((9, 10, 11), (5.0, 4.0, 4.0), (-8.0, -6.0, -5.0))
    noise = np.random.default_rng(4).normal(size=(*grid.shape, 3))
    there = (12.0 * ndimage.gaussian_filter(noise, (2, 2, 2, 0))).astype(np.float32)
    return PhaseTransform(np.eye(4), "mind", {"mi_after": 1.2}, DenseField(there, grid), DenseField(-there, grid))


def test_a_dense_map_reads_back_and_itk_maps_points_as_it_does(tmp_path: Path, dense: PhaseTransform) -> None:
    write_transform(tmp_path, dense)
    back = read_transform(tmp_path)
    points = np.random.default_rng(1).uniform(0, 25, (20, 3))
    for phase, name in ((Phase.ARTERIAL, FORWARD_FILE), (Phase.VENOUS, INVERSE_FILE)):
        assert np.array_equal(back.into(phase).displacement_mm, dense.into(phase).displacement_mm)
        assert back.into(phase).grid == dense.into(phase).grid
        itk = sitk.ReadTransform(str(tmp_path / name))
        moved = dense.map(points, phase)
        assert [itk.TransformPoint(p) for p in points.tolist()] == pytest.approx(moved, abs=1e-4)
    assert back.method == "mind" and back.dense


def test_itk_resamples_through_the_file_as_we_do_in_memory(tmp_path: Path, dense: PhaseTransform) -> None:
    write_transform(tmp_path, dense)
    grid, target = Grid((16, 18, 20), (2.0, 2.0, 2.0)), Grid((10, 12, 14), (2.5, 2.0, 2.0), (2.0, 3.0, 2.0))
    data = ndimage.gaussian_filter(np.random.default_rng(2).normal(scale=900, size=grid.shape), 1.0).astype(np.float32)
    image, like = sitk.GetImageFromArray(data), sitk.Image(*target.shape[::-1], sitk.sitkFloat32)
    image.SetSpacing(grid.spacing_mm[::-1])
    like.SetSpacing(target.spacing_mm[::-1])
    like.SetOrigin(target.origin_mm[::-1])
    read = sitk.ReadTransform(str(tmp_path / FORWARD_FILE))
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, like, read, sitk.sitkLinear, -5000.0))
    ours = resample(data, grid, target, 1, dense.into(Phase.ARTERIAL), background=-5000.0)
    both = (theirs > -4000) & (ours > -4000)
    assert both.mean() > 0.8 and np.abs(theirs - ours)[both].max() < 0.5


@pytest.mark.parametrize("damage", ["gone", "rigid", "turned", "nan"])
def test_damaged_dense_maps_are_refused(tmp_path: Path, dense: PhaseTransform, damage: str) -> None:
    write_transform(tmp_path, dense)
    path = tmp_path / INVERSE_FILE
    path.unlink()
    if damage == "rigid":
        sitk.WriteTransform(sitk.AffineTransform(3), str(path))
    if damage in ("turned", "nan"):
        image = sitk.Image([4, 4, 4], sitk.sitkVectorFloat64, 3)
        if damage == "turned":
            image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        else:
            image[1, 1, 1] = (float("nan"), 0.0, 0.0)
        sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(path))
    with pytest.raises(UserError, match=INVERSE_FILE):
        read_transform(tmp_path)


@pytest.mark.parametrize("damage", ["absent", "cut", "newer", "sheared", "list"])
def test_damaged_reports_are_refused(tmp_path: Path, transform: PhaseTransform, damage: str) -> None:
    if damage != "absent":
        write_transform(tmp_path, transform)
        path = tmp_path / REPORT_FILE
        data = json.loads(path.read_text())
        if damage == "newer":
            data["format_version"] = 99
        if damage == "sheared":
            data["venous_to_arterial_mm"][0][1] = 5.0
        text = json.dumps([] if damage == "list" else data)
        path.write_text(text[:40] if damage == "cut" else text)
    with pytest.raises(UserError):
        read_transform(tmp_path)


def test_an_unwritable_place_is_said_in_words(tmp_path: Path, transform: PhaseTransform) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        write_transform(tmp_path / "file", transform)


def test_a_mirror_is_not_rigid() -> None:
    assert is_rigid(rigid((1.0, 2.0, 3.0), (10.0, 20.0, 30.0)))
    assert not is_rigid(np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert not is_rigid(np.full((4, 4), np.nan))
