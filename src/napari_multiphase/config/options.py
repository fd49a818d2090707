"""What a user may choose when segmenting, translating or registering."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_multiphase.bounds import Sizes
from napari_multiphase.config.base import Device, Settings
from napari_multiphase.volume import Phase


class SegmentOptions(Settings):
    """What a user may choose when segmenting; everything else is the model's."""

    device: Device = "auto"
    """Where the network runs; "auto" takes CUDA, then MPS, then the CPU. Ours."""
    phase_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of the arterial phase in the fused result; 0 is venous alone, 1 arterial alone. Ours."""
    fused_on: Phase = Phase.VENOUS
    """The scan on whose grid both results are fused. Ours."""
    branch_weight: float | None = Field(default=None, ge=0.0, le=1.0)
    """PCN with translators: weight of what is found in the scan against what is found in the synthetic image made from
    it, instead of the model's; 1 leaves the synthetic one out. PAPER 000, Fig. 3."""
    tile_vox: tuple[int, int, int] | None = None
    """(D, H, W) of a tile in network voxels, instead of the model's. Ours."""
    overlap: float | None = Field(default=None, ge=0.0, lt=0.95)
    """Share of a tile repeated by its neighbour, instead of the model's. Ours."""
    further_sizes: Sizes | None = None
    """Sizes in which every tile is looked at beside its own, instead of the model's; () is its own alone, and fastest.
    Ours."""
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


Registration = Literal["rigid", "mind", "demons"]
"""Ways to bring the phases together: one movement of everything; or, after that, every organ its own way, found by
Gauss-Newton steps on self-similarity descriptors (ours), or by diffeomorphic demons (HPN's)."""


class RegisterOptions(Settings):
    """What a user may choose when registering."""

    method: Registration = "mind"
    """The most accurate one on phantoms (benchmarks/results/registration.md). Ours."""
    fixed: Phase = Phase.VENOUS
    """The scan that stays; the other is moved onto it. HPN: venous."""
    device: Device = "auto"
    """Where a deformation is searched; "auto" takes CUDA, else the CPU. Ours."""
