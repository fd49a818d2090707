"""Settings of HPN."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from napari_multiphase.config.base import AugmentConfig, OptimiserConfig, Settings, Traits

TURN_AND_SCALE = AugmentConfig(
    share=1.0,
    rotate_deg=(15.0, 15.0, 15.0),
    scale=(0.9, 1.1),
    isotropic=True,
    gain=0.0,
    offset_hu=0.0,
    noise_hu=0.0,
    blur_share=0.0,
)
"""Rotation and scaling, alike for both phases (PAPER 001, Sec. 2.2; their ranges are ours)."""

BOTH = ("arterial", "venous")


class HpnConfig(Settings):
    """Hyper-pairing network, its bases and every baseline of its table (PAPER 001)."""

    base: Literal["unet", "resdsn"] = "unet"
    """3D-UNet, or 3D-ResDSN: skips by summation and two auxiliary heads (Sec. 3.1)."""
    width: int = Field(default=32, ge=2)
    """Channels of the first convolution; each level doubles them. 32 as in 3D U-Net (Cicek et al. 2016)."""
    levels: int = Field(default=4, ge=2, le=6)
    """Resolutions; each step halves the grid. 4 as in 3D U-Net."""
    paths: Literal["hyper", "fusion", "arterial", "venous"] = "hyper"
    """Hyper-connected two-path network; the voxelwise mean probability of two single-phase networks ("fusion" in
    Table 1); one single-phase network (Sec. 3.1)."""
    aug_mode: Literal["none", "union", "joint"] = "union"
    """With "hyper": one model on original pairs (HyperNet); the union of a model on original and one on virtual pairs
    (HPN, HyperNet-aug); one model on the mixture of both. "union" for HyperNet-aug is ours: the text allows either."""
    joint_share: float = Field(default=0.5, ge=0, le=1)
    """Share of virtual pairs in the mixture of "joint". Ours."""
    beta: float = Field(default=0.4, gt=0)
    """lambda ~ Beta(beta, beta) mixes the phases of a virtual pair (Sec. 2.2)."""
    corr_weight: float = Field(default=0.5, ge=0)
    """Weight of the pairing loss in Eq. 2 (Sec. 3.1); 0 turns it off (HyperNet, HyperNet-aug)."""
    corr_mode: Literal["channel", "flat", "project"] = "channel"
    """Eq. 1 is printed for one value per voxel: Pearson per channel, then the mean over channels; over all entries at
    once; or after a learnt 1x1x1 convolution to one channel, the same for both paths. Ours."""
    cross_init: Literal["normal", "zero"] = "normal"
    """Start of the weights that read the other path; "zero" starts as two independent streams. Ours."""
    dice_weight: float = Field(default=0.0, ge=0)
    """Weight of a soft Dice term beside Eq. 2's cross-entropy. 0 as printed; above it is ours, for short trainings."""
    aux_weights: tuple[float, float] = (0.2, 0.4)
    """3D-ResDSN's auxiliary heads, coarsest first (Zhu et al. 2018)."""
    steps: int = Field(default=80_000, ge=1)
    """Steps of each network. Ours (after Zhu et al. 2018)."""
    optimiser: OptimiserConfig = OptimiserConfig(kind="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4, schedule="poly")
    """SGD (Sec. 3.1); its rate, decay and schedule are ours (after Zhu et al. 2018)."""
    focus_share: float = Field(default=0.5, ge=0, le=1)
    """Share of patches that are centred on a structure. Ours."""
    augment: AugmentConfig = TURN_AND_SCALE
    """Sec. 2.2; ranges ours."""

    @property
    def networks(self) -> dict[str, tuple[str, ...]]:
        """Name of each network -> the phases it reads; they are trained one after the other."""
        if self.paths == "fusion":
            return {"arterial": ("arterial",), "venous": ("venous",)}
        if self.paths != "hyper":
            return {self.paths: (self.paths,)}
        if self.aug_mode == "union":
            return {"original": BOTH, "virtual": BOTH}
        return {"original" if self.aug_mode == "none" else "joint": BOTH}

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        side = 2 ** (self.levels - 1)
        members = 2 if self.paths == "hyper" and self.aug_mode == "union" else 1
        return Traits(reads="pair", divisor=(side, side, side), members=members, standardise=True)


PANCREAS: dict[str, Any] = {"labels": [0, 6, 22, 23], "window_hu": [-100.0, 240.0]}
PHANTOMS: dict[str, Any] = {"kind": "phantom", "pathologies": ["pancreas", "pancreas", "none"]}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        **PANCREAS,
        "data": {**PHANTOMS, "case_vox": [288, 384, 384]},
        "spacing_mm": [1.0, 1.0, 1.0],
        "patch_vox": [64, 64, 64],
        "overlap": 0.5,
        "batch": 4,
        "validation": {"folds": 3, "every": 5000},
    },
    "workstation": {
        **PANCREAS,
        "data": PHANTOMS,
        "spacing_mm": [2.0, 1.5, 1.5],
        "patch_vox": [64, 96, 96],
        "batch": 2,
        "validation": {"every": 2000},
        "method_config": {
            "width": 16,
            "steps": 30_000,
            "dice_weight": 1.0,
            "augment": AugmentConfig().model_dump(mode="json"),
        },
    },
    "smoke": {
        **PANCREAS,
        "data": {**PHANTOMS, "cases": 4, "case_vox": [48, 56, 64]},
        "spacing_mm": [8.0, 6.0, 6.0],
        "patch_vox": [32, 48, 48],
        "validation": {"every": 20, "cases": 1},
        "method_config": {
            "width": 4,
            "levels": 3,
            "steps": 40,
            "dice_weight": 1.0,
            "optimiser": {"kind": "adamw", "lr": 4e-3, "schedule": "one-cycle"},
        },
    },
}
"""RunConfig fields by preset: the paper's window, patch and folds; grid and batch are ours, phantoms stand for data."""
