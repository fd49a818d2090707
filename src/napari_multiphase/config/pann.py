"""Settings of PaNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from napari_multiphase.config.base import NO_AUGMENT, AugmentConfig, OptimiserConfig, Settings, Traits
from napari_multiphase.config.nets import DeepLabConfig, ResidualUNet3DConfig
from napari_multiphase.volume import Phase

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Of training and testing in 2-D (Sec. 4)."""
TURN_AND_SCALE = AugmentConfig(
    share=1.0,
    rotate_deg=(15.0, 0.0, 0.0),
    one_sided=True,
    scales=SCALES,
    isotropic=True,
    gain=0.0,
    offset_hu=0.0,
    noise_hu=0.0,
    blur_share=0.0,
)
"""Rotation by 0 to 15 degrees, as printed one-sided, and one of six scales; no flips (Sec. 4)."""


class PannConfig(Settings):
    """PaNN: full labels, partial labels and a prior on the sizes of organs (PAPER 004)."""

    form: Literal["2d", "3d"] = "3d"
    """DeepLab on axial slices, or a residual 3-D U-Net on patches (Sec. 4)."""
    deeplab: DeepLabConfig = DeepLabConfig()
    """Network of the 2-D form."""
    unet: ResidualUNet3DConfig = ResidualUNet3DConfig()
    """Network of the 3-D form."""
    supervision: Literal["full", "semi", "partial", "pann"] = "pann"
    """"full": fully labelled cases alone (stage 1). "semi": partly labelled ones without their labels. "partial": with
    them, no prior. "pann": with the prior (Table 1)."""
    phases: tuple[Phase, ...] = tuple(Phase)
    """Phases to learn from, by one network for all. Ours (the paper: portal venous)."""
    intensity: Literal["unit", "byte", "imagenet"] = "unit"
    """What the network is fed: the window mapped to [-1, 1] (ours), to [0, 255] (Sec. 4), or standardised as ImageNet
    weights of torchvision's expect (ours)."""
    encoder_weights: Path | None = None
    """Safetensors file of ImageNet weights for the 2-D encoder, named as torchvision does."""
    first_steps: int = Field(default=40_000, ge=0)
    """M1, steps on fully labelled cases alone (Algorithm 1; 80 000 in 3-D)."""
    second_steps: int = Field(default=30_000, ge=0)
    """M2, steps on both kinds (Algorithm 1; 100 000 in 3-D)."""
    first: OptimiserConfig = OptimiserConfig(kind="sgd", lr=2e-5, weight_decay=4e-5, schedule="poly")
    """Of stage 1: rate and "poly" from Sec. 4; momentum 0.9, weight decay and the power 0.9 left open."""
    second: OptimiserConfig = OptimiserConfig(kind="sgd", lr=1e-5, weight_decay=4e-5, schedule="constant")
    """Of stage 2: rate from Sec. 4; its schedule is left open."""
    partial_weight: float = Field(default=1.0, ge=0)
    """lambda_1, of J_P (Sec. 4)."""
    prior_weight: float = Field(default=0.1, ge=0)
    """lambda_2, of J_C (Sec. 4)."""
    dice_weight: float = Field(default=0.0, ge=0)
    """Weight of a soft Dice term beside J_L. 0 as printed; above it is ours, for short trainings."""
    teacher_every: int = Field(default=10_000, ge=1)
    """Steps between two refreshes of the pseudo-labels, the start of stage 2 being the first (Sec. 4)."""
    dual: Literal["sga", "log", "closed"] = "sga"
    """How the duals climb: "sga" as the paper; "log" the same in log(-nu); "closed" at their optimum for a moving
    average of the mean prediction, which short runs need. Ours but "sga"."""
    dual_rate: float = Field(default=2e-5, gt=0)
    """Step of the duals (Sec. 4); "closed" has none."""
    prior_momentum: float = Field(default=0.9, ge=0, lt=1)
    """Weight of the past in the moving average of "closed". Ours."""
    prior_draws: int = Field(default=50, ge=1)
    """Batches that q is counted over, drawn as stage 2 draws them. Ours (the paper counts whole scans)."""
    focus_share: float = Field(default=0.75, ge=0, le=1)
    """Share of stage 1's patches that are centred on a structure. Ours. Stage 2 centres none: q and the mean prediction
    must come from the same sampling, which centring on the labels there are would spoil."""
    augment: AugmentConfig = NO_AUGMENT
    """Of both stages. 3-D: none is stated."""
    test_scales: tuple[float, ...] = (1.0,)
    """2-D only: the softmax is averaged over these scales of the slice (Sec. 4)."""

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        if self.form == "2d":
            return Traits(divisor=(1, 16, 16))
        return Traits(divisor=(self.unet.divisor,) * 3)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.first_steps + (0 if self.supervision == "full" else self.second_steps)


ORGANS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14)
"""Background and the paper's 13 organs, by the label table."""
PARTLY: list[dict[str, Any]] = [{"cases": 40, "structures": [organ]} for organ in (2, 1, 6)]
"""A spleen, C liver, B pancreas, 40 cases each (Sec. 4)."""
DATA: dict[str, Any] = {"kind": "phantom", "cases": 150, "partly": PARTLY}
WINDOW: dict[str, Any] = {"window_hu": [-125.0, 275.0], "labels": list(ORGANS)}
"""Sec. 4."""
ADAM: dict[str, Any] = {"kind": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "schedule": "flat-linear", "clip_norm": 12.0}
SMOKE: dict[str, Any] = {
    "labels": [0, 1, 2, 3, 4, 5],
    "window_hu": [-125.0, 275.0],
    "spacing_mm": [8.0, 6.0, 6.0],
    "data": {"kind": "phantom", "cases": 6, "case_vox": [48, 56, 64], "partly": [{"cases": 2, "structures": [1]}]},
    "validation": {"every": 20, "cases": 1},
    "batch": 4,
}
SHORT: dict[str, Any] = {"first": ADAM, "second": ADAM, "dual": "closed", "prior_draws": 4, "teacher_every": 10}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        **WINDOW,
        "data": DATA,
        "spacing_mm": [3.0, 0.75, 0.75],
        "patch_vox": [1, 512, 512],
        "batch": 8,
        "method_config": {
            "form": "2d",
            "phases": ["venous"],
            "intensity": "byte",
            "augment": TURN_AND_SCALE.model_dump(),
            "test_scales": list(SCALES),
        },
    },
    "paper-3d": {
        **WINDOW,
        "data": DATA,
        "patch_vox": [64, 64, 64],
        "overlap": 0.5,
        "batch": 4,
        "method_config": {
            "form": "3d",
            "phases": ["venous"],
            "intensity": "byte",
            "first_steps": 80_000,
            "second_steps": 100_000,
            "first": {"kind": "sgd", "lr": 5e-4, "weight_decay": 4e-5, "schedule": "constant"},
            "second": {"kind": "sgd", "lr": 5e-4, "weight_decay": 4e-5, "schedule": "constant"},
        },
    },
    "workstation": {
        **WINDOW,
        "data": DATA,
        "patch_vox": [64, 96, 96],
        "batch": 4,
        "method_config": {
            "first_steps": 20_000,
            "second_steps": 20_000,
            "unet": {"widths": [32, 64, 128, 256], "norm": "instance"},
            "first": ADAM,
            "second": ADAM,
            "dual": "closed",
            "teacher_every": 5_000,
            "dice_weight": 1.0,
            "augment": AugmentConfig().model_dump(),
        },
    },
    "workstation-2d": {
        **WINDOW,
        "data": DATA,
        "spacing_mm": [3.0, 0.75, 0.75],
        "patch_vox": [1, 384, 384],
        "batch": 8,
        "accumulate": 2,
        "method_config": {
            "form": "2d",
            "first_steps": 20_000,
            "second_steps": 20_000,
            "first": ADAM,
            "second": ADAM,
            "dual": "closed",
            "teacher_every": 5_000,
            "dice_weight": 1.0,
            "augment": TURN_AND_SCALE.model_dump(),
            "test_scales": [0.75, 1.0, 1.25],
        },
    },
    "smoke": {
        **SMOKE,
        "patch_vox": [32, 48, 48],
        "method_config": {
            "first_steps": 40,
            "second_steps": 20,
            "unet": {"widths": [8, 16, 24, 32], "final_norm": True},
            **SHORT,
        },
    },
    "smoke-2d": {
        **SMOKE,
        "patch_vox": [1, 64, 64],
        "method_config": {
            "form": "2d",
            "first_steps": 30,
            "second_steps": 15,
            "deeplab": {"width": 8, "channels": 32, "low_channels": 8},
            "test_scales": [1.0, 1.25],
            **SHORT,
        },
    },
}
"""RunConfig fields by preset. The phantoms stand in for the paper's data sets, case for case."""
