"""What a model's card and a run's settings must both satisfy: the one home of each bound."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field

from napari_multiphase.labels import BACKGROUND, STRUCTURES

LEAST_TILE_VOX = (1, 16, 16)
"""(D, H, W) of the smallest tile."""
MOST_TILE_VOX = 512
"""Longest side of a tile."""
MOST_SPACING_MM = 20.0
MOST_SIZES, LEAST_SIZE, MOST_SIZE = 4, 0.5, 2.0
"""Further sizes of a tile: how many, and how small and large."""


def _in_table(label: int) -> int:
    if label not in STRUCTURES:
        raise ValueError(f"{label} is not an id of the label table (1 to {max(STRUCTURES)})")
    return label


def _labels(labels: tuple[int, ...]) -> tuple[int, ...]:
    if len(labels) < 2 or labels[0] != BACKGROUND or len(set(labels)) != len(labels):
        raise ValueError("must start with 0 (background), then name at least one structure, and each id once")
    for label in labels[1:]:
        _in_table(label)
    return labels


def _window(window_hu: tuple[float, float]) -> tuple[float, float]:
    if not (all(map(math.isfinite, window_hu)) and window_hu[0] < window_hu[1]):
        raise ValueError("must grow, from one number of HU to a higher one")
    return window_hu


def _spacing(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    if not all(0 < side <= MOST_SPACING_MM for side in spacing_mm):
        raise ValueError(f"must lie in (0, {MOST_SPACING_MM:g}]")
    return spacing_mm


def _tile(tile_vox: tuple[int, int, int]) -> tuple[int, int, int]:
    if any(side < least for side, least in zip(tile_vox, LEAST_TILE_VOX, strict=True)) or max(tile_vox) > MOST_TILE_VOX:
        raise ValueError(f"must lie between {list(LEAST_TILE_VOX)} and {MOST_TILE_VOX} on each side")
    return tile_vox


def _sizes(sizes: tuple[float, ...]) -> tuple[float, ...]:
    if len(sizes) > MOST_SIZES or not all(LEAST_SIZE <= size <= MOST_SIZE for size in sizes):
        raise ValueError(f"must be at most {MOST_SIZES} numbers from {LEAST_SIZE} to {MOST_SIZE}")
    return sizes


ModelName = Annotated[str, Field(min_length=1, max_length=80)]
StructureId = Annotated[int, AfterValidator(_in_table)]
Labels = Annotated[tuple[int, ...], AfterValidator(_labels)]
WindowHu = Annotated[tuple[float, float], AfterValidator(_window)]
SpacingMm = Annotated[tuple[float, float, float], AfterValidator(_spacing)]
Sizes = Annotated[tuple[float, ...], AfterValidator(_sizes)]
TileVox = Annotated[tuple[int, int, int], AfterValidator(_tile)]
