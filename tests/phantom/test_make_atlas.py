"""Label maps out of published meshes and images, by the recipes of tools/atlases."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from napari_multiphase.io.images import read_labels
from napari_multiphase.phantom.atlas_read import read_meanings

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "make_atlas.py"
RECIPES = sorted((ROOT / "tools" / "atlases").glob("*.yaml"))

trimesh = pytest.importorskip("trimesh", reason="waits for trimesh, which reads meshes: pip install trimesh")
tool = runpy.run_path(str(TOOL))
Mesh, filled = tool["Mesh"], tool["filled"]


def sphere(radius: float, centre=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    made = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return made.apply_translation(centre)


def as_mesh(*made: trimesh.Trimesh) -> list:
    return [Mesh(np.asarray(m.vertices), np.asarray(m.faces)) for m in made]


def ball(shape, centre, radius: float) -> np.ndarray:
    z, y, x = ((np.arange(n) - c) ** 2 for n, c in zip(shape, centre, strict=True))
    return z[:, None, None] + y[None, :, None] + x[None, None, :] <= radius**2


def whole(meshes, shape) -> np.ndarray:
    box, inside = filled(meshes, shape)
    full = np.zeros(shape, bool)
    full[box] = inside
    return full


def run(recipe: dict, folder: Path, out: Path) -> subprocess.CompletedProcess:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, str(TOOL), str(path), str(folder), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_sphere_is_a_ball_wherever_the_grid_cuts_it():
    shape, centre = (40, 44, 36), (20.0, 22.0, 18.0)  # a mesh with vertices on voxels' centres
    found, exact = whole(as_mesh(sphere(12, centre)), shape), ball(shape, centre, 12)
    assert np.count_nonzero(found != exact) < 0.03 * exact.sum()
    corner = whole(as_mesh(sphere(12, (2, 3, 33))), shape)
    assert corner.any() and np.count_nonzero(corner != ball(shape, (2, 3, 33), 12)) < 0.05 * corner.sum()
    assert not whole(as_mesh(sphere(5, (60, 60, 60))), shape).any()


def test_surfaces_that_overlap_lie_in_each_other_or_point_inwards_enclose_what_they_should():
    shape, a, b = (40, 40, 60), (20.0, 20.0, 20.0), (20.0, 20.0, 32.0)
    both = whole(as_mesh(sphere(10, a), sphere(10, b)), shape)
    assert np.count_nonzero(both != (ball(shape, a, 10) | ball(shape, b, 10))) < 0.03 * both.sum()
    hollow = sphere(5, a)
    hollow.invert()
    assert np.array_equal(whole(as_mesh(sphere(10, a), hollow), shape), whole(as_mesh(sphere(10, a)), shape))
    inwards = sphere(10, a)
    inwards.invert()
    assert np.array_equal(whole(as_mesh(inwards), shape), whole(as_mesh(sphere(10, a)), shape))


def test_a_hole_in_a_surface_does_not_leak():
    shape, centre = (40, 40, 40), (20.0, 20.0, 20.0)
    torn = sphere(12, centre)
    torn.update_faces(torn.triangles_center[:, 2] < 30.5)
    assert len(torn.faces) < len(sphere(12).faces)
    found = whole(as_mesh(torn), shape)
    assert not found[..., 33:].any() and not found[:7].any()
    assert np.count_nonzero(found != ball(shape, centre, 12)) < 0.06 * found.sum()


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_meshes_become_labels_at_their_place_with_left_on_the_left(tmp_path, suffix):
    """Vertices of a file with y up and in metres, placed by nodes of their own where the format knows those."""
    liver, spleen = sphere(0.030, (-0.05, 0.10, 0.02)), sphere(0.015, (0.06, 0.12, -0.02))
    if suffix == "glb":
        scene = trimesh.Scene()
        scene.add_geometry(sphere(0.030), "liver_shape", "lobe_of_liver", transform=_shift(-0.05, 0.10, 0.02))
        scene.add_geometry(spleen, "spleen_shape", "spleen")
        scene.export(tmp_path / "organs.glb")
        patterns = {"liver": ["organs/*liver*"], "spleen": ["organs"]}
    else:
        liver.export(tmp_path / "FJ1.obj")
        spleen.export(tmp_path / "FJ2.obj")
        patterns = {"liver": ["FJ1"], "spleen": ["FJ2"]}
    labels = {n: {"name": name, "ml": ml, "meshes": patterns[name]} for n, name, ml in _TWO}
    place = {"shape": [100, 60, 70], "spacing_mm": 2.0, "origin_mm": [-100, -60, 40]}
    turned = {"to_ras_mm": [[-1000, 0, 0], [0, 0, 1000], [0, 1000, 0]]}
    recipe = {
        **place,
        **turned,
        "body": {"label": 1, "hull_mm": 6.0},
        "labels": {1: {"name": "body", "ml": 1.0}, **labels},
    }
    done = run(recipe, tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "differs" in told["body"] and "differs" not in told["liver"] + told["spleen"]
    image = nib.load(tmp_path / "out" / "labels.nii.gz")
    found = np.asarray(image.dataobj)
    for label, middle in ((5, (50, 20, 100)), (6, (-60, -20, 120))):  # RAS: the liver on the right, +x
        points = nib.affines.apply_affine(image.affine, np.argwhere(found == label))
        np.testing.assert_allclose(points.mean(0), middle, atol=1.0)
    assert (found == 1).sum() > 0 and read_meanings(tmp_path / "out" / "labels.json").keys() == {1, 5, 6}
    lacking = {**recipe, "labels": {**labels, 7: {"name": "stomach", "ml": 1.0, "meshes": ["FJ9"]}}}
    failed = run(lacking, tmp_path, tmp_path / "none")
    assert failed.returncode == 1 and "no mesh of stomach" in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "none").exists()
    again = run(recipe, tmp_path, tmp_path / "out")
    assert again.returncode == 1 and "name a new folder" in again.stderr


_TWO = ((5, "liver", 113.1), (6, "spleen", 14.1))


def _shift(x: float, y: float, z: float) -> np.ndarray:
    placed = np.eye(4)
    placed[:3, 3] = x, y, z
    return placed


def test_a_label_image_is_turned_to_ras_and_gets_the_spacing_of_its_recipe(tmp_path):
    data = np.zeros((10, 20, 30), np.uint8)  # z, y, x of SimpleITK: LPS
    data[7, 4, 3], data[2, 2, 2] = 5, 99
    image = sitk.GetImageFromArray(data)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(tmp_path / "seg.nrrd"))
    recipe = {"image": "seg.nrrd", "labels": {5: {"name": "liver", "ml": 0.002}}}
    assert run(recipe, tmp_path, tmp_path / "out").returncode == 0
    made = nib.load(tmp_path / "out" / "labels.nii.gz")
    (at,) = np.argwhere(np.asarray(made.dataobj) == 5)
    np.testing.assert_allclose(nib.affines.apply_affine(made.affine, at), (-3, -4, 14))
    assert np.count_nonzero(made.dataobj) == 1  # what the recipe does not name is dropped
    assert run({**recipe, "spacing_mm": [3.0, 3.0, 5.0]}, tmp_path, tmp_path / "wide").returncode == 0
    wide = nib.load(tmp_path / "wide" / "labels.nii.gz")
    (at,) = np.argwhere(np.asarray(wide.dataobj) == 5)
    middle = np.array([14.5, 9.5, 4.5])  # of 30 x 20 x 10 voxels
    np.testing.assert_allclose(nib.affines.apply_affine(wide.affine, at), ([3, 4, 7] - middle) * [-3, -3, 5])
    failed = run({**recipe, "image": "gone.nrrd"}, tmp_path, tmp_path / "none")
    assert failed.returncode == 1 and "there is no such file" in failed.stderr


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_structures_that_a_phantom_is_made_of(recipe, tmp_path):
    read = yaml.safe_load(recipe.read_text())
    assert read["licence"] and read["credit"] and read["source"].startswith("github.com/")
    names = tmp_path / "labels.json"
    names.write_text(json.dumps({"labels": {str(n): row["name"] for n, row in read["labels"].items()}}))
    assert read_meanings(names).keys() == set(read["labels"])


def test_the_map_of_the_ct_with_a_reference_is_made_again_voxel_by_voxel(tmp_path, real_data):
    maps, files = real_data / "atlases" / "totalsegmentator_example", real_data / "totalsegmentator_example"
    if not maps.is_dir():
        pytest.skip("waits for atlases/totalsegmentator_example among the real data (docs/atlases.md)")
    for name in ("ct", "seg_fast_force_split"):
        (tmp_path / f"example_{name}.nii.gz").symlink_to(files / f"totalseg_example_{name}.nii.gz")
    recipe = yaml.safe_load((ROOT / "tools" / "atlases" / "totalsegmentator_example.yaml").read_text())
    assert run(recipe, tmp_path, tmp_path / "out").returncode == 0
    made, kept = (read_labels(folder / "labels.nii.gz") for folder in (tmp_path / "out", maps))
    assert made.shape == kept.shape and np.array_equal(made.data, kept.data)
    np.testing.assert_allclose(made.grid.affine_mm, kept.grid.affine_mm, atol=1e-4)
