"""A label map of a person out of what was published of that person: surface meshes, or a label image.

    pip install trimesh
    python tools/make_atlas.py tools/atlases/bodyparts3d_male.yaml DOWNLOADED ~/atlases/bodyparts3d_male

DOWNLOADED holds the files that the recipe names; its `source` says where they are published. Writes labels.nii.gz and
labels.json as `multiphase sample --atlas` and training read them, and tells each structure's volume beside the one
that the recipe expects.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import yaml
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_folder

_AT_ONCE = 2_000_000
"""Pairs of a triangle and a column that are looked at together."""
_ASIDE = 1e-4 * np.array([np.pi, np.e, np.sqrt(2.0)])
"""Moves a mesh so little that no column of voxels meets an edge of it."""
_NEAR = 0.1
"""Volumes that differ by a larger share from the expected ones are marked."""

Labels = NDArray[np.uint16]


@dataclass(frozen=True)
class Mesh:
    """A surface: `vertices` (n, 3) in voxels of the grid, `faces` (m, 3) of indices into them."""

    name: str
    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]


# --- meshes ----------------------------------------------------------------------------------------------------------


def from_meshes(recipe: dict[str, Any], folder: Path) -> tuple[Labels, NDArray[np.float64]]:
    """Labels (x, y, z) and their affine (RAS mm); a mesh belongs to the first label that names it.

    Raises UserError where a label names no mesh of the folder.
    """
    shape = tuple(recipe["shape"])
    affine = np.diag([*[recipe["spacing_mm"]] * 3, 1.0])
    affine[:3, 3] = recipe["origin_mm"]
    into_voxels = np.linalg.inv(affine[:3, :3]) @ np.array(recipe["to_ras_mm"], float)
    shift = -np.linalg.inv(affine[:3, :3]) @ affine[:3, 3]
    groups: dict[int, dict[Path, list[Mesh]]] = {label: {} for label in recipe["labels"]}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".obj", ".glb", ".stl"}):
        for name, vertices, faces in _read(path):
            label = next((n for n, row in recipe["labels"].items() if _names(row, f"{path.stem}/{name}")), None)
            if label is not None:
                mesh = Mesh(name, vertices @ into_voxels.T + shift, faces)
                groups[label].setdefault(path, []).append(mesh)
    lacking = [row["name"] for n, row in recipe["labels"].items() if row.get("meshes") and not groups[n]]
    if lacking:
        raise UserError(
            f"{folder}: no mesh of {', '.join(lacking)}; the recipe's source says where it is, or delete it there"
        )
    labels = np.zeros(shape, np.uint16)
    for label in sorted(groups):
        for meshes in groups[label].values():  # the surfaces of a file close each other
            box, inside = filled(meshes, shape)
            labels[box][inside] = label
    return labels, affine


def _read(path: Path) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.int64]]]:
    """Name, vertices as the file places them, and faces of each mesh of a file."""
    try:
        import trimesh
    except ImportError:
        raise UserError("Meshes are read by trimesh: pip install trimesh") from None
    scene = trimesh.load_scene(path, process=False, skip_materials=True)
    for node in sorted(scene.graph.nodes_geometry):
        placed, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            yield node, trimesh.transform_points(mesh.vertices, placed), np.asarray(mesh.faces)


def _names(row: dict[str, Any], mesh: str) -> bool:
    """Whether a label of a recipe takes the mesh "file/node": a pattern names either the file or both."""
    return any(fnmatchcase(mesh if "/" in p else mesh.split("/")[0], p) for p in row.get("meshes", ()))


def filled(meshes: list[Mesh], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The box of a grid in which surfaces lie, and which of its voxels they enclose.

    A voxel's centre is inside where the surfaces crossed on the way to it, counted with their direction, are not
    balanced. Columns along each axis vote; one along which they are not balanced at its end, for a hole in a surface,
    has no vote.
    """
    vertices = np.concatenate([mesh.vertices for mesh in meshes]) + _ASIDE
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)])
    low = np.clip(np.floor(vertices.min(0)).astype(int), 0, shape)
    high = np.clip(np.ceil(vertices.max(0)).astype(int) + 1, low, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    size = tuple(int(n) for n in high - low)
    yes, told = np.zeros(size, np.int8), np.zeros(size, np.int8)
    if yes.size:
        for axis in range(3):
            order = [(axis + 1) % 3, (axis + 2) % 3, axis]
            count, closed = _crossed((vertices - low)[:, order][faces], tuple(size[a] for a in order))
            back = np.argsort(order)
            yes += ((count != 0) & closed[..., None]).transpose(back)
            told += np.broadcast_to(closed[..., None], count.shape).transpose(back)
    return box, ndimage.binary_fill_holes(2 * yes > told)


def _crossed(corners: NDArray[np.float64], size: tuple[int, ...]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Of triangles (n, 3, 3): what each voxel (X, Y, Z) counts on the way up Z, and which columns (X, Y) end at 0."""
    steps = np.zeros((*size[:2], size[2] + 1), np.int16)
    first = np.clip(np.ceil(corners[:, :, :2].min(1)).astype(int), 0, size[:2])
    last = np.clip(np.floor(corners[:, :, :2].max(1)).astype(int) + 1, 0, size[:2])
    wide = np.maximum(last - first, 0)
    many = wide.prod(1)
    use = np.flatnonzero(many)
    for part in np.split(use, np.flatnonzero(np.diff(np.cumsum(many[use]) // _AT_ONCE)) + 1):
        which = np.repeat(part, many[part])
        within = np.arange(len(which)) - np.repeat(np.cumsum(many[part]) - many[part], many[part])
        columns = first[which] + np.stack(np.divmod(within, wide[which, 1]), 1)
        a, b, c = (corners[which, k] for k in range(3))
        area = _cross(b - a, c - a)
        flat = area == 0  # seen edge on, or no triangle at all: never met by a column
        v, w = (
            np.where(flat, -1.0, part / np.where(flat, 1.0, area))
            for part in (_cross(columns - a[:, :2], c - a), _cross(b - a, columns - a[:, :2]))
        )
        hit = (v >= 0) & (w >= 0) & (v + w <= 1)
        z = (a[:, 2] + v * (b - a)[:, 2] + w * (c - a)[:, 2])[hit]
        at = np.clip(np.ceil(z).astype(int), 0, size[2])
        np.add.at(steps, (*columns[hit].T, at), np.sign(area[hit]).astype(np.int16))
    count = np.cumsum(steps, 2, dtype=np.int16)
    return count[..., :-1], count[..., -1] == 0


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


# --- a label image ---------------------------------------------------------------------------------------------------


def from_image(recipe: dict[str, Any], folder: Path) -> tuple[Labels, NDArray[np.float64]]:
    """Labels (x, y, z) in RAS and their affine; with `spacing_mm`, of that spacing around the middle of the scan."""
    image, labels = _ras(folder / recipe["image"])
    affine = image.affine
    if "spacing_mm" in recipe:
        affine = np.diag([*recipe["spacing_mm"], 1.0])
        affine[:3, 3] = -(np.array(labels.shape) - 1) * recipe["spacing_mm"] / 2
    labels[~np.isin(labels, list(recipe["labels"]))] = 0
    if "ct" in recipe:
        body = _patient(_ras(folder / recipe["ct"])[1] > recipe["body"]["above_hu"])
        labels[(labels == 0) & body] = recipe["body"]["label"]
    return labels.astype(np.uint16), affine


def _patient(dense: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of what is no air: the largest part, without what touches it thinly (a table), filled slice by slice."""
    parts, _count = ndimage.label(ndimage.binary_opening(dense, iterations=2))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = parts == sizes.argmax()
    return np.stack([ndimage.binary_fill_holes(largest[..., z]) for z in range(dense.shape[2])], 2)


def _ras(path: Path) -> tuple[nib.Nifti1Image, NDArray[Any]]:
    """An image of any format that SimpleITK reads, its axes in the order of RAS."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; the recipe's source says where it is published")
    read = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(read.GetDirection()).reshape(3, 3) * read.GetSpacing()
    affine[:3, 3] = read.GetOrigin()
    image = nib.Nifti1Image(sitk.GetArrayFromImage(read).T.astype(np.int32), np.diag([-1, -1, 1, 1]) @ affine)
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt("RAS")))
    return image, np.array(image.dataobj)


# --- both ------------------------------------------------------------------------------------------------------------


def add_hull(labels: Labels, label: int, hull_mm: float, spacing_mm: NDArray[np.float64]) -> None:
    """What lies within `hull_mm` of the convex hull of a slice's structures becomes body, in place."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape[:2]), indexing="ij"), -1)
    for z in range(labels.shape[2]):
        points = np.argwhere(labels[..., z] > 0)
        if len(points) > 3 and np.ptp(points, 0).all():
            far = ndimage.distance_transform_edt(Delaunay(points).find_simplex(grid) < 0, sampling=spacing_mm[:2])
            labels[..., z][(labels[..., z] == 0) & (far <= hull_mm)] = label


def make(recipe: dict[str, Any], downloaded: Path, out: Path) -> Iterator[str]:
    """Write the map into the new folder `out`; a line per structure, its volume beside the expected one.

    Raises UserError for files that are not there, and where `out` is.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; name a new folder")
    labels, affine = (from_image if "image" in recipe else from_meshes)(recipe, downloaded)
    spacing = np.abs(np.diag(affine)[:3])
    if "hull_mm" in recipe.get("body", {}):
        add_hull(labels, recipe["body"]["label"], recipe["body"]["hull_mm"], spacing)
    names = {0: "background"} | {label: row["name"] for label, row in recipe["labels"].items()}
    with atomic_folder(out) as part:
        nib.save(nib.Nifti1Image(labels, affine), part / "labels.nii.gz")
        (part / "labels.json").write_text(json.dumps({"labels": {str(n): name for n, name in names.items()}}))
    found = np.bincount(labels.ravel(), minlength=max(names) + 1) * float(spacing.prod()) / 1000.0
    for label, row in recipe["labels"].items():
        other = abs(found[label] - row["ml"]) > _NEAR * row["ml"]
        yield f"{row['name']:40}{found[label]:10.1f} ml, expected {row['ml']:10.1f}{'  differs' if other else ''}"


def main() -> None:
    """One map by its recipe, and a table of volumes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("downloaded", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    try:
        for line in make(yaml.safe_load(given.recipe.read_text()), given.downloaded, given.out):
            print(line)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
