"""napari's doors: the manifest, readers without a window, writers onto the scan's own grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from npe2 import PluginManifest

from napari_multiphase.errors import UserError
from napari_multiphase.gui.io import SAMPLE_URI, get_reader, sample_paths, volume_of, write_image, write_labels
from napari_multiphase.io.images import is_synthetic, read_image
from napari_multiphase.io.nifti import SYNTHETIC
from napari_multiphase.labels import STRUCTURES


@pytest.fixture
def scan(tmp_path):
    """An oblique-free NIfTI whose axes are neither in napari's order nor direction."""
    data = np.random.default_rng(0).integers(-1000, 400, (7, 9, 11)).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 40], [1.5, 0, 0, -30], [0, 0, 3.0, 10], [0, 0, 0, 1]])
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    return path, data, affine


def test_the_manifest_is_valid_and_every_command_exists():
    manifest = PluginManifest.from_distribution("napari-multiphase")
    manifest.validate_imports()
    assert manifest.contributions.sample_data[0].uri == SAMPLE_URI


def test_without_a_window_a_scan_is_read_here_and_now(scan):
    path, data, _ = scan
    ((array, meta, kind),) = get_reader(str(path))(str(path))
    assert kind == "image"
    assert sorted(array.shape) == sorted(data.shape)
    assert meta["units"] == "mm"
    assert meta["scale"] == pytest.approx((3.0, 1.5, 2.0))
    assert meta["contrast_limits"] == (-160.0, 240.0)


def test_a_synthetic_image_says_so_on_screen_and_when_it_is_saved_again(scan, tmp_path):
    path, data, affine = scan
    image = nib.Nifti1Image(data, affine)
    image.header["descrip"] = f"{SYNTHETIC}venous from arterial by a model".encode()
    nib.save(image, tmp_path / "venous.nii.gz")
    ((array, meta, _),) = get_reader(str(path))(str(tmp_path / "venous.nii.gz"))
    assert meta["name"] == "venous (synthetic)"
    write_image(str(tmp_path / "copy.nii.gz"), np.asarray(array), meta)
    assert is_synthetic(read_image(tmp_path / "copy.nii.gz").source)
    ((_, meta, _),) = get_reader(str(path))(str(path))
    assert meta["name"] == "scan"


def test_labels_drawn_on_a_scan_go_back_onto_its_own_grid(scan, tmp_path):
    path, data, affine = scan
    ((array, meta, _),) = get_reader(str(path))(str(path))
    labels = (np.asarray(array) > 0).astype(np.uint8) * 5
    out = tmp_path / "labels.nii.gz"
    assert write_labels(str(out), labels, {"metadata": meta["metadata"], "name": "labels"}) == [str(out)]
    written = nib.load(out)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), (data > 0) * 5)


def test_a_new_labels_layer_keeps_its_place_in_millimetres(tmp_path):
    """A layer drawn in napari has no source: its scale and translate are all there is."""
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, 2, 3] = 7
    meta = {"scale": (3.0, 2.0, 1.0), "translate": (10.0, 20.0, 30.0)}
    out = tmp_path / "drawn.nii.gz"
    write_labels(str(out), labels, meta)
    written = nib.load(out)
    (index,) = np.argwhere(np.asarray(written.dataobj) == 7)
    x, y, z = (written.affine @ [*index, 1])[:3] * (-1, -1, 1)  # RAS -> LPS
    assert (z, y, x) == pytest.approx((13.0, 24.0, 33.0))
    assert volume_of(labels, meta).spacing_mm == (3.0, 2.0, 1.0)


def test_flat_layers_are_refused_in_words(tmp_path):
    with pytest.raises(UserError, match="NIfTI scans need 3"):
        write_labels(str(tmp_path / "flat.nii.gz"), np.zeros((4, 5), np.uint8), {"name": "flat"})
    assert not list(tmp_path.iterdir())


def test_the_sample_has_both_phases():
    assert [path.name for path in sample_paths()] == ["arterial.nii.gz", "venous.nii.gz"]
    layers = get_reader(SAMPLE_URI)(SAMPLE_URI)
    assert [kind for _, _, kind in layers] == ["image", "image"]
    assert len(STRUCTURES) == 23
