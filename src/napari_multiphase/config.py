"""Every setting of methods, training and segmenting: the only home of each default. No torch here.

A field's docstring gives its unit and origin: a section of the paper, or "ours" where the paper is silent.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_multiphase.errors import UserError
from napari_multiphase.labels import STRUCTURES

Device = Literal["auto", "cpu", "cuda", "mps"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class UNet3DConfig(_Settings):
    """A residual 3-D U-Net, see ``nets.unet3d``."""

    widths: tuple[int, ...] = Field(default=(16, 32, 56, 80, 88), min_length=2, max_length=7)
    """Channels per resolution, finest first; each step halves the grid. Ours."""
    in_channels: int = Field(default=1, ge=1)
    """Images stacked as input. Ours."""

    @property
    def divisor(self) -> int:
        """Every side of a tile must be a multiple of this."""
        return 2 ** (len(self.widths) - 1)


class PcnConfig(_Settings):
    """PCN's per-phase segmentors f_A and f_V with a multi-class 3-D segmentor (PAPER 000, Sec. 3: replaceable)."""

    segmentor: UNet3DConfig = UNet3DConfig()
    """Network of each phase's segmentor; both have their own weights. Ours."""


METHOD_CONFIGS: dict[str, type[_Settings]] = {"pcn": PcnConfig}
"""Settings by method name: the torch-free half of ``methods.METHODS``."""


def method_config(method: str, values: dict[str, Any]) -> Any:
    """The validated settings of `method`; a UserError names the methods there are."""
    if method not in METHOD_CONFIGS:
        raise UserError(f"there is no method '{method}': choose one of {', '.join(METHOD_CONFIGS)}")
    return METHOD_CONFIGS[method].model_validate(values)


class SegmentOptions(_Settings):
    """What a user may choose when segmenting; everything else is the model's."""

    device: Device = "auto"
    """Where the network runs; "auto" takes CUDA, then MPS, then the CPU. Ours."""
    phase_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of the arterial phase in the fused result; 0 is venous alone, 1 arterial alone. Ours."""
    tile_vox: tuple[int, int, int] | None = None
    """(D, H, W) of a tile in network voxels, instead of the model's. Ours."""
    overlap: float | None = Field(default=None, ge=0.0, lt=0.95)
    """Share of a tile repeated by its neighbour, instead of the model's. Ours."""
    batch: int | None = Field(default=None, ge=1, le=64)
    """Tiles per forward pass; None lets the plan decide. Ours."""


class RunConfig(_Settings):
    """One training run. ``multiphase``'s trainer needs nothing else; the file in the run folder is this, as YAML."""

    method: str = "pcn"
    """Key of METHODS."""
    method_config: dict[str, Any] = Field(default_factory=dict)
    """The method's own settings, validated by it."""
    name: str = "pcn-phantom"
    """Name of the model that comes out."""
    seed: int = Field(default=0, ge=0)
    """Everything random is derived from (seed, epoch, case, draw)."""
    labels: tuple[int, ...] = (0, *STRUCTURES)
    """Label id of each output channel; 0 is background. The label table."""
    window_hu: tuple[float, float] = (-200.0, 600.0)
    """Clipped and mapped linearly to [-1, 1]; holds an arterial aorta (ours; the paper clamps to [-125, 275])."""
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 2.0)
    """(z, y, x) spacing of the network's grid. Ours."""
    patch_vox: tuple[int, int, int] = (64, 96, 96)
    """(D, H, W) of one training patch, and of one tile when segmenting. Ours."""
    overlap: float = 0.25
    """Share of a tile repeated by its neighbour when segmenting. Ours."""
    cases: int = Field(default=48, ge=2)
    """Phantom studies to train on; seeds 1000 and up. Ours."""
    case_vox: tuple[int, int, int] = (96, 192, 192)
    """(D, H, W) of each training phantom. Ours."""
    shared_steps: int = Field(default=3000, ge=0)
    """Steps in which one segmentor sees both phases (the common start of f_A and f_V). Ours."""
    phase_steps: int = Field(default=1500, ge=0)
    """Steps of each phase's own segmentor after that. Ours."""
    batch: int = Field(default=1, ge=1)
    """Patches per step. Ours."""
    learning_rate: float = 2e-3
    """Peak of AdamW's one-cycle schedule. Ours."""
    weight_decay: float = 1e-4
    """AdamW. Ours."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's choice."""

    @model_validator(mode="after")
    def _sane(self) -> RunConfig:
        if self.labels[0] != 0:
            raise ValueError("labels must start with 0 (background)")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("window_hu must grow")
        return self
