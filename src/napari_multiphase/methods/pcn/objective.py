"""Eq. 4 and its stages: what segmentors, translators and discriminators minimise, and when (PAPER 000, Sec. 3, 4).

L = sum over phases p of lambda L_seg(f_p(X_p), Y_p) + (1 - lambda) L_seg(f_q(G_q(X_p)), Y_p), q the other phase, plus d
each way. A step moves the translators (segmentors and discriminators frozen), then the discriminators, then the
segmentors, which get the translators' images without their gradient. One objective for both forms: these differ in
networks and in L_seg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_multiphase.config import OptimiserConfig, PcnConfig, RunConfig, method_config
from napari_multiphase.config.pcn import SLICES
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import find_model, tensor_shapes
from napari_multiphase.io.weights import read_weights
from napari_multiphase.losses.adversarial import ImagePool, cycle_loss, discriminator_loss, generator_loss
from napari_multiphase.losses.segmentation import BinaryDiceLoss, DiceCrossEntropyLoss, hold_loss
from napari_multiphase.methods.base import Batch, Draw, Objective, Stage, Turn, stored_state
from napari_multiphase.methods.pcn.network import PcnNets, translator_name
from napari_multiphase.methods.pcn.rstn import Mode, Rstn
from napari_multiphase.methods.pcn.segmentation import multi_class_terms, passes, rstn_terms
from napari_multiphase.nets.patchgan import PatchGan
from napari_multiphase.nets.resnet import load_encoder
from napari_multiphase.nets.unet3d import UNet3D
from napari_multiphase.volume import Phase

MODES = {"raw": Mode.RAW, "weighted": Mode.WEIGHTED}
"""RSTN's mode by stage; in all others it is `Mode.JOINED`."""


# --- objective -----------------------------------------------------------------------------------------------------


class PcnObjective(Objective):
    """What is optimised in each stage. Discriminators and histories of images lie beside `nets`.

    `patch_vox` is (D, H, W) of a training patch, `held` the channels of ``config.held``.
    """

    nets: PcnNets

    def __init__(
        self, config: PcnConfig, classes: int, patch_vox: tuple[int, int, int], held: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.nets = PcnNets(config, classes)
        rstn = config.form == "rstn"
        self.patch_vox = (SLICES, *patch_vox[1:]) if rstn else patch_vox
        self.structures_loss = DiceCrossEntropyLoss()
        self.segmentation = rstn_terms(BinaryDiceLoss()) if rstn else multi_class_terms(self.structures_loss)
        self.discriminators, self.pools = nn.ModuleDict(), nn.ModuleDict()
        translation = config.translation
        if translation is not None and translation.trains:
            shape = (config.discriminator.shown, *(patch_vox[1:] if rstn else patch_vox))
            for phase in Phase:
                self.discriminators[phase.value] = PatchGan(config.discriminator, classes)
                self.pools[phase.value] = ImagePool(translation.pool, shape)
        self._made: dict[int, dict[Phase, Tensor]] = {}
        self.held = held if config.form == "unet3d" else ()
        self.silent_passes = 1.0 if self.held else 0.0  # what the network said before
        keeps = self.held or (config.keep_start and config.form == "unet3d")
        self.before = UNet3D(config.segmentor, classes).requires_grad_(False) if keeps else None

    # --- stages ---

    def stages(self) -> Sequence[Stage]:
        """The translators alone; the segmentors alone (section 1); everything together (section 2)."""
        translation = self.config.translation
        if translation is None:
            return self._section1()
        both, alone = tuple(Phase), self._competing(translation.optimiser)
        segmentors = replace(self._segmentors(translation.joint_segmentors), every=translation.judge_moves)
        together = (*self._competing(translation.joint_optimiser), segmentors)
        read = both if translation.judge.structures else ()
        return [
            Stage("translators", translation.steps, alone, self._draw(both, labelled=read)),
            *self._section1(),
            Stage("joint", translation.joint_steps, together, self._draw(both)),
        ]

    def _section1(self) -> list[Stage]:
        config, draw = self.config, self._draw(self.config.labelled)
        if config.form == "rstn":
            raw = round(config.rstn.raw_share * config.rstn.separate_steps)
            steps = {"raw": raw, "weighted": config.rstn.separate_steps - raw, "joined": config.rstn.joined_steps}
            return [
                Stage(name, n, (self._segmentors(config.rstn.optimiser, MODES.get(name, Mode.JOINED)),), draw)
                for name, n in steps.items()
            ]
        shared = self._one("shared", config.shared_steps, config.optimiser, config.labelled, self.nets.name_of(FIRST))
        if config.mixed:
            return [shared]
        own = config.optimiser.model_copy(update={"lr": config.optimiser.lr * config.phase_lr_factor})
        if config.section1_apart:
            return [shared, *(self._one(p.value, config.phase_steps, own, (p,), p.value) for p in config.labelled)]
        return [shared, Stage("segmentors", config.phase_steps, (self._segmentors(own),), draw)]

    def _one(self, name: str, steps: int, optimiser: OptimiserConfig, phases: tuple[Phase, ...], net: str) -> Stage:
        """A stage of one 3-D segmentor on real images, phase by phase."""
        draw = Draw(
            "single",
            phases,
            shares=self.config.shares,
            augment=self.config.augment,
            reviewed_weight=self.config.reviewed_weight,
        )
        return Stage(name, steps, (Turn("segmentor", (f"nets.{net}",), optimiser),), draw)

    def _segmentors(self, optimiser: OptimiserConfig, mode: Mode = Mode.JOINED) -> Turn:
        """All segmentors at once; in RSTN the fine half at its own rate."""
        names = [f"nets.{name}" for name in dict.fromkeys(self.nets.name_of(phase) for phase in Phase)]
        if self.config.form == "unet3d":
            return Turn("segmentors", tuple(names), optimiser)
        fast = [f"{name}.{part}" for name in names for part in ("saliency", "fine")]
        moved = [f"{name}.{part}" for name in names for part in ("coarse", "fine")] if mode is Mode.RAW else names
        return Turn("segmentors", tuple(moved), optimiser, dict.fromkeys(fast, self.config.rstn.fast_factor))

    def _competing(self, optimiser: OptimiserConfig) -> tuple[Turn, Turn]:
        assert self.config.translation is not None
        names, every = tuple(f"nets.{translator_name(phase)}" for phase in Phase), self.config.translation.judge_moves
        return (
            Turn("translators", names, optimiser, every=every),
            Turn("discriminators", ("discriminators",), optimiser),
        )

    def _draw(self, phases: tuple[Phase, ...], labelled: tuple[Phase, ...] | None = None) -> Draw:
        """Patches of `phases` that need not be of one patient; of RSTN stacks that show the target. `labelled`: phases
        whose labels are read; those that PCN learns from by default."""
        rstn, read = self.config.form == "rstn", self.config.labelled if labelled is None else labelled
        return Draw(
            "unpaired" if len(phases) > 1 else "single",
            phases,
            shares=self.config.shares,
            unlabelled=tuple(phase for phase in Phase if phase not in read),
            focus_share=1.0 if rstn else 0.75,
            knows_background=rstn,
            patch_vox=self.patch_vox if rstn else None,
            augment=self.config.augment,
        )

    def begin(self, stage: Stage, draw: Callable[[int], Batch]) -> None:
        """After the shared stage the venous segmentor starts from where it left the common one."""
        names = [own.name for own in self.stages() if own.steps]
        before = names[max(0, names.index(stage.name) - 1)]
        if before == "shared" != stage.name and not self.config.mixed:
            self.nets.of(FIRST.other).load_state_dict(self.nets.of(FIRST).state_dict())
        if self.before is not None and stage.turns[0].name == "segmentor":
            self.before.load_state_dict(self._single(stage.turns[0]).state_dict())

    @torch.no_grad()
    def end(self, stage: Stage) -> None:
        """What a segmentor was before its stage stays in it by ``keep_start``."""
        if self.before is not None and stage.turns[0].name == "segmentor":
            for now, was in zip(self._single(stage.turns[0]).parameters(), self.before.parameters(), strict=True):
                now.lerp_(was, self.config.keep_start)

    def before_step(self, stage: Stage, step: int) -> None:
        """The last step's synthetic images are out of date."""
        self._made.clear()

    def lam(self, stage: Stage) -> float:
        """lambda of Eq. 4 in a stage: weight of real images."""
        if stage.name == "joint":
            assert self.config.translation is not None
            return self.config.translation.joint_lambda
        return self.config.section1_lambda

    def rehearse(self, stage: Stage, turn: Turn, x: Tensor) -> Sequence[Tensor]:
        """The passes behind `terms`, RSTN's box being the whole slice."""
        image = x[:, 0, :SLICES] if self.config.form == "rstn" else x[:, :1]
        labels, lam, labelled = x[:, 0], self.lam(stage), self.config.labelled
        made_of = [phase.other for phase in labelled] if lam < 1 else []
        if turn.name == "discriminators":
            return [self._judged(phase, image, labels) for phase in Phase for _ in range(2)]
        if turn.name == "segmentors":
            nets = [self.nets.of(phase) for phase in (*(labelled if lam > 0 else ()), *made_of)]
            return [logits for net in nets for logits in passes(net, image)]
        if turn.name == "segmentor":
            return passes(self._single(turn), image)
        made = {to: self.nets.translated(to, image) for to in Phase}
        back = [self.nets.translated(to, made[to.other]) for to in Phase]
        judged = [self._judged(to, made[to], labels) for to in Phase]
        through = [(self.nets.of(to), made[to]) for to in made_of] if stage.name == "joint" else []
        return [*made.values(), *back, *judged, *(logits for net, seen in through for logits in passes(net, seen))]

    def _single(self, turn: Turn) -> nn.Module:
        """The only segmentor that a turn moves."""
        return self.nets[turn.modules[0].removeprefix("nets.")]

    # --- terms ---

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """Of the translators: d and their share of L_seg. Of the discriminators: LSGAN. Of segmentors: L_seg."""
        match turn.name:
            case "translators":
                return self._translator_terms(stage, batch)
            case "discriminators":
                return self._discriminator_terms(batch)
            case "segmentors":
                return self._segmentor_terms(stage, batch)
            case _:  # one of them, on one phase's real images
                return self._single_terms(turn, batch)

    def _image(self, batch: Batch, phase: Phase) -> Tensor:
        """(B, 1, D, H, W), or (B, 3, H, W) of RSTN's stacks, in [-1, 1]."""
        x = batch.x[phase]
        return x[:, 0] if self.config.form == "rstn" else x

    def _judged(self, phase: Phase, image: Tensor, y: Tensor) -> Tensor:
        """Scores of an image that shows what the labels y do."""
        judge = self.discriminators[phase.value]
        return judge(judge.shown(image, y))  # type: ignore[operator]

    def _seg(self, stage: Stage, batch: Batch, phase: Phase, net: nn.Module, image: Tensor) -> dict[str, Tensor]:
        """L_seg of an image that shows what the labels of `phase` do."""
        draws = batch.draws(salt=list(Phase).index(phase))
        mode = MODES.get(stage.name, Mode.JOINED)
        return self.segmentation(net, image, batch.y[phase], batch.annotated, mode, draws, batch.weight.get(phase))

    def _single_terms(self, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """L_seg of one 3-D segmentor, and what holds some structures where nothing is known."""
        phase = batch.phase
        image, y = self._image(batch, phase), batch.y[phase]
        logits = self._single(turn)(image)
        terms = self.structures_loss(logits, y, batch.weight.get(phase))
        if self.held and self.before is not None:
            with torch.no_grad():
                was = self.before(image)
            terms["hold"] = hold_loss(logits, y, was, self.held)
        return terms

    def _segmentor_terms(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        lam = self.lam(stage)
        for phase in self.config.labelled:
            if lam > 0:
                real = self._seg(stage, batch, phase, self.nets.of(phase), self._image(batch, phase))
                terms |= {f"{phase} {name}": lam * term for name, term in real.items()}
            if lam < 1:
                image = self._synthetic(batch, phase.other)
                made = self._seg(stage, batch, phase, self.nets.of(phase.other), image)
                terms |= {f"synthetic {phase.other} {name}": (1 - lam) * term for name, term in made.items()}
        return terms

    def _synthetic(self, batch: Batch, to: Phase) -> Tensor:
        """G(X) as the translators' turn of this step made it, or made now, without gradient."""
        made = self._made.setdefault(batch.first, {})
        if to not in made:
            with torch.no_grad():
                made[to] = self.nets.translated(to, self._image(batch, to.other))
        return made[to]

    def _translator_terms(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        """d each way (Eq. 2) and, in the joint stage, gen_seg_sign (1 - lambda) L_seg through the frozen segmentors."""
        translation = self.config.translation
        assert translation is not None
        x = {phase: self._image(batch, phase) for phase in Phase}
        made = {to: self.nets.translated(to, x[to.other]) for to in Phase}
        terms: dict[str, Tensor] = {}
        for to in Phase:
            back = self.nets.translated(to, made[to.other])
            terms[f"adversarial {to}"] = generator_loss(self._judged(to, made[to], batch.y[to.other]))
            terms[f"cycle {to}"] = translation.cycle_weight * cycle_loss(back, x[to])
            if translation.identity_weight:
                own = self.nets.translated(to, x[to])
                terms[f"identity {to}"] = translation.identity_weight * cycle_loss(own, x[to])
        weight = translation.gen_seg_sign * (1 - self.lam(stage))
        if stage.name == "joint" and weight:
            for phase in self.config.labelled:
                seg = self._seg(stage, batch, phase, self.nets.of(phase.other), made[phase.other])
                terms |= {f"through {phase.other} {name}": weight * term for name, term in seg.items()}
        self._made[batch.first] = {to: image.detach() for to, image in made.items()}
        return terms

    def _discriminator_terms(self, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for salt, phase in enumerate(Phase, start=len(Phase)):
            judge, pool = self.discriminators[phase.value], self.pools[phase.value]
            made = judge.shown(self._synthetic(batch, phase), batch.y[phase.other])  # type: ignore[operator]
            fake = pool.exchange(made, batch.draws(salt))  # type: ignore[operator]
            real = self._judged(phase, self._image(batch, phase), batch.y[phase])
            terms[f"discriminator {phase}"] = discriminator_loss(real, judge(fake))
        return terms


FIRST = Phase.ARTERIAL
"""Whose 3-D segmentor is the common one of the shared stage."""

# --- start ---------------------------------------------------------------------------------------------------------


def objective(run: RunConfig) -> PcnObjective:
    """The objective of a training run, freshly initialised, with the weights that its settings name.

    Raises
    ------
    UserError : patches too small for the discriminators, translators that nothing trains, weights that do not fit,
        structures to hold that the run does not have.
    """
    config: PcnConfig = method_config("pcn", run.method_config)
    _check(config, run)
    made = PcnObjective(config, len(run.labels), run.patch_vox, [run.labels.index(label) for label in config.held])
    if config.imagenet_weights:
        for net in made.nets.values():
            if isinstance(net, Rstn):
                load_encoder(net.coarse.vgg, Path(config.imagenet_weights))
                load_encoder(net.fine.vgg, Path(config.imagenet_weights))
    if config.translators_from:
        load_translators(made.nets, config.translators_from)
    return made


def _check(config: PcnConfig, run: RunConfig) -> None:
    foreign = sorted(set(config.held) - set(run.labels))
    if foreign:
        raise UserError(f"method_config.held names {foreign}, which are none of the run's labels: take them out")
    translation = config.translation
    if translation is None:
        if len(config.labelled) == 1 and not config.mixed and not run.start_from:
            raise UserError(
                "with labels of one phase PCN's other segmentor learns nothing: start from a model (start_from), or "
                "set translation or mixed"
            )
        return
    if not translation.trains:
        if not (config.translators_from or run.start_from):
            raise UserError(
                "nothing trains PCN's translators: give translation.steps or joint_steps, or name a model that has "
                "them in method_config.translators_from"
            )
        return
    sides = run.patch_vox[1:] if config.form == "rstn" else run.patch_vox
    least = config.discriminator.least
    if min(sides) < least:
        raise UserError(
            f"patch_vox {list(run.patch_vox)} is too small for PCN's discriminators, which need sides of {least}; make "
            "it larger, or choose fewer translation.judge.halvings"
        )


def load_translators(nets: PcnNets, name: str) -> None:
    """Give `nets` the translators of the model `name`, a name or a folder; a UserError where it has none that fit."""
    model = find_model(name)
    stored = tensor_shapes(model)
    prefixes = tuple(f"{translator_name(phase)}." for phase in Phase)
    wanted = {key: tuple(t.shape) for key, t in stored_state(nets).items() if key.startswith(prefixes)}
    if any(stored.get(key) != shape for key, shape in wanted.items()):
        raise UserError(
            f"method_config.translators_from: model '{model.card.name}' has no translators of these settings; name a "
            "pcn model that was trained with the same translation"
        )
    weights = read_weights(model, stored)
    nets.load_state_dict({key: torch.from_numpy(weights[key]).float() for key in wanted}, strict=False)


# --- card ----------------------------------------------------------------------------------------------------------


def summary(config: PcnConfig) -> str:
    """A sentence or two for the model's card."""
    net = "an RSTN (coarse and fine FCN-8s)" if config.form == "rstn" else "one 3-D U-Net"
    if config.mixed:
        return f"PCN's segmentor, {net} for both phases. No translation branch."
    if config.translation is None:
        return f"PCN's segmentors, {net} per phase, fused by the phase weight. No translation branch."
    learnt = "both phases" if len(config.labelled) > 1 else f"labels of the {config.labelled[0]} phase alone"
    return (
        f"PCN: {net} and a translator per phase, trained on {learnt}; each scan is also segmented as a synthetic image "
        "of the other phase."
    )
