"""What a user may choose when segmenting or translating."""

from __future__ import annotations

from pydantic import Field

from napari_multiphase.config.base import Device, Settings


class SegmentOptions(Settings):
    """What a user may choose when segmenting; everything else is the model's."""

    device: Device = "auto"
    """Where the network runs; "auto" takes CUDA, then MPS, then the CPU. Ours."""
    phase_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of the arterial phase in the fused result; 0 is venous alone, 1 arterial alone. Ours."""
    branch_weight: float | None = Field(default=None, ge=0.0, le=1.0)
    """PCN with translators: weight of what is found in the scan against what is found in the synthetic image made from
    it, instead of the model's; 1 leaves the synthetic one out. PAPER 000, Fig. 3."""
    tile_vox: tuple[int, int, int] | None = None
    """(D, H, W) of a tile in network voxels, instead of the model's. Ours."""
    overlap: float | None = Field(default=None, ge=0.0, lt=0.95)
    """Share of a tile repeated by its neighbour, instead of the model's. Ours."""
    batch: int | None = Field(default=None, ge=1, le=64)
    """Tiles per forward pass; None lets the plan decide. Ours."""


class TranslateOptions(Settings):
    """What a user may choose when translating; everything else is the model's."""

    device: Device = "auto"
    """Where the network runs; "auto" takes CUDA, then MPS, then the CPU. Ours."""
    tile_vox: tuple[int, int, int] | None = None
    """(D, H, W) of what a tile owns, in network voxels, without its context; None: as much as memory allows. Ours."""
    memory_gb: float | None = Field(default=None, gt=0)
    """What the network may take at a time; None: half of what is free. Ours."""
