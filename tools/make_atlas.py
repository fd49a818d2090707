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

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import TISSUE_HU
from napari_multiphase.imaging.components import fill_holes, largest_component
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.images import read_image, read_labels
from napari_multiphase.io.nifti import write_nifti
from napari_multiphase.volume import Grid

_AT_ONCE = 2_000_000
"""Pairs of a triangle and a column that are looked at together."""
_ASIDE = 1e-4 * np.array([np.pi, np.e, np.sqrt(2.0)])
"""Moves a mesh so little that no column of voxels meets an edge of it."""
_NEAR = 0.1
"""Volumes that differ by a larger share from the expected ones are marked."""

_CANONICAL = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]])
"""(x, y, z) of RAS as (z, y, x) of a grid: superior, posterior, left."""

Labels = NDArray[np.uint16]


@dataclass(frozen=True)
class Mesh:
    """A surface: `vertices` (n, 3) in voxels (z, y, x) of the grid, `faces` (m, 3) of indices into them."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]


# --- meshes ----------------------------------------------------------------------------------------------------------


def from_meshes(recipe: dict[str, Any], folder: Path) -> tuple[Labels, Grid]:
    """Labels (D, H, W) and their grid; a mesh belongs to the first label that names it.

    Raises UserError where a label names no mesh of the folder.
    """
    grid = _grid(recipe["shape"], recipe["spacing_mm"], recipe["origin_mm"])
    turned = _CANONICAL @ np.array(recipe["to_ras_mm"], float)
    groups: dict[int, dict[Path, list[Mesh]]] = {label: {} for label in recipe["labels"]}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".obj", ".glb", ".stl"}):
        for name, vertices, faces in _read(path):
            label = next((n for n, row in recipe["labels"].items() if _names(row, f"{path.stem}/{name}")), None)
            if label is not None:
                mesh = Mesh((vertices @ turned.T - grid.origin_mm) / grid.spacing_mm, faces)
                groups[label].setdefault(path, []).append(mesh)
    lacking = [row["name"] for n, row in recipe["labels"].items() if row.get("meshes") and not groups[n]]
    if lacking:
        raise UserError(
            f"{folder}: no mesh of {', '.join(lacking)}; the recipe's source says where it is, or delete it there"
        )
    labels = np.zeros(grid.shape, np.uint16)
    for label in sorted(groups):
        for meshes in groups[label].values():  # the surfaces of a file close each other
            box, inside = filled(meshes, grid.shape)
            labels[box][inside] = label
    return labels, grid


def _grid(shape: list[int], spacing_mm: float, origin_mm: list[float]) -> Grid:
    """Of a recipe, where all is told along x, y and z of RAS."""
    x, y, z = shape
    first = _CANONICAL @ np.array([origin_mm, origin_mm + (np.array(shape) - 1) * spacing_mm]).T
    dz, dy, dx = (float(v) for v in first.min(1))
    return Grid((z, y, x), (spacing_mm,) * 3, (dz, dy, dx))


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
    return box, fill_holes(2 * yes > told)


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


def from_image(recipe: dict[str, Any], folder: Path) -> tuple[Labels, Grid]:
    """Labels (D, H, W) and their grid; with `spacing_mm` (x, y, z), of that spacing around the middle of the scan."""
    volume = read_labels(folder / recipe["image"])
    labels, grid = np.array(volume.data, np.uint16), volume.grid
    if "spacing_mm" in recipe:
        x, y, z = recipe["spacing_mm"]
        dz, dy, dx = (-(n - 1) * mm / 2 for n, mm in zip(grid.shape, (z, y, x), strict=True))
        grid = Grid(grid.shape, (z, y, x), (dz, dy, dx))
    labels[~np.isin(labels, list(recipe["labels"]))] = 0
    if "ct" in recipe:
        body = _patient(np.asarray(read_image(folder / recipe["ct"]).data) > TISSUE_HU)
        labels[(labels == 0) & body] = recipe["body"]["label"]
    return labels, grid


def _patient(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As `imaging.body` finds it, but voxel by voxel and without a margin."""
    opened = ndimage.binary_opening(tissue, iterations=2)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest_component(opened, connectivity=6)])


# --- both ------------------------------------------------------------------------------------------------------------


def add_hull(labels: Labels, label: int, hull_mm: float, spacing_mm: tuple[float, float, float]) -> None:
    """What lies within `hull_mm` of the convex hull of a slice's structures becomes body, in place."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape[1:]), indexing="ij"), -1)
    for plane in labels:
        points = np.argwhere(plane)
        if len(points) > 3 and np.ptp(points, 0).all():
            far = ndimage.distance_transform_edt(Delaunay(points).find_simplex(places) < 0, sampling=spacing_mm[1:])
            plane[(plane == 0) & (far <= hull_mm)] = label


def make(recipe: dict[str, Any], downloaded: Path, out: Path) -> Iterator[str]:
    """Write the map into the new folder `out`; a line per structure, its volume beside the expected one.

    Raises UserError for files that are not there, and where `out` is.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; name a new folder")
    labels, grid = (from_image if "image" in recipe else from_meshes)(recipe, downloaded)
    if "hull_mm" in recipe.get("body", {}):
        add_hull(labels, recipe["body"]["label"], recipe["body"]["hull_mm"], grid.spacing_mm)
    names = {0: "background"} | {label: row["name"] for label, row in recipe["labels"].items()}
    with atomic_folder(out) as part:
        write_nifti(part / "labels.nii.gz", labels.transpose(2, 1, 0), grid.affine_mm[:, [2, 1, 0, 3]])
        (part / "labels.json").write_text(json.dumps({"labels": {str(n): name for n, name in names.items()}}))
    found = np.bincount(labels.ravel(), minlength=max(names) + 1) * grid.voxel_ml
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
