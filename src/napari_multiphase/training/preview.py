"""A slice of a held-out case as a picture: scan, reference and prediction in the label table's colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.windows import WINDOWS_HU, normalise
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.png import png
from napari_multiphase.labels import IGNORE, STRUCTURES, UNKNOWN

PREVIEW_FOLDER = "previews"
COVER = 0.5
"""How much of the scan a colour hides."""
PANEL_PX = 280
"""Smaller slices are enlarged by a whole factor to about this width."""
_GAP_PX = 4
_STRANGE = (255, 0, 255)


def write_preview(
    folder: Path, name: str, hu: NDArray[Any], labels: NDArray[np.uint8], prediction: NDArray[np.uint8]
) -> Path:
    """Write ``folder/previews/<name>.png``: scan, reference, prediction.

    Parameters
    ----------
    hu : (D, H, W) or (H, W) HU, shown in the soft-tissue window. Of a volume the slice is shown on which the most
        structures of the reference lie (of these the one with the most labelled voxels).
    labels, prediction : ids of the label table, of the same shape; voxels that nobody reviewed (254, 255) are grey.

    Raises
    ------
    UserError : the picture cannot be written.
    """
    if hu.ndim == 3:
        z = _fullest(labels)
        hu, labels, prediction = hu[z], labels[z], prediction[z]
    grey = np.repeat(((normalise(hu, WINDOWS_HU["soft tissue"]) + 1) * 127.5).astype(np.uint8)[..., None], 3, axis=2)
    gap = np.full((len(grey), _GAP_PX, 3), 255, np.uint8)
    factor = max(1, round(PANEL_PX / grey.shape[1]))
    panels = [_enlarged(p, factor) for p in (grey, _painted(grey, labels), _painted(grey, prediction))]
    gap = _enlarged(gap, factor)[:, :_GAP_PX]
    target = folder / PREVIEW_FOLDER / f"{name}.png"
    with atomic_path(target) as part:
        part.write_bytes(png(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)))
    return target


def _fullest(labels: NDArray[np.uint8]) -> int:
    """The slice with the most structures."""
    inside = (labels > 0) & (labels < UNKNOWN)
    kinds = [len(np.unique(plane[mask])) for plane, mask in zip(labels, inside, strict=True)]
    voxels = inside.reshape(len(labels), -1).sum(1)
    return max(range(len(labels)), key=lambda z: (kinds[z], voxels[z]))


def _painted(grey: NDArray[np.uint8], ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the colours of `ids` over it, background clear."""
    colours = _colours()[ids].astype(np.float32)
    mixed = (1 - COVER) * grey + COVER * colours
    return np.where((ids > 0)[..., None], mixed, grey).round().astype(np.uint8)


def _colours() -> NDArray[np.uint8]:
    table = np.full((256, 3), _STRANGE, np.uint8)
    for i, structure in STRUCTURES.items():
        table[i] = structure.colour
    table[[UNKNOWN, IGNORE]] = 128
    return table


def _enlarged(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
