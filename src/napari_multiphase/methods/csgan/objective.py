"""What generators, discriminators and segmentors minimise, and in which stages (PAPER 003)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from napari_multiphase.config import CsganConfig, RunConfig, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.losses.adversarial import ImagePool, cycle_loss, discriminator_loss, generator_loss
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss, mean_cross_entropy
from napari_multiphase.methods.base import Batch, Draw, Objective, Stage, Turn
from napari_multiphase.methods.csgan.network import CsganNets, padded
from napari_multiphase.nets.patchgan import PatchGan
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS


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
            self.discriminators = nn.ModuleDict({p.value: PatchGan(config.discriminator, classes) for p in Phase})
            self.pools = nn.ModuleDict(
                {p.value: ImagePool(config.pool, (config.discriminator.shown, *crop_vox)) for p in Phase}
            )
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
            return [self.judged(p, x, labels) for p in Phase for _ in range(2)]
        if turn.name == "segmentors":
            if stage.name == "ada":
                self._made_of(batch)
            images = 1 if stage.name in ("segmentors", "real") else 3
            return [self.segmented(p, x) for p in Phase for _ in range(images)]
        made = self.translated(batch)
        outputs = [self.judged(p, made.synthetic[p], labels) for p in Phase]
        if stage.name == "joint" and self.config.shape_weight:
            outputs += [self.segmented(p, made.synthetic[p]) for p in Phase]
        return [*made.synthetic.values(), *made.reconstructed.values(), *outputs]

    # --- turns ---

    def generator_terms(self, batch: Batch, made: Made, shape_weight: float) -> dict[str, Tensor]:
        """Eq. 3: LSGAN of both phases + lambda L_cyc + gamma L_shape; D and S stay, the gradient flows through."""
        judged = {p: self.judged(p, made.synthetic[p], batch.y[p.other]) for p in Phase}
        terms = {f"adversarial_{p}": generator_loss(judged[p]) for p in Phase}
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
            judge, pool = self.discriminators[p.value], self.pools[p.value]
            made = judge.shown(synthetic[p], batch.y[p.other])  # type: ignore[operator]
            from_history = pool.exchange(made, batch.draws(salt))  # type: ignore[operator]
            real = self.judged(p, batch.x[p], batch.y[p])
            terms[f"discriminator_{p}"] = discriminator_loss(real, judge(from_history))
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

    def judged(self, phase: Phase, x: Tensor, y: Tensor) -> Tensor:
        """D of `phase`: (B, 1, D, H, W), and the labels (B, D, H, W) of what it shows -> scores."""
        judge = self.discriminators[phase.value]
        return judge(judge.shown(x, y))  # type: ignore[operator]

    def seg_loss(self, phase: Phase, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of S, with its soft Dice where the settings give that a weight."""
        logits = self.segmented(phase, x)
        if not self.config.dice_weight:
            return mean_cross_entropy(logits, y)
        terms = self.dice_cross_entropy(logits, y)
        return terms["cross_entropy"] + self.config.dice_weight * terms["dice"]

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


def summary(config: CsganConfig) -> str:
    how = {
        "joint": "trained together with generators between the phases"
        + (" under cycle and shape consistency" if config.shape_weight else " under cycle consistency alone"),
        "ada": "trained on what frozen generators made as well",
        "real": "trained on real images alone",
    }[config.regime]
    return f"Cycle- and shape-consistent GAN: a 3-D U-Net per phase, {how}."
