"""How a study looks in napari: names, colours, places.

Layers are axis-aligned, in millimetres, and get their contrast limits from here, so that napari scans no array.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.private import choice_kept
from napari_multiphase.imaging.fusion import confidence_map
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.volume import Grid, Volume

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels, Layer
    from napari.utils.colormaps import Colormap, DirectLabelColormap

AXES = ("superior", "posterior", "left")
OURS = "multiphase"
"""Key of a layer's metadata under which this package keeps what it needs to find the layer again."""
LABELS_OPACITY = 0.45
MOST_OPAQUE = 0.7
"""Opacity of the confidence overlay where the model is least sure: the labels beneath stay visible."""
_WARM = ((0.65, 0.02, 0.06), (1.0, 0.45, 0.0), (1.0, 0.85, 0.3))


def placement(grid: Grid) -> dict[str, Any]:
    """Layer arguments that put an array of `grid` where it belongs: scale and translate in mm, (z, y, x)."""
    return {"scale": grid.spacing_mm, "translate": grid.origin_mm, "units": "mm", "axis_labels": AXES}


@cache
def labels_colormap() -> DirectLabelColormap:
    """The label table's colours; ids outside the table are grey, background is transparent."""
    from napari.utils.colormaps import DirectLabelColormap

    colours: dict[int | None, Any] = {None: (0.6, 0.6, 0.6, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
    for structure in STRUCTURES.values():
        colours[structure.id] = (*(c / 255 for c in structure.colour), 1.0)
    return DirectLabelColormap(color_dict=colours)


def hidden_colormap(hidden: frozenset[int]) -> DirectLabelColormap:
    """The table's colours with the structures of `hidden` transparent."""
    if not hidden:
        return labels_colormap()
    from napari.utils.colormaps import DirectLabelColormap

    colours = dict(labels_colormap().color_dict)
    colours.update({label: np.zeros(4, np.float32) for label in hidden})
    return DirectLabelColormap(color_dict=colours)


def confidence_rgba() -> NDArray[np.float32]:
    """(256, 4) colour of each encoded confidence: transparent where sure, warm where not; shows M of Eq. 3."""
    sure = confidence_map(np.arange(256, dtype=np.uint8)).astype(np.float32)
    rgba = np.empty((256, 4), np.float32)
    for channel in range(3):
        rgba[:, channel] = np.interp(sure, (0.0, 0.5, 1.0), [colour[channel] for colour in _WARM])
    rgba[:, 3] = MOST_OPAQUE * (1.0 - sure)
    return rgba


@cache
def confidence_colormap() -> Colormap:
    """`confidence_rgba` for an image layer of encoded confidence with contrast limits 0 to 255."""
    from napari.utils.colormaps import Colormap

    return Colormap(confidence_rgba(), name="uncertainty", display_name="uncertainty")


def image_arguments(volume: Volume, name: str, window_hu: tuple[float, float], **ours: Any) -> dict[str, Any]:
    """Arguments of an image layer for a CT scan; contrast limits are given, so that napari does not scan the array."""
    return {
        "name": name,
        "contrast_limits": window_hu,
        "colormap": "gray",
        "blending": "translucent_no_depth",
        "interpolation2d": "linear",
        "rgb": False,
        "multiscale": False,
        "metadata": {OURS: {"source": volume.source.to_dict(), "grid": volume.grid.to_dict(), **ours}},
        **placement(volume.grid),
    }


def add_image(viewer: napari.Viewer, volume: Volume, name: str, window_hu: tuple[float, float], **ours: Any) -> Image:
    """Add a CT scan as a grey image; `ours` goes into the layer's metadata."""
    layer = viewer.add_image(volume.data, **image_arguments(volume, name, window_hu, **ours))
    _let_choose(layer)
    return layer


def insert_hidden(viewer: napari.Viewer, data: NDArray[Any], arguments: Mapping[str, Any]) -> Image:
    """Add an image, hidden, under the results and over the scans and images before it; what was chosen stays chosen."""
    from napari.layers import Image

    images = [other for kind in ("ct", "aligned", "synthetic", "difference") for other in layers_of(viewer, kind=kind)]
    above = 1 + max((viewer.layers.index(other) for other in images), default=-1)
    layer = Image(data, **{**arguments, "visible": False})
    _let_choose(layer)
    with choice_kept(viewer):
        viewer.layers.insert(above, layer)
    return layer


def _let_choose(layer: Image) -> None:
    """The window may be set to what a user can sensibly choose: air to dense bone."""
    low, high = (-1024.0, 2000.0) if layer.data.dtype.itemsize > 1 else (0.0, 255.0)
    limits = layer.contrast_limits
    layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))


def add_labels(viewer: napari.Viewer, data: NDArray[Any], grid: Grid, name: str, **ours: Any) -> Labels:
    """Add a label map in the table's colours above everything, hidden and not chosen; `ours` goes into its metadata."""
    with choice_kept(viewer):
        return viewer.add_labels(
            data,
            name=fresh_name(viewer, name),
            colormap=labels_colormap(),
            opacity=LABELS_OPACITY,
            multiscale=False,
            visible=False,
            metadata={OURS: {"grid": grid.to_dict(), **ours}},
            **placement(grid),
        )


def add_confidence(viewer: napari.Viewer, data: NDArray[np.uint8], grid: Grid, name: str, **ours: Any) -> Image:
    """Add an encoded confidence map as an overlay, transparent where the model is sure; hidden and not chosen."""
    with choice_kept(viewer):
        return viewer.add_image(
            data,
            name=fresh_name(viewer, name),
            contrast_limits=(0, 255),
            colormap=confidence_colormap(),
            blending="translucent_no_depth",
            interpolation2d="nearest",
            rgb=False,
            multiscale=False,
            visible=False,
            metadata={OURS: {"grid": grid.to_dict(), **ours}},
            **placement(grid),
        )


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """The same values, open to painting: a copy-on-write map where `array` is mapped, so nothing is read now."""
    if array.flags.writeable:
        return array
    if isinstance(array, np.memmap) and array.filename is not None and array.base is not None:
        return np.memmap(array.filename, array.dtype, "c", array.offset, array.shape)
    return array.copy()


def fresh_name(viewer: napari.Viewer, name: str) -> str:
    """`name`, or ``"name (2)"`` and so on where a layer has it already."""
    taken = {layer.name for layer in viewer.layers}
    if name not in taken:
        return name
    return next(candidate for n in range(2, 10_000) if (candidate := f"{name} ({n})") not in taken)


def ours(layer: Layer) -> dict[str, Any]:
    """What this package wrote into the layer's metadata; empty for a layer of someone else."""
    return layer.metadata.get(OURS, {})


def layers_of(viewer: napari.Viewer, **wanted: Any) -> list[Layer]:
    """Our layers whose metadata has all of `wanted` ("kind", "phase", "run", "study"), bottom first."""
    return [
        layer
        for layer in viewer.layers
        if ours(layer) and all(ours(layer).get(key) == value for key, value in wanted.items())
    ]


def jump_to(viewer: napari.Viewer, grid: Grid, index: tuple[int, int, int]) -> None:
    """Move the slider, and the camera where the point is out of view, to a voxel of `grid`."""
    point_mm = tuple(o + i * s for o, i, s in zip(grid.origin_mm, index, grid.spacing_mm, strict=True))
    viewer.dims.set_point(range(3), point_mm)
