"""Cycle- and shape-consistent GAN: translating and segmenting phases that need not be paired (PAPER 003).

Implements:

* the generators, 3-D U-Nets -> ``nets.translators.UNetGenerator3D``
* the discriminators, one judgement per patch -> ``nets.patchgan.PatchGan``
* the segmentors, without normalisation -> ``PlainUNet3D``
* L_GAN and L_cyc -> ``losses.adversarial.generator_loss``, ``losses.adversarial.cycle_loss``
* L_shape, S of the synthetic against the labels of its source -> ``CsganObjective.shape_loss``
* Eq. 3 the generators' objective -> ``CsganObjective.generator_terms``
* in words, the segmentors' objective, online on synthetic images too -> ``CsganObjective.segmentor_terms``
* the three stages -> ``CsganObjective.stages``
* Table 1 S-score -> ``s_score``
* Figure 8 gap analysis -> ``metrics.gap.gap_reduction``
* Tables 1, 2 and the sweeps, by regime, shape weight and shares -> ``config.csgan.CsganConfig``

Symbols: x_A, x_V (B, 1, D, H, W) arterial and venous crops, of cases of their own, the window mapped to [-1, 1]; y_A,
y_V (B, D, H, W) channels; G_V makes venous images of arterial ones, and G_A the reverse: generators, discriminators
and segmentors are all named by the phase of the image that they make or read. S_A, S_V give logits (B, K, D, H, W).

Deviations: arterial and venous CT instead of CT and MRI; no early stopping (held-out Dice is looked at instead);
crops lie where the draw puts them, not around the heart. ``dice_weight`` above 0 adds a soft Dice to the segmentors'
loss that the paper does not have; ``discriminator.structures`` shows the labels to the discriminators, and
``discriminator_moves`` lets them move more often than the rest: both for trainings of an hour. Of "ada", the frozen
generators translate every crop when it is needed, not once offline: the same images, unless crops change. Its halves
are weights of the two kinds of loss, not items of a batch.
What the paper leaves open and what we took: LSGAN, a mean L1, widths (see ``config.csgan``); real, synthetic and
reconstructed images weigh the same in the segmentors' loss, which the paper states in words alone; sides are padded to
multiples of 8 by their last voxels, at every network's entry, and cut again; discriminators and segmentors of a step
learn from what the generators made before they moved. The remark that any permutation or rotation T leaves the cycle
closed holds for the pair G_A T and T^-1 G_V (as printed, with T^-1 after G_V's input, only where T commutes with G).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import CsganConfig, RunConfig, Traits, TranslatorTraits, method_config
from napari_multiphase.config.csgan import PlainUNet3DConfig
from napari_multiphase.errors import UserError
from napari_multiphase.labels import UNKNOWN
from napari_multiphase.losses.adversarial import ImagePool, cycle_loss, discriminator_loss, generator_loss
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss, mean_cross_entropy
from napari_multiphase.methods.base import Batch, Draw, Method, Objective, Segmentor, Stage, Translator, Turn
from napari_multiphase.metrics import Overlap
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.nets.initial import he_weights
from napari_multiphase.nets.instance_norm import InstanceNorm, norms_of
from napari_multiphase.nets.patchgan import PatchGan, with_labels
from napari_multiphase.nets.translators import UNetGenerator3D
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS

# --- blocks --------------------------------------------------------------------------------------------------------


class TwoConvs(nn.Sequential):
    """Two 3x3x3 convolutions with ReLU: (B, i, D, H, W) -> (B, o, D, H, W)."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__(Conv3d(i, o, 3, padding=1), nn.ReLU(), Conv3d(o, o, 3, padding=1), nn.ReLU())


class PlainUNet3D(nn.Module):
    """(B, 1, D, H, W) in [-1, 1] -> logits (B, classes, D, H, W); each side a multiple of ``config.divisor``.

    Max pooling down, nearest upsampling and the level's own maps up, and no normalisation anywhere: its judgement of a
    voxel must not depend on how bright the rest of a synthetic image came out.
    """

    def __init__(self, config: PlainUNet3DConfig, classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.down = nn.ModuleList(TwoConvs(i, o) for i, o in zip((1, *widths), widths, strict=False))
        steps = list(zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(TwoConvs(coarse + fine, fine) for fine, coarse in reversed(steps))
        self.head = nn.Conv3d(widths[0], classes, 1)
        he_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.down[0](x)]
        for down in self.down[1:]:
            maps.append(down(F.max_pool3d(maps[-1], 2)))
        y = maps.pop()
        for up in self.up:
            y = up(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), maps.pop()], dim=1))
        return self.head(y)


def padded(net: Callable[[Tensor], Tensor], x: Tensor, divisor: int) -> Tensor:
    """`net` of x (B, C, D, H, W), whose last voxels are repeated until each side is a multiple of `divisor`; the result
    is cut back to x's grid."""
    short = [-side % divisor for side in x.shape[2:]]
    if not any(short):
        return net(x)
    before = [n // 2 for n in short]
    ends = [width for n, first in zip(reversed(short), reversed(before), strict=True) for width in (first, n - first)]
    y = net(F.pad(x, ends, mode="replicate"))
    for axis, (first, side) in enumerate(zip(before, x.shape[2:], strict=True), start=2):
        y = y.narrow(axis, first, side)
    return y


# --- network -------------------------------------------------------------------------------------------------------


class CsganNets(nn.ModuleDict):
    """S_A and S_V as "arterial" and "venous", G_A and G_V (regime "real" has none) as "to_arterial" and "to_venous"."""

    def __init__(self, config: CsganConfig, classes: int) -> None:
        nets: dict[str, nn.Module] = {phase.value: PlainUNet3D(config.segmentor, classes) for phase in Phase}
        if config.regime != "real":
            nets |= {f"to_{phase.value}": UNetGenerator3D(config.generator) for phase in Phase}
        super().__init__(nets)


@dataclass(frozen=True)
class CsganSegmentor:
    """S_A and S_V, ready to be run over tiles."""

    config: CsganConfig
    nets: nn.Module

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w)."""
        return padded(self.nets[phase.value], x, self.config.segmentor.divisor)  # type: ignore[index]

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The only member's means."""
        return means[0]


@dataclass(frozen=True)
class CsganTranslator:
    """G_A and G_V, ready to be run over tiles."""

    config: CsganConfig
    nets: nn.Module

    @property
    def traits(self) -> TranslatorTraits:
        """As of the settings; UserError for regime "real", which has no generators."""
        traits = self.config.translator_traits
        if traits is None:
            raise UserError("this csgan model was trained without generators (regime 'real'): it does not translate")
        return traits

    def translate(self, to: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) of the other phase in [-1, 1] -> the same of phase `to`."""
        return padded(self.nets[f"to_{to.value}"], x, self.config.generator.divisor[0])  # type: ignore[index]

    def norms(self, to: Phase) -> Sequence[InstanceNorm]:
        """Of the generator, in running order."""
        return norms_of(self.nets[f"to_{to.value}"])  # type: ignore[index]


@torch.no_grad()
def s_score(judge: Segmentor, translator: Translator, to: Phase, x: Tensor, y: Tensor) -> float:
    """S-score of one volume: mean Dice, over the classes present, of what an independent segmentor finds in the
    synthetic image against the labels of its *source*.

    Parameters
    ----------
    judge : trained on real images of phase `to` alone.
    to : the synthetic phase, by which the score is named.
    x, y : the source, (1, 1, D, H, W) in [-1, 1], and its channels (1, D, H, W); 254 and 255 are left out.
    """
    found = judge.logits(to, translator.translate(to, x)).argmax(1)[0]
    known = y[0] < UNKNOWN
    found, truth = found[known], y[0][known]
    present = [channel for channel in truth.unique().tolist() if channel]
    scores = [Overlap.of((found == c).numpy(), (truth == c).numpy()).dice for c in present]
    return float(sum(scores) / len(scores)) if scores else float("nan")


# --- objective -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What the generators make of a batch: per phase the synthetic image G_p(x_q), and G_p(G_q(x_p))."""

    synthetic: Mapping[Phase, Tensor]
    reconstructed: Mapping[Phase, Tensor]

    def detach(self) -> Made:
        """Without their way back to the generators."""
        return Made(*({p: x.detach() for p, x in of.items()} for of in (self.synthetic, self.reconstructed)))


class CsganObjective(Objective):
    """What each turn minimises; discriminators and their histories lie beside the networks of the model."""

    def __init__(self, config: CsganConfig, classes: int, crop_vox: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.crop_vox = config, crop_vox
        self.nets = CsganNets(config, classes)
        if config.regime != "real":
            channels = 1 + config.discriminator.structures
            self.discriminators = nn.ModuleDict({p.value: PatchGan(config.discriminator, classes) for p in Phase})
            self.pools = nn.ModuleDict({p.value: ImagePool(config.pool, (channels, *crop_vox)) for p in Phase})
        self.dice_cross_entropy = DiceCrossEntropyLoss()
        self._made: list[tuple[Batch, Made]] = []

    # --- stages ---

    def stages(self) -> Sequence[Stage]:
        """The segmentors alone, generators and discriminators alone, then what the regime says."""
        config = self.config
        real, source = (self._draw(shares.by_phase) for shares in (config.real_share, config.source_share))
        both = source if config.source_share == config.real_share else replace(source, also=real)
        segmentors = [Turn("segmentors", tuple(f"nets.{p.value}" for p in Phase), config.segmentor_optimiser)]
        every = config.discriminator_moves
        generators = [
            Turn("generators", tuple(f"nets.to_{p.value}" for p in Phase), config.gan_optimiser, every=every),
            Turn("discriminators", ("discriminators",), config.gan_optimiser),
        ]
        together = [*generators, *(replace(turn, every=every) for turn in segmentors)]
        turns = together if config.regime == "joint" else segmentors
        last = tuple(self._last(turn) for turn in turns)
        first = Stage("segmentors", config.segmentor_steps, tuple(segmentors), real)
        if config.regime == "real":
            return [first, Stage("real", config.joint_steps, last, real)]
        return [
            first,
            Stage("generators", config.generator_steps, tuple(generators), source),
            Stage(config.regime, config.joint_steps, last, both),
        ]

    def _draw(self, shares: Mapping[Phase, float]) -> Draw:
        """Items of both phases, from these shares of their cases."""
        config = self.config
        augment, crop = config.augment, self.crop_vox
        return Draw("unpaired", focus_share=config.focus_share, patch_vox=crop, augment=augment, shares=shares)

    def _last(self, turn: Turn) -> Turn:
        schedule = {"schedule": self.config.joint_schedule}
        return replace(turn, optimiser=turn.optimiser.model_copy(update=schedule))

    def before_step(self, stage: Stage, step: int) -> None:
        """What the generators made in the step before is forgotten."""
        self._made = []

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """Of the turn's name; without generators, or before they are trained, segmentors see real images alone."""
        if turn.name == "generators":
            made = self.translated(batch)
            self._made.append((batch, made.detach()))
            return self.generator_terms(batch, made, self.config.shape_weight if stage.name == "joint" else 0.0)
        if turn.name == "discriminators":
            return self.discriminator_terms(batch)
        return self.real_terms(batch) if stage.name in ("segmentors", "real") else self.segmentor_terms(batch)

    def rehearse(self, stage: Stage, turn: Turn, x: Tensor) -> Sequence[Tensor]:
        """The passes behind `terms`; translations that are given keep nothing for a backward pass."""
        batch, labels = Batch(dict.fromkeys(Phase, x), {}, x.new_empty(0), 0), x[:, 0]
        if turn.name == "discriminators":
            return [self.judged(p, self._shown(x, labels)) for p in Phase for _ in range(2)]
        if turn.name == "segmentors":
            if stage.name == "ada":
                self._made_of(batch)
            images = 1 if stage.name in ("segmentors", "real") else 3
            return [self.segmented(p, x) for p in Phase for _ in range(images)]
        made = self.translated(batch)
        outputs = [self.judged(p, self._shown(made.synthetic[p], labels)) for p in Phase]
        if stage.name == "joint" and self.config.shape_weight:
            outputs += [self.segmented(p, made.synthetic[p]) for p in Phase]
        return [*made.synthetic.values(), *made.reconstructed.values(), *outputs]

    # --- turns ---

    def generator_terms(self, batch: Batch, made: Made, shape_weight: float) -> dict[str, Tensor]:
        """Eq. 3: LSGAN of both phases + lambda L_cyc + gamma L_shape; D and S stay, the gradient flows through."""
        shown = {p: self._shown(made.synthetic[p], batch.y[p.other]) for p in Phase}
        terms = {f"adversarial_{p}": generator_loss(self.judged(p, shown[p])) for p in Phase}
        cycles = [cycle_loss(made.reconstructed[p], batch.x[p]) for p in Phase]
        terms["cycle"] = self.config.cycle_weight * (cycles[0] + cycles[1])
        if shape_weight:
            terms["shape"] = shape_weight * self.shape_loss(batch, made)
        return terms

    def shape_loss(self, batch: Batch, made: Made) -> Tensor:
        """CE(S_A(G_A(x_V)), y_V) + CE(S_V(G_V(x_A)), y_A), each a mean over voxels."""
        to_a, to_v = (mean_cross_entropy(self.segmented(p, made.synthetic[p]), batch.y[p.other]) for p in (A, V))
        return to_a + to_v

    def discriminator_terms(self, batch: Batch) -> dict[str, Tensor]:
        """LSGAN of both discriminators: real images, and what the history gives for the synthetic ones."""
        synthetic, terms = self._synthetic_of(batch), {}
        for salt, p in enumerate(Phase):
            made, real = self._shown(synthetic[p], batch.y[p.other]), self._shown(batch.x[p], batch.y[p])
            from_history = self.pools[p.value].exchange(made, batch.draws(salt))  # type: ignore[operator]
            terms[f"discriminator_{p}"] = discriminator_loss(self.judged(p, real), self.judged(p, from_history))
        return terms

    def segmentor_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Both segmentors on real, synthetic and reconstructed images, which are given: no generator learns.

        A synthetic image has its source's labels, a reconstructed one its own.
        """
        real, made = batch.also or batch, self._made_of(batch)
        again = made if batch.also is None else self._made_of(batch.also)
        losses = {
            "real": [self.seg_loss(p, real.x[p], real.y[p]) for p in Phase],
            "synthetic": [self.seg_loss(p, made.synthetic[p], batch.y[p.other]) for p in Phase],
            "reconstructed": [self.seg_loss(p, again.reconstructed[p], real.y[p]) for p in Phase],
        }
        share = 1 / 3 if self.config.real_fraction is None else self.config.real_fraction
        weights = {"real": share, "synthetic": (1 - share) / 2, "reconstructed": (1 - share) / 2}
        return {name: weights[name] * (of_a + of_v) for name, (of_a, of_v) in losses.items()}

    def real_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Both segmentors on real images alone."""
        return {f"segmentor_{p}": self.seg_loss(p, batch.x[p], batch.y[p]) for p in Phase}

    # --- networks on crops of any size ---

    def translated(self, batch: Batch) -> Made:
        """All four translations of a batch."""
        synthetic = {p: self.generated(p, batch.x[p.other]) for p in Phase}
        return Made(synthetic, {p: self.generated(p, synthetic[p.other]) for p in Phase})

    def generated(self, to: Phase, x: Tensor) -> Tensor:
        """G of phase `to`: (B, 1, D, H, W) -> the same."""
        return padded(self.nets[f"to_{to.value}"], x, self.config.generator.divisor[0])  # type: ignore[index]

    def segmented(self, phase: Phase, x: Tensor) -> Tensor:
        """S of `phase`: (B, 1, D, H, W) -> logits (B, K, D, H, W)."""
        return padded(self.nets[phase.value], x, self.config.segmentor.divisor)  # type: ignore[index]

    def judged(self, phase: Phase, x: Tensor) -> Tensor:
        """D of `phase`: what `_shown` gives -> scores."""
        return self.discriminators[phase.value](x)

    def seg_loss(self, phase: Phase, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of S, with its soft Dice where the settings give that a weight."""
        logits = self.segmented(phase, x)
        if not self.config.dice_weight:
            return mean_cross_entropy(logits, y)
        terms = self.dice_cross_entropy(logits, y)
        return terms["cross_entropy"] + self.config.dice_weight * terms["dice"]

    def _shown(self, x: Tensor, y: Tensor) -> Tensor:
        """What discriminators see of an image and the labels of what it shows."""
        return with_labels(x, y) if self.config.discriminator.structures else x

    def _synthetic_of(self, batch: Batch) -> Mapping[Phase, Tensor]:
        """The synthetic images that the generators made of this very batch in their turn, or make of it now."""
        known = self._known(batch)
        if known is not None:
            return known.synthetic
        with torch.no_grad():
            return {p: self.generated(p, batch.x[p.other]) for p in Phase}

    def _made_of(self, batch: Batch) -> Made:
        """All that the generators made of this very batch in their turn, or make of it now."""
        known = self._known(batch)
        if known is not None:
            return known
        with torch.no_grad():
            return self.translated(batch)

    def _known(self, batch: Batch) -> Made | None:
        return next((made for known, made in self._made if known is batch), None)


def objective(run: RunConfig) -> CsganObjective:
    """The objective of a training run, freshly initialised; a UserError where its crops are too small to be judged."""
    config: CsganConfig = method_config("csgan", run.method_config)
    crop, least = config.crop_vox or run.patch_vox, config.discriminator.least
    if config.regime != "real" and min(crop) < least:
        raise UserError(
            f"csgan's discriminator of {config.discriminator.halvings} halvings judges crops from {least} voxels a "
            f"side, not {list(crop)}; take larger ones (patch_vox, crop_vox), or fewer halvings"
        )
    return CsganObjective(config, len(run.labels), crop)


def _summary(config: CsganConfig) -> str:
    how = {
        "joint": "trained together with generators between the phases"
        + (" under cycle and shape consistency" if config.shape_weight else " under cycle consistency alone"),
        "ada": "trained on what frozen generators made as well",
        "real": "trained on real images alone",
    }[config.regime]
    return f"Cycle- and shape-consistent GAN: a 3-D U-Net per phase, {how}."


METHOD = Method(
    "csgan",
    nets=CsganNets,
    segmentor=CsganSegmentor,
    objective=objective,
    summary=_summary,
    translator=CsganTranslator,
)
