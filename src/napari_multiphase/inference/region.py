"""Where a method works at all (URIM: the liver), found by a network of its own before the others run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.events import Cancel, OnEvent
from napari_multiphase.imaging.components import bounding_box, fill_holes, largest_component
from napari_multiphase.inference.engine import Networks, Settings, TileDone, predict
from napari_multiphase.inference.scan import Scan
from napari_multiphase.methods.base import RegionSegmentor

REGION = "region"
"""Name of this pass in messages."""


def find_region(
    segmentor: RegionSegmentor, scan: Scan, settings: Settings, *, on_event: OnEvent, on_tiles: TileDone, cancel: Cancel
) -> tuple[NDArray[np.bool_], Settings]:
    """The region on the network's grid, (D, H, W) bool, from the last image of `scan`; and the settings that worked.

    Where ``segmentor.region_logits`` says more than 1/2: the largest part of it, without holes. All False where it says
    so nowhere.
    """
    grid = scan.network_grid
    own = replace(scan, name=REGION, images_hu=scan.images_hu[-1:], stats=scan.stats[-1:], grid=grid, labels=(0, 1))
    networks = Networks((segmentor.region_logits,))
    found, settings = predict(
        networks, own, settings, on_event=on_event, on_tiles=on_tiles, cancel=cancel, scratch=None
    )
    return tidy(found.labels), settings


def tidy(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The largest connected part of a (D, H, W) mask, its holes filled; worked out within its bounding box."""
    out, box = np.zeros(labels.shape, bool), bounding_box(labels)
    if box is not None:
        out[box] = fill_holes(largest_component(labels[box], connectivity=6))
    return out
