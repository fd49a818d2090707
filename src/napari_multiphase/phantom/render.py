"""From placed structures to HU and labels, chunk by chunk.

Structures are painted in order, later over earlier. A structure's share of a voxel (partial volume and the scanner's
blur together) follows from its signed distance; its label goes where that distance is negative, without resampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.phantom.shapes import FAR_MM, Array, Box, Shape, Tube
from napari_multiphase.volume import Grid, Phase

BLUR_MM = 1.3
"""Width of the scanner's point spread that voxel size does not explain."""


class Site(NamedTuple):
    """What a HU function may look at: reference coordinates, the structure's distance, two smooth random fields."""

    x: Array
    y: Array
    z: Array
    d: Array
    coarse: Array
    fine: Array


Hu = float | Callable[[Site], Array]


class Layer(NamedTuple):
    """The part of a structure deeper than `depth_mm`. `label` None keeps what is there."""

    depth_mm: float
    hu: Mapping[Phase, Hu]
    label: int | None


@dataclass(frozen=True)
class Structure:
    """A shape and its layers, from the outside in.

    within : paint only over this label. rough_mm : how far the smooth random field moves the surface.
    """

    name: str
    shape: Shape
    layers: Sequence[Layer]
    within: int | None = None
    rough_mm: float = 0.0


class Chunk(NamedTuple):
    """Reference coordinates and random fields of some slices, each (n, H, W) float32."""

    x: Array
    y: Array
    z: Array
    coarse: Array
    fine: Array
    locate: Callable[[Box], tuple[slice, slice, slice] | None]


def edge_mm(grid: Grid) -> float:
    """Width of the transition at a surface: voxel size and blur."""
    z, y, x = grid.spacing_mm
    return float(np.sqrt((0.2 * z + 0.4 * y + 0.4 * x) ** 2 + BLUR_MM**2)) * 1.5


def render(
    chunk: Chunk, structures: Sequence[Structure], phase: Phase, edge: float, background_hu: float
) -> tuple[Array, NDArray[np.uint8]]:
    """HU (float32, without noise) and labels of one chunk."""
    image = np.full(chunk.x.shape, background_hu, np.float32)
    labels = np.zeros(chunk.x.shape, np.uint8)
    paint(image, labels, chunk, structures, phase, edge)
    return image, labels


def paint(
    image: Array, labels: NDArray[np.uint8], chunk: Chunk, structures: Sequence[Structure], phase: Phase, edge: float
) -> None:
    """The structures, in their order, over what is there."""
    for structure in structures:
        found = _distance(chunk, structure, edge)
        if found is not None:
            where, d = found
            _paint(image[where], labels[where], chunk, where, d, structure, phase, edge)


def _distance(chunk: Chunk, structure: Structure, edge: float) -> tuple[tuple[slice, slice, slice], Array] | None:
    # Twice what exact distances would need: some are underestimated away from the surface.
    pad = edge + 3.0 * structure.rough_mm
    where = chunk.locate(structure.shape.reach(pad))
    if where is None:
        return None
    x, y, z = chunk.x[where], chunk.y[where], chunk.z[where]
    shape = structure.shape
    if isinstance(shape, Tube):
        d = np.full(x.shape, FAR_MM, np.float32)
        for index, box in enumerate(shape.boxes):
            part = chunk.locate(box.padded(pad, shape.stretch_z))
            if part is None:
                continue
            inner = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, where, strict=True))
            inner = tuple(slice(max(i.start, 0), i.stop) for i in inner)
            view = d[inner]
            np.minimum(view, shape.segment(index, x[inner], y[inner], z[inner]), out=view)
    else:
        d = np.asarray(shape.distance(x, y, z), np.float32)
    if structure.rough_mm:
        d = d + np.float32(structure.rough_mm) * chunk.coarse[where]
    return where, d


def _paint(
    image: Array,
    labels: NDArray[np.uint8],
    chunk: Chunk,
    where: tuple[slice, slice, slice],
    d: Array,
    structure: Structure,
    phase: Phase,
    edge: float,
) -> None:
    near = d < np.float32(0.5 * edge)
    if structure.within is not None:
        near &= labels == structure.within
    index = np.nonzero(near)
    if not len(index[0]):
        return
    depth = d[index]
    value = image[index]
    label = labels[index]
    site: Site | None = None
    for layer in structure.layers:
        deeper = depth + np.float32(layer.depth_mm)
        t = np.clip(np.float32(0.5) - deeper * np.float32(1.0 / edge), 0, 1)
        share = t * t * (3 - 2 * t)
        hu = layer.hu[phase]
        if callable(hu):
            if site is None:
                x, y, z, coarse, fine = (a[where][index] for a in chunk[:5])
                site = Site(x, y, z, depth, coarse, fine)
            value = value + share * (hu(site) - value)
        else:
            value = value + share * (np.float32(hu) - value)
        if layer.label is not None:
            label = np.where(deeper < 0, np.uint8(layer.label), label)
    image[index] = value
    labels[index] = label
