"""Settings of PCN."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_multiphase.config.base import (
    NO_AUGMENT,
    AugmentConfig,
    OptimiserConfig,
    Rounds,
    Settings,
    Traits,
    TranslatorTraits,
)
from napari_multiphase.config.nets import (
    Fcn8sConfig,
    PatchGanConfig,
    ResnetGeneratorConfig,
    UNet3DConfig,
    UNetGenerator3DConfig,
)
from napari_multiphase.volume import Phase

SLICES = 3
"""Neighbouring slices that RSTN and its translators read and write (as its predecessor's do)."""
CAFFE_SGD: dict[str, Any] = {"kind": "sgd", "lr": 1e-5, "momentum": 0.99, "weight_decay": 5e-4, "bias_factor": 2.0}


class RstnConfig(Settings):
    """RSTN, the paper's segmentor of one target: coarse network, saliency transformation, fine network (Sec. 3)."""

    net: Fcn8sConfig = Fcn8sConfig()
    """Coarse and fine network, each with its own weights. RSTN."""
    saliency_bias: float = 1.0
    """Of the saliency's last layer, whose weights start at 0: with 1 the image goes through unchanged. RSTN's original
    (its port: 1, 1.5, 2)."""
    margin_vox: int = Field(default=20, ge=0)
    """Around the target's bounding box, which the fine network sees. RSTN."""
    random_margin_vox: tuple[int, int] = (0, 40)
    """In training a share of the boxes has a margin on each side drawn from these. RSTN."""
    random_share: float = Field(default=0.5, ge=0, le=1)
    """That share. RSTN."""
    separate_steps: int = Field(default=80_000, ge=0)
    """Steps in which the label gives the box (Sec. 4.1, "separate")."""
    raw_share: float = Field(default=0.25, ge=0, le=1)
    """Share of them in which the fine network sees the raw image (mode S), and not yet the weighted one (I). RSTN."""
    joined_steps: int = Field(default=10_000, ge=0)
    """Steps in which the coarse result gives the box (mode J; Sec. 4.1, "joint", which is not PCN's joint stage)."""
    optimiser: OptimiserConfig = OptimiserConfig(**CAFFE_SGD, schedule="constant")
    """Of both (Sec. 4.1: 1e-5); momentum, decay and the biases' rate are RSTN's. Whether the rate's decay covers them
    is not said; ours: no."""
    fast_factor: float = Field(default=10.0, gt=0)
    """Rate of the fine network and the saliency over the coarse network's. RSTN."""
    most_rounds: int = Field(default=10, ge=1)
    """Rounds of testing after the coarse one. RSTN."""
    stop_dice: float = Field(default=0.95, gt=0, le=1)
    """Testing stops where two masks in a row have this Dice. RSTN, recalled."""
    least_part: float = Field(default=0.5, ge=0, le=1)
    """Connected parts of a mask below this share of the largest are dropped in every round. RSTN."""


class JudgeConfig(PatchGanConfig):
    """PCN's discriminators; the form decides about `axes` and `in_channels`."""

    width: int = Field(default=64, ge=1)
    """Channels of the first convolution, doubled by each further one up to eightfold. CycleGAN."""


class TranslationConfig(Settings):
    """The translators G_AV and G_VA, what judges them, and Eq. 4's weights."""

    resnet: ResnetGeneratorConfig = ResnetGeneratorConfig()
    """Translators of form "rstn", stack by stack (Sec. 3)."""
    unet: UNetGenerator3DConfig = UNetGenerator3DConfig()
    """Translators of form "unet3d". Ours."""
    judge: JudgeConfig = JudgeConfig()
    """The discriminators, on stacks of slices or on volumes."""
    judge_moves: int = Field(default=1, ge=1)
    """Steps of the discriminators for each of the translators' and, beside them, the segmentors'; a step of training is
    one of theirs. CycleGAN: 1; above it is ours, for short trainings."""
    pool: int = Field(default=50, ge=1)
    """Images of each phase's history. CycleGAN."""
    steps: int = Field(default=200_000, ge=0)
    """Steps in which the translators train alone. CycleGAN: 200 epochs; of 1000 steps, ours."""
    optimiser: OptimiserConfig = OptimiserConfig(kind="adam", lr=2e-4, betas=(0.5, 0.999), schedule="flat-linear")
    """Of translators and of discriminators in these steps. CycleGAN."""
    joint_steps: int = Field(default=30_000, ge=0)
    """Steps of PCN's joint stage (Sec. 4.1, section 2)."""
    joint_optimiser: OptimiserConfig = OptimiserConfig(kind="adam", lr=2e-5, betas=(0.5, 0.999), schedule="constant")
    """Of translators and of discriminators in the joint stage. Ours."""
    joint_segmentors: OptimiserConfig = OptimiserConfig(
        **CAFFE_SGD, schedule="steps", drop_every=10_000, drop_factor=0.8
    )
    """Of the segmentors in the joint stage: 1e-5, times 0.8 every 10,000 steps (Sec. 4.1)."""
    joint_lambda: float = Field(default=0.5, ge=0, le=1)
    """lambda of Eq. 4 in the joint stage: weight of real images, synthetic ones having the rest (Sec. 4.1: in (0, 1)).
    Where one phase is labelled, of all stages. Ours: 0.5."""
    section1_lambda: float = Field(default=1.0, ge=0, le=1)
    """lambda before the joint stage (Sec. 4.1: 1); below 1 the segmentors see images of the frozen translators too."""
    gen_seg_sign: Literal[-1, 0, 1] = 1
    """Of the segmentation terms in what the translators minimise: 1 works together, -1 is Eq. 2's "max" as printed, 0
    leaves them out. Ours: 1."""
    cycle_weight: float = Field(default=10.0, ge=0)
    """Of the mean L1 of the cycle. CycleGAN."""
    identity_weight: float = Field(default=0.0, ge=0)
    """Of the mean L1 between an image and its translation to its own phase. CycleGAN has 5 as an option. Ours: off."""
    branch_weight: float = Field(default=0.5, ge=0, le=1)
    """Segmenting: weight of f on the real image against the other phase's f on the synthetic one (Sec. 3; Fig. 3); with
    1 there is no synthetic branch."""

    @property
    def trains(self) -> bool:
        """Whether any stage moves the translators."""
        return bool(self.steps or self.joint_steps)


class PcnConfig(Settings):
    """PCN: a segmentor per phase, a translator each way, one objective (PAPER 000)."""

    form: Literal["unet3d", "rstn"] = "unet3d"
    """"rstn": the paper's, on stacks of three slices, one target. "unet3d": many structures, in 3-D (Sec. 3 leaves the
    segmentor open). It chooses the networks and the segmentation loss, nothing else. Ours: "unet3d"."""
    segmentor: UNet3DConfig = UNet3DConfig()
    """Each phase's network of form "unet3d"; both have their own weights. Ours."""
    rstn: RstnConfig = RstnConfig()
    """Each phase's network of form "rstn"."""
    translation: TranslationConfig | None = None
    """The translators; without them the segmentors stand alone (the paper's RSTN rows)."""
    labelled: tuple[Phase, ...] = tuple(Phase)
    """Phases whose labels are learnt from. With one of them, the other phase's segmentor learns from synthetic images
    (Sec. 3, single-phase data); or, with neither translation nor shared steps, stays as the model was that training
    starts from."""
    mixed: bool = False
    """One segmentor for both phases (Table 3's mixed-phase training)."""
    shares: dict[Phase, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    """Share of the cases that give each phase, all where it is not named; of the arterial phase the first ones, of the
    venous the last. Table 3 varies their number."""
    imagenet_weights: str | None = None
    """A safetensors file of VGG-16 with torchvision's names, for the networks of form "rstn"; read when training starts
    afresh. RSTN starts from PASCAL."""
    translators_from: str | None = None
    """Name or folder of a model whose translators are the start. Without steps of their own they stay as they are
    (Table 4's PCN-1)."""

    shared_steps: int = Field(default=3000, ge=0)
    """Form "unet3d": steps in which one segmentor sees all labelled phases (the common start of f_A and f_V). Ours."""
    phase_steps: int = Field(default=700, ge=0)
    """Form "unet3d": steps of each phase's own segmentor after that. Ours."""
    optimiser: OptimiserConfig = OptimiserConfig(kind="adamw", lr=3e-3, weight_decay=1e-4, clip_norm=12.0)
    """Form "unet3d": of the shared stage. Ours (the paper: SGD)."""
    phase_lr_factor: float = Field(default=0.4, gt=0)
    """The phases' own stages start from this share of the rate. Ours."""
    augment: AugmentConfig = AugmentConfig()
    """Of all stages. Ours."""
    reviewed_weight: float = Field(default=1.0, ge=1)
    """Form "unet3d" on real images: of voxels that a person drew or looked at, over predictions that stand in for
    labels in corrected cases. Ours."""
    keep_start: float = Field(default=0.0, ge=0, lt=1)
    """Form "unet3d": share of a segmentor's weights before its stage in those after it (the mean of both, Wortsman et
    al. 2022), so that little is forgotten. Ours; 0: what was trained."""
    held: tuple[int, ...] = ()
    """Form "unet3d" on real images: ids of structures of which a segmentor goes on saying what it said before its stage
    wherever the labels say nothing (`losses.segmentation.hold_loss`). Ours, for corrected cases."""

    @model_validator(mode="after")
    def _sane(self) -> PcnConfig:
        if not self.labelled or len(set(self.labelled)) != len(self.labelled):
            raise ValueError("labelled must name the arterial phase, the venous one, or both")
        if self.mixed and self.translation is not None:
            raise ValueError("mixed: one segmentor for both phases needs no translation; leave one of them out")
        left = self.form == "unet3d" and not self.shared_steps  # as the model that training starts from has it
        if len(self.labelled) == 1 and not (self.mixed or left) and self.translation is None:
            raise ValueError("labelled: with one phase the other's segmentor needs translation (or set mixed)")
        if self.translators_from and self.translation is None:
            raise ValueError("translators_from needs translation")
        told = self.translation is not None and self.translation.trains and self.translation.judge.structures
        if told and (self.form == "rstn" or len(self.labelled) == 1):
            raise ValueError("translation.judge.structures needs form unet3d and labels of both phases")
        if self.imagenet_weights and (self.form != "rstn" or self.rstn.net.width_mult != 1):
            raise ValueError("imagenet_weights are for form rstn with width_mult 1")
        if self.translation is not None and {self.translation.resnet.in_channels, self.resnet_out} != {SLICES}:
            raise ValueError(f"translation.resnet: in_channels and out_channels are {SLICES}, the slices of a stack")
        return self

    @property
    def resnet_out(self) -> int:
        """Slices that the 2-D translators write."""
        return SLICES if self.translation is None else self.translation.resnet.out_channels

    @property
    def discriminator(self) -> PatchGanConfig:
        """Of each phase; only with translation."""
        assert self.translation is not None
        kind = {"axes": 2, "in_channels": SLICES} if self.form == "rstn" else {"axes": 3, "in_channels": 1}
        return self.translation.judge.model_copy(update=kind)

    @property
    def divisor(self) -> tuple[int, int, int]:
        """(z, y, x); each side of a tile is a multiple of it."""
        if self.form == "rstn":
            return (1, 1, 1) if self.translation is None else self.translation.resnet.divisor
        own = (self.segmentor.divisor,) * 3
        other = own if self.translation is None else self.translation.unet.divisor
        return max(own, other)  # powers of two

    @property
    def branch_weight(self) -> float:
        """Of the real branch; 1 without translation."""
        return 1.0 if self.translation is None else self.translation.branch_weight

    def with_branch_weight(self, weight: float) -> PcnConfig:
        """The same networks, the real branch weighing `weight`; only with translation."""
        assert self.translation is not None
        return self.model_copy(update={"translation": self.translation.model_copy(update={"branch_weight": weight})})

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        weight = self.branch_weight
        members = 2 if weight < 1 else 1
        least = 1 if self.translation is None else self.discriminator.least
        if self.form == "unet3d":
            return Traits(
                divisor=self.divisor, members=members, branch_weight=weight, least_patch_vox=(least, least, least)
            )
        rounds = Rounds(self.rstn.most_rounds, self.rstn.stop_dice, self.rstn.least_part)
        context = SLICES - 1  # a slice lies in the stacks around itself and its neighbours
        return Traits(
            divisor=self.divisor,
            context_vox=context,
            members=members,
            rounds=rounds,
            branch_weight=weight,
            least_patch_vox=(1, least, least),
        )

    @property
    def translator_traits(self) -> TranslatorTraits | None:
        """What Translate must know."""
        if self.translation is None:
            return None
        if self.form == "rstn":
            return TranslatorTraits("slices", self.translation.resnet.divisor, (SLICES // 2, 0, 0))
        return TranslatorTraits("volume", self.translation.unet.divisor, self.translation.unet.context_vox)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        apart = len(self.labelled) * self.phase_steps if self.section1_apart else self.phase_steps
        own = self.shared_steps + apart * (not self.mixed)
        if self.form == "rstn":
            own = self.rstn.separate_steps + self.rstn.joined_steps
        return own + (0 if self.translation is None else self.translation.steps + self.translation.joint_steps)

    @property
    def section1_lambda(self) -> float:
        """lambda before the joint stage."""
        if self.translation is None:
            return 1.0
        return self.translation.section1_lambda if len(self.labelled) > 1 else self.translation.joint_lambda

    @property
    def section1_apart(self) -> bool:
        """Whether each phase's 3-D segmentor has a stage of its own: real images alone need no common step."""
        return self.section1_lambda == 1 and (len(self.labelled) > 1 or self.translation is None)


SMOKE: dict[str, Any] = {
    "labels": [0, 1, 2, 5, 18],
    "spacing_mm": [8.0, 6.0, 6.0],
    "patch_vox": [32, 48, 48],
    "data": {"kind": "phantom", "cases": 4, "case_vox": [48, 56, 64]},
    "validation": {"every": 20, "cases": 1},
}
ADAMW: dict[str, Any] = {"kind": "adamw", "lr": 3e-3, "weight_decay": 1e-4, "clip_norm": 12.0}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "labels": [0, 6],
        "window_hu": [-125.0, 275.0],
        "spacing_mm": [3.0, 0.75, 0.75],
        "patch_vox": [8, 512, 512],
        "data": {"kind": "phantom", "cases": 200, "case_vox": [96, 512, 512]},
        "validation": {"folds": 4, "every": 10_000},
        "method_config": {"form": "rstn", "translation": {}, "augment": NO_AUGMENT.model_dump(mode="json")},
    },
    "workstation": {
        "batch": 2,
        "accumulate": 2,
        "patch_vox": [96, 128, 128],
        "method_config": {
            "shared_steps": 20_000,
            "phase_steps": 5_000,
            "translation": {
                "unet": {"widths": [16, 32, 64, 128], "residual": True},
                "judge": {"width": 32, "halvings": 2},
                "pool": 20,
                "steps": 20_000,
                "joint_steps": 10_000,
                "joint_segmentors": {**ADAMW, "lr": 3e-4, "schedule": "flat-linear"},
            },
        },
    },
    "workstation-segmentors": {
        "batch": 2,
        "patch_vox": [96, 128, 128],
        "method_config": {"shared_steps": 20_000, "phase_steps": 5_000},
    },
    "smoke": {
        **SMOKE,
        "method_config": {
            "segmentor": {"widths": [6, 12, 16]},
            "shared_steps": 30,
            "phase_steps": 10,
            "translation": {
                "unet": {"widths": [8, 16], "norm": "none"},
                "judge": {"width": 4, "halvings": 1},
                "pool": 4,
                "steps": 20,
                "optimiser": {"kind": "adam", "lr": 2e-3, "betas": [0.5, 0.999], "schedule": "flat-linear"},
                "joint_steps": 10,
                "joint_segmentors": {**ADAMW, "lr": 1e-3, "schedule": "flat-linear"},
            },
        },
    },
    "smoke-segmentors": {
        **SMOKE,
        "method_config": {"segmentor": {"widths": [6, 12, 16]}, "shared_steps": 40, "phase_steps": 10},
    },
    "smoke-rstn": {
        **SMOKE,
        "labels": [0, 1],
        "patch_vox": [8, 48, 48],
        "method_config": {
            "form": "rstn",
            "rstn": {
                "net": {"width_mult": 0.0625, "dropout": 0.0},
                "margin_vox": 4,
                "random_margin_vox": [0, 8],
                "separate_steps": 30,
                "raw_share": 0.5,
                "joined_steps": 10,
                "optimiser": {"kind": "adamw", "lr": 3e-4, "schedule": "constant"},
                "fast_factor": 1.0,
                "most_rounds": 2,
            },
            "translation": {
                "resnet": {"width": 4, "blocks": 1},
                "judge": {"width": 4, "halvings": 1},
                "pool": 4,
                "steps": 10,
                "joint_steps": 5,
                "joint_segmentors": {"kind": "adamw", "lr": 1e-4, "schedule": "constant"},
            },
            "augment": NO_AUGMENT.model_dump(mode="json"),
        },
    },
}
"""RunConfig fields by preset. The paper's patients are private: `paper` has 200 phantoms in their place, and the
pancreas as its target; its spacing is ours."""
