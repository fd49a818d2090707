"""Settings of the cycle- and shape-consistent GAN (PAPER 003)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from napari_multiphase.config.base import (
    NO_AUGMENT,
    AugmentConfig,
    OptimiserConfig,
    Settings,
    Traits,
    TranslatorTraits,
)
from napari_multiphase.config.nets import PatchGanConfig, UNetGenerator3DConfig
from napari_multiphase.volume import Phase


class PlainUNet3DConfig(Settings):
    """The segmentor: a 3-D U-Net without any normalisation (the paper)."""

    widths: tuple[int, ...] = Field(default=(16, 32, 64, 128), min_length=2, max_length=6)
    """Channels per resolution, finest first: three halvings (the paper); the widths are ours."""

    @property
    def divisor(self) -> int:
        """Every side is a multiple of this, or padded to one."""
        return 2 ** (len(self.widths) - 1)


class PhaseShares(Settings):
    """A share of each phase's cases, at least one: of the arterial phase the first ones, of the venous the last."""

    arterial: float = Field(default=1.0, gt=0, le=1)
    """Of the cases with an arterial scan."""
    venous: float = Field(default=1.0, gt=0, le=1)
    """Of the cases with a venous scan."""

    @property
    def by_phase(self) -> dict[Phase, float]:
        """As a draw takes it."""
        return {Phase.ARTERIAL: self.arterial, Phase.VENOUS: self.venous}


class CsganConfig(Settings):
    """Two generators, two discriminators and two segmentors on whole crops of phases that need not be paired."""

    segmentor: PlainUNet3DConfig = PlainUNet3DConfig()
    """S of each phase."""
    generator: UNetGenerator3DConfig = UNetGenerator3DConfig()
    """G of each phase, named by what it makes."""
    discriminator: PatchGanConfig = PatchGanConfig()
    """D of each phase; widths 32 to 256 and a field of 70 voxels are ours."""
    regime: Literal["joint", "ada", "real"] = "joint"
    """"joint": everything together in the last stage (the paper). "ada": there, generators that never met a segmentor
    stay as they are, and the segmentors learn from what they make too (its baseline ADA). "real":
    segmentors of real images alone (its baseline R); no generators."""
    segmentor_steps: int = Field(default=7100, ge=0)
    """The segmentors alone, on real images: 100 epochs (the paper) of 71 crops."""
    generator_steps: int = Field(default=4260, ge=0)
    """Generators and discriminators alone, without shape consistency: 60 epochs (the paper)."""
    joint_steps: int = Field(default=7100, ge=0)
    """The last stage, of every regime: 50 epochs and 50 of decay (the paper)."""
    cycle_weight: float = Field(default=10.0, ge=0)
    """lambda, of L_cyc (the paper)."""
    shape_weight: float = Field(default=1.0, ge=0)
    """gamma, of L_shape in the last stage (the paper); 0 leaves it out."""
    real_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Weight of real images in the segmentors' loss, the rest going to synthetic and reconstructed ones in halves;
    null: a third each (ours). Of "ada", 0.5: half of a batch is real (the paper)."""
    real_share: PhaseShares = PhaseShares()
    """Of the cases, those from whose real images a phase's own segmentor learns, and from their reconstructions (the
    paper: 14 % and more)."""
    source_share: PhaseShares = PhaseShares()
    """Of the cases, those that are translated, and that the discriminators know as real (the paper: 23 % and more)."""
    pool: int = Field(default=50, ge=1)
    """Generated images that each discriminator may be shown again. Zhu et al. 2017."""
    crop_vox: tuple[int, int, int] | None = None
    """(D, H, W) of a training crop where it is not the run's `patch_vox`: sides of any length, padded inside by
    repeated voxels; losses see the crop alone (the paper: 86 x 112 x 112)."""
    focus_share: float = Field(default=0.75, ge=0, le=1)
    """Share of crops that are centred on a structure, for cases larger than a crop. Ours."""
    dice_weight: float = Field(default=0.0, ge=0)
    """Weight of a soft Dice beside the segmentors' cross-entropy. 0 as printed; above it is ours, for short
    trainings."""
    discriminator_moves: int = Field(default=1, ge=1)
    """Steps of the discriminators for each of the generators' and, beside them, the segmentors'; a step of training is
    one of theirs. 1 (the paper); above it is ours, for short trainings."""
    gan_optimiser: OptimiserConfig = OptimiserConfig(kind="adam", lr=2e-4, betas=(0.5, 0.999), schedule="constant")
    """Of generators and discriminators, each its own (the paper)."""
    segmentor_optimiser: OptimiserConfig = OptimiserConfig(kind="adam", lr=2e-4, schedule="constant")
    """Of the segmentors (the paper); Adam's own betas are ours."""
    joint_schedule: Literal["constant", "flat-linear", "one-cycle"] = "flat-linear"
    """How all rates run over the last stage: flat, then linearly to 0 (the paper)."""
    augment: AugmentConfig = NO_AUGMENT
    """Of every stage. None is stated."""

    @property
    def divisor(self) -> int:
        """Of a tile: what both kinds of network take without padding."""
        return max(self.segmentor.divisor, self.generator.divisor[0])

    @property
    def traits(self) -> Traits:
        """What the engine must know."""
        least = 1 if self.regime == "real" or self.crop_vox else self.discriminator.least
        return Traits(divisor=(self.divisor,) * 3, least_patch_vox=(least,) * 3)

    @property
    def translator_traits(self) -> TranslatorTraits | None:
        """What Translate must know; None without generators."""
        if self.regime == "real":
            return None
        return TranslatorTraits("volume", self.generator.divisor, self.generator.context_vox)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return self.segmentor_steps + self.joint_steps + (0 if self.regime == "real" else self.generator_steps)


ADAM: dict[str, Any] = {"kind": "adam", "lr": 1e-3, "schedule": "constant", "clip_norm": 12.0}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "labels": [0, 1, 2, 3, 4, 5],
        "data": {"kind": "phantom", "cases": 142, "case_vox": [160, 224, 256]},
        "spacing_mm": [1.5, 1.5, 1.5],
        "patch_vox": [88, 112, 112],
        "validation": {"folds": 2, "every": 1000},
        "method_config": {"crop_vox": [86, 112, 112]},
    },
    "workstation": {
        "patch_vox": [64, 96, 96],
        "data": {"kind": "phantom", "cases": 96},
        "method_config": {
            "segmentor": {"widths": [24, 48, 96, 192]},
            "segmentor_steps": 20_000,
            "generator_steps": 5_000,
            "joint_steps": 15_000,
            "segmentor_optimiser": ADAM,
            "dice_weight": 1.0,
            "augment": AugmentConfig().model_dump(),
        },
    },
    "smoke": {
        "labels": [0, 1, 2, 5, 18],
        "spacing_mm": [8.0, 6.0, 6.0],
        "patch_vox": [24, 40, 40],
        "data": {"kind": "phantom", "cases": 4, "case_vox": [48, 56, 64]},
        "validation": {"every": 20, "cases": 1},
        "method_config": {
            "segmentor": {"widths": [6, 8, 12, 16]},
            "generator": {"widths": [4, 6, 8, 12]},
            "discriminator": {"width": 4, "halvings": 2},
            "segmentor_steps": 30,
            "generator_steps": 20,
            "joint_steps": 20,
            "pool": 10,
            "segmentor_optimiser": {**ADAM, "lr": 3e-3},
            "dice_weight": 1.0,
        },
    },
}
"""RunConfig fields by preset. Phantoms stand in for the paper's hearts: as many cases, crops of the same size, as many
structures; its window and its 4 212 further scans are not known."""
