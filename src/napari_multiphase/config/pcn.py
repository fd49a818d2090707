"""Settings of PCN."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from napari_multiphase.config.base import AugmentConfig, OptimiserConfig, Settings, Traits
from napari_multiphase.config.nets import UNet3DConfig


class PcnConfig(Settings):
    """PCN's per-phase segmentors f_A and f_V with a multi-class 3-D segmentor (PAPER 000, Sec. 3: replaceable)."""

    segmentor: UNet3DConfig = UNet3DConfig()
    """Network of each phase's segmentor; both have their own weights. Ours."""
    shared_steps: int = Field(default=3000, ge=0)
    """Steps in which one segmentor sees both phases (the common start of f_A and f_V). Ours."""
    phase_steps: int = Field(default=700, ge=0)
    """Steps of each phase's own segmentor after that. Ours."""
    optimiser: OptimiserConfig = OptimiserConfig(kind="adamw", lr=3e-3, weight_decay=1e-4, clip_norm=12.0)
    """Of the shared stage. Ours (the paper: SGD)."""
    phase_lr_factor: float = Field(default=0.4, gt=0)
    """The phases' own stages start from this share of the rate. Ours."""
    augment: AugmentConfig = AugmentConfig()
    """Ours."""

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        side = self.segmentor.divisor
        return Traits(divisor=(side, side, side))

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.shared_steps + 2 * self.phase_steps


SMOKE_DATA: dict[str, Any] = {"kind": "phantom", "cases": 4, "case_vox": [48, 56, 64]}

PRESETS: dict[str, dict[str, Any]] = {
    "workstation": {
        "batch": 2,
        "patch_vox": [96, 128, 128],
        "method_config": {"shared_steps": 20000, "phase_steps": 5000},
    },
    "smoke": {
        "labels": [0, 1, 2, 5, 18],
        "spacing_mm": [8.0, 6.0, 6.0],
        "patch_vox": [32, 48, 48],
        "data": SMOKE_DATA,
        "validation": {"every": 20, "cases": 1},
        "method_config": {"segmentor": {"widths": [6, 12, 16]}, "shared_steps": 40, "phase_steps": 10},
    },
}
"""RunConfig fields by preset. The paper's own form (RSTN segmentors, translators) comes with the generative half."""
