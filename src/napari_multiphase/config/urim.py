"""Settings of SAM + URIM (PAPER 002)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from napari_multiphase.config.base import AugmentConfig, OptimiserConfig, Settings, Traits

EncoderKind = Literal["resnext50", "resnet50", "unet"]
Fusion = Literal["sp", "ilf", "dlf", "mp", "mw", "pa", "sam"]


TURN_SCALE_SHIFT = AugmentConfig(
    share=1.0,
    rotate_deg=(15.0, 0.0, 0.0),
    scale=(0.9, 1.1),
    isotropic=True,
    shift_vox=(0.0, 20.0, 20.0),
    gain=0.0,
    offset_hu=0.0,
    noise_hu=0.0,
    blur_share=0.0,
)
"""Shift, rotation and scaling, alike for both phases (PAPER 002, Sec. 3.3; their ranges are ours)."""


class EncoderConfig(Settings):
    """The five blocks B1 to B5 of a stream; B2 to B5 go to the fusion and the decoder."""

    kind: EncoderKind = "resnext50"
    """ResNeXt-50 32x4d (Sec. 3.1), ResNet-50 or a plain U-Net encoder (robustness rows of the paper)."""
    stem: int = Field(default=64, ge=4)
    """Channels of B1 of the residual encoders; every block shrinks with it. 64 as printed."""
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 1024)
    """Channels of B1 to B5 of "unet" alone. Ours."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Of B2 to B5; 256, 512, 1024, 2048 as printed."""
        return self.widths[1:] if self.kind == "unet" else tuple(self.stem * 4 * 2**level for level in range(4))

    @property
    def strides(self) -> tuple[int, ...]:
        """Of B2 to B5."""
        return (2, 4, 8, 16) if self.kind == "unet" else (4, 8, 16, 32)


class LiverConfig(Settings):
    """The residual U-Net that finds the liver (Sec. 3.3: "a simple ResUNet"), its training included."""

    widths: tuple[int, ...] = Field(default=(32, 64, 128, 256, 512), min_length=2, max_length=7)
    """Channels per resolution, finest first; each step halves the slice. Ours."""
    steps: int = Field(default=20_000, ge=0)
    """Of the stage "liver". Ours."""
    optimiser: OptimiserConfig = OptimiserConfig(kind="sgd", lr=1e-2, weight_decay=1e-4, schedule="poly")
    """Ours."""
    augment: AugmentConfig = AugmentConfig(rotate_deg=(15.0, 0.0, 0.0), scale=(0.9, 1.1), shift_vox=(0.0, 20.0, 20.0))
    """Ours, as for the tumour."""


class UrimConfig(Settings):
    """SAM + URIM: two streams joined at four levels, and inpainting of the features where the first result is unsure.

    Baselines and ablations are values of `fusion`, `inpainting` and `encoder`: MC-FCN is "dlf" on "unet" without
    inpainting, MW-UNet "mw" on "unet" without, PA-ResSeg "pa" on "resnet50" without.
    """

    encoder: EncoderConfig = EncoderConfig()
    """Of each stream."""
    slices: Literal[1, 3, 5] = 3
    """Neighbouring slices that make one input; the centre one is segmented (Sec. 3.1: 3)."""
    fusion: Fusion = "sam"
    """How the phases meet (Sec. 3.1; Tables 1 and 3). "sp": venous alone. "ilf": stacks concatenated. "dlf":
    two decoders, concatenated before the classifier. At four levels: "mp" sum, "mw" two trainable scalars, "pa" channel
    attention with a gate that depends on the input (the public code's is constant), "sam" modality selection."""
    inpainting: bool = True
    """Whether URIM refines the first result (Sec. 3.2)."""
    share_weights: bool = False
    """One encoder for both phases. The paper says Siamese, but has symbols and features per phase; separate is ours."""
    feedback: bool = True
    """Of "sam": F^(m) = (F + F_aggr) / 2 goes into the next block (Sec. 3.1)."""
    sam_branch: int = Field(default=32, ge=1)
    """Channels of each branch of SAM's pyramid. Ours."""
    mw_initial: float = 0.5
    """Start of MW's scalars. Ours."""
    pa_scale: float = 0.0
    """Start of PA's trainable scale. Its predecessor's public code."""
    decoder: int = Field(default=64, ge=1)
    """Channels per level of the decoder, and of the decision features X. Ours."""
    decision_stride: int = Field(default=1, ge=1)
    """Stride of X where the results are decided and inpainted; 1 is full size (Sec. 3.1). More is cheaper, ours."""
    lc_convs: int = Field(default=4, ge=1)
    """LC-Convs of URIM (Sec. 3.2: 4)."""
    detach_conf: bool = False
    """Stop the gradient of the final loss through the confidence map. Ours."""
    imagenet_weights: str | None = None
    """A safetensors file with torchvision's names for each stream of a residual encoder at full width; read when
    training starts afresh. Inputs stay in [0, 1] (Sec. 3.3). Optional in the paper."""

    region: Literal["liver", "all"] = "liver"
    """"liver": inputs are multiplied by the liver mask (Sec. 3.3). "all": no mask and no liver network, for data
    without liver labels. Ours."""
    liver: LiverConfig = LiverConfig()
    """The liver's own network."""
    train_mask: Literal["labels", "predicted"] = "labels"
    """Which liver mask the tumour network trains with: the labels (ours), or the liver network's (Sec. 3.3), which is
    what it meets later."""
    loss_region: Literal["image", "mask"] = "image"
    """Voxels of the two losses: all, or those in the liver mask (elsewhere the result is background anyway). Ours."""
    align: Literal["none", "tumour", "liver"] = "none"
    """On top of the study's transform, training moves each arterial patch in plane by whole voxels until the centres of
    both phases' tumour or liver labels within the patch coincide. (Sec. 3.3 moves whole scans by the centres of
    whole tumours.) It needs labels of both phases, so results measured on pairs aligned like this leak the truth;
    segmenting never does it. Ours: "none"."""

    steps: int = Field(default=75_000, ge=1)
    """Of the stage "tumour": 150 epochs of 500 steps. Ours."""
    optimiser: OptimiserConfig = OptimiserConfig(
        kind="sgd", lr=5e-4, weight_decay=1e-4, schedule="steps", drop_every=25_000, drop_factor=0.1
    )
    """SGD 5e-4, a tenth every 50 epochs (Sec. 3.3); momentum and weight decay are ours."""
    tumour_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the stage's patches that are centred on a tumour or liver voxel, each equally likely. Ours."""
    augment: AugmentConfig = AugmentConfig(rotate_deg=(15.0, 0.0, 0.0), scale=(0.9, 1.1), shift_vox=(0.0, 20.0, 20.0))
    """Shift, rotation, scale (Sec. 3.3, ranges ours); changes of intensity are ours, and not in the preset `paper`."""

    @model_validator(mode="after")
    def _sane(self) -> UrimConfig:
        if self.imagenet_weights and self.encoder.kind == "unet":
            raise ValueError("imagenet_weights are for the encoders resnext50 and resnet50")
        if self.imagenet_weights and (self.slices != 3 or self.fusion == "ilf"):
            raise ValueError("imagenet_weights need a first convolution of 3 channels: slices 3, and no fusion ilf")
        if self.region == "all" and self.train_mask == "predicted":
            raise ValueError("train_mask 'predicted' needs region 'liver'")
        if self.divisor % self.decision_stride:
            raise ValueError(f"decision_stride must divide {self.divisor}, the side that tiles are multiples of")
        return self

    @property
    def context(self) -> int:
        """Slices beyond either side of the one that is segmented."""
        return self.slices // 2

    @property
    def divisor(self) -> int:
        """Sides of a slice are multiples of this."""
        liver = 2 ** (len(self.liver.widths) - 1) if self.region == "liver" else 1
        return max(self.encoder.strides[-1], liver)

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        side = self.divisor
        return Traits(reads="pair", divisor=(1, side, side), context_vox=self.context, region=self.region == "liver")


LESIONS: dict[str, Any] = {"labels": [0, 1, 21], "window_hu": [-70.0, 180.0]}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        **LESIONS,
        "spacing_mm": [3.0, 0.7, 0.7],
        "patch_vox": [4, 512, 512],
        "batch": 4,
        "data": {"kind": "phantom", "cases": 121, "case_vox": [80, 512, 512], "pathologies": ["liver"]},
        "validation": {"folds": 5, "every": 5000},
        "method_config": {
            "train_mask": "predicted",
            "augment": TURN_SCALE_SHIFT.model_dump(mode="json"),
            "liver": {"augment": TURN_SCALE_SHIFT.model_dump(mode="json")},
        },
    },
    "workstation": {
        **LESIONS,
        "spacing_mm": [3.0, 1.0, 1.0],
        "patch_vox": [8, 256, 256],
        "batch": 8,
        "method_config": {
            "encoder": {"kind": "resnet50"},
            "decision_stride": 2,
            "train_mask": "predicted",
            "loss_region": "mask",
            "steps": 30_000,
            "optimiser": {"kind": "adamw", "lr": 3e-4, "weight_decay": 1e-4, "clip_norm": 12.0},
            "liver": {"steps": 10_000, "optimiser": {"kind": "adamw", "lr": 1e-3, "clip_norm": 12.0}},
        },
    },
    "smoke": {
        **LESIONS,
        "spacing_mm": [8.0, 6.0, 6.0],
        "patch_vox": [8, 32, 32],
        "batch": 2,
        "data": {"kind": "phantom", "cases": 4, "case_vox": [48, 56, 64], "pathologies": ["liver"]},
        "validation": {"every": 20, "cases": 1},
        "method_config": {
            "encoder": {"kind": "unet", "widths": [8, 12, 16, 16, 16]},
            "sam_branch": 4,
            "decoder": 8,
            "decision_stride": 2,
            "steps": 40,
            "optimiser": {"kind": "adamw", "lr": 3e-3, "clip_norm": 12.0},
            "liver": {
                "widths": [8, 12, 16],
                "steps": 30,
                "optimiser": {"kind": "adamw", "lr": 3e-3, "clip_norm": 12.0},
            },
        },
    },
}
"""RunConfig fields by preset. The paper's 121 patients are private: `paper` has as many phantoms in their place; its
spacing is ours. Sides of a tile are a training patch's too; a training patch has as many slices as the input needs."""
