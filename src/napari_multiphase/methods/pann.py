"""PaNN: prior-aware neural network for partially supervised multi-organ segmentation (PAPER 004).

Implements:

* Sec. 3, objective J_L + lambda_1 J_P + lambda_2 J_C -> ``PannObjective.terms``
* Sec. 3, J_L, cross-entropy on fully labelled voxels -> ``losses.segmentation.mean_cross_entropy``
* Sec. 3, J_P, cross-entropy on partly labelled voxels and their pseudo-labels -> ``pseudo_labels``
* Sec. 3, prior q, fraction of each class in the fully labelled set -> ``class_fractions``
* Sec. 3, mean prediction p on the partly labelled voxels -> ``mean_prediction``
* Eq. 6 J_C, Eq. 9 its primal-dual form, Algorithm 1's duals -> ``losses.prior.PriorLoss``
* Algorithm 1, two stages, pseudo-labels refreshed -> ``PannObjective.stages``, ``PannObjective.before_step``
* Sec. 4, DeepLab in 2-D -> ``nets.deeplab.DeepLab``
* Sec. 4, a residual 3-D U-Net -> ``nets.residual_unet3d.ResidualUNet3D``
* Sec. 4, multi-scale testing -> ``PannSegmentor.logits``
* Table 1, a row by network, supervision and sets -> ``config.pann.PannConfig``

Symbols: x (B, 1, D, H, W) window mapped to [-1, 1]; y (B, D, H, W) channels, 254 where only the annotated structures
are known to be absent, 255 left out; S_L fully, S_P partly labelled items; L_Pt the structures annotated in an item.

Deviations: pseudo-labels are made as they are needed by a snapshot of the network, taken as often as the paper renews
its stored ones, so they follow the augmentation; they are chosen among background and the structures that were *not*
annotated in the item (an argmax over all could contradict its labels). Duals start at -1/q and -1/(1-q) and are
projected onto (-inf, -1] (see ``losses.prior``). Of a step's micro-batches (``accumulate``), which Algorithm 1 does
not have, the duals climb by the mean prediction of the first. ``dice_weight`` above 0 adds a soft Dice to J_L that the
paper does not have.
The paper leaves open, and we took: J_L and J_P each a mean over their own voxels (it prints one common 1/N); q counted
on patches drawn as those of p are; a slice repeated in three channels; rate of stage 2 constant; background has a
prior too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import PannConfig, RunConfig, Traits, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.labels import UNKNOWN
from napari_multiphase.losses.prior import PriorLoss
from napari_multiphase.losses.reduce import global_sum
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss, mean_cross_entropy
from napari_multiphase.methods.base import Batch, Draw, Method, Objective, Stage, Turn
from napari_multiphase.nets.deeplab import DeepLab
from napari_multiphase.nets.residual_unet3d import ResidualUNet3D
from napari_multiphase.nets.resnet import load_encoder
from napari_multiphase.volume import Phase

MIX = 4
"""Three fully labelled items, then a partly labelled one (Sec. 4)."""
IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226
"""Of its three channels, averaged, on [0, 1]."""

# --- network -------------------------------------------------------------------------------------------------------


class PannNet(nn.Module):
    """One network for all phases: x (B, 1, D, H, W) in [-1, 1] -> logits (B, K, D, H, W). In 2-D slice by slice."""

    def __init__(self, config: PannConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.net = DeepLab(config.deeplab, classes) if config.form == "2d" else ResidualUNet3D(config.unet, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self._intensity(x)
        if self.config.form == "3d":
            return self.net(x)
        b, _, d = x.shape[:3]
        slices = x.transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)  # (B D, 3, H, W)
        return self.net(slices).unflatten(0, (b, d)).transpose(1, 2)

    def _intensity(self, x: Tensor) -> Tensor:
        if self.config.intensity == "byte":
            return (x + 1) * 127.5
        if self.config.intensity == "imagenet":
            return ((x + 1) / 2 - IMAGENET_MEAN) / IMAGENET_STD
        return x


@dataclass(frozen=True)
class PannSegmentor:
    """A trained PaNN, ready to be run over tiles."""

    config: PannConfig
    nets: nn.Module

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w); in 2-D the log of the mean softmax over the test scales."""
        if self.config.form == "3d" or self.config.test_scales == (1.0,):
            return self.nets(x)
        slices = [self._mean_softmax(x[:, :, z : z + 1]) for z in range(x.shape[2])]  # one by one: scale 2 is large
        return torch.cat(slices, dim=2).log()

    def _mean_softmax(self, x: Tensor) -> Tensor:
        size, total = x.shape[3:], x.new_zeros((), dtype=torch.float32)
        for scale in self.config.test_scales:
            scaled = _resize(x, [round(scale * side) for side in size])
            total = total + _resize(self.nets(scaled).float().softmax(1), size)
        return (total / len(self.config.test_scales)).clamp(min=torch.finfo(torch.float32).tiny)

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The only member's means."""
        return means[0]


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, 1, h, w) -> (B, C, 1, *size)."""
    return F.interpolate(x[:, :, 0], size=list(size), mode="bilinear", align_corners=False)[:, :, None]


# --- objective -----------------------------------------------------------------------------------------------------


def pseudo_labels(scores: Tensor, y: Tensor, annotated: Tensor) -> Tensor:
    """`y` (B, D, H, W) with its unknown voxels filled in: the argmax of `scores` (B, K, D, H, W) over background and
    the structures that are not `annotated` (B, K) in the item. Given labels and 255 stay."""
    barred = annotated.clone()
    barred[:, 0] = False
    chosen = scores.masked_fill(barred[:, :, None, None, None], -torch.inf).argmax(1)
    return torch.where(y == UNKNOWN, chosen, y)


def class_fractions(batches: Iterable[Batch], classes: int) -> Tensor:
    """q (K,) float64: fraction of each class among the voxels of fully labelled items."""
    counts = torch.zeros(classes, dtype=torch.float64)
    for batch in batches:
        y = batch.y[batch.phase][batch.annotated[:, 0]]
        counts += torch.bincount(y[y < UNKNOWN].cpu(), minlength=classes)
    return counts / counts.sum().clamp(min=1)


def mean_prediction(log_p: Tensor, y: Tensor) -> Tensor:
    """p (K,): mean softmax over the voxels of partly labelled items, those of y = 255 apart, in all processes.

    log_p (B, K, D, H, W), y (B, D, H, W); B may be 0.
    """
    seen = y <= UNKNOWN
    total = (log_p.exp() * seen[:, None]).sum((0, 2, 3, 4))
    return global_sum(total) / global_sum(seen.sum().to(total)).clamp(min=1)


class PannObjective(Objective):
    """J_L + lambda_1 J_P + lambda_2 J_C over two stages; the teacher and the duals are part of the state."""

    def __init__(self, config: PannConfig, classes: int) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.nets = PannNet(config, classes)
        if config.encoder_weights is not None and isinstance(self.nets.net, DeepLab):
            load_encoder(self.nets.net.encoder, config.encoder_weights)
        self.dice_cross_entropy = DiceCrossEntropyLoss()
        self.prior = PriorLoss(classes, config.dual, config.dual_rate, config.prior_momentum)
        self.teacher = copy.deepcopy(self.nets).requires_grad_(False).eval()
        self._p: Tensor | None = None
        self._climbed = False

    def train(self, mode: bool = True) -> PannObjective:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    # --- stages ---

    def stages(self) -> Sequence[Stage]:
        """Stage 1 on S_L; unless supervision is "full", stage 2 on S_L and S_P, three to one (Algorithm 1)."""
        config = self.config
        first = Draw("single", config.phases, "full", focus_share=config.focus_share, augment=config.augment)
        stages = [Stage("labelled", config.first_steps, (Turn("network", ("nets",), config.first),), first)]
        if config.supervision != "full":
            second = Draw("single", config.phases, "mixed", focus_share=0.0, augment=config.augment)
            stages.append(Stage("mixed", config.second_steps, (Turn("network", ("nets",), config.second),), second))
        return stages

    def begin(self, stage: Stage, draw: Callable[[int], Batch]) -> None:
        """q and the start of the duals."""
        if stage.name == "mixed" and self.prior_weight:
            batches = (draw(step) for step in range(self.config.prior_draws))
            self.prior.start(class_fractions(batches, self.classes))

    def before_step(self, stage: Stage, step: int) -> None:
        """The duals are due again; now and then the teacher becomes the network as it is."""
        self._climbed = False
        if stage.name == "mixed" and step % self.config.teacher_every == 0:
            self.teacher.load_state_dict(self.nets.state_dict())

    @property
    def prior_weight(self) -> float:
        """lambda_2; 0 for every supervision but "pann"."""
        return self.config.prior_weight if self.config.supervision == "pann" else 0.0

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """J_L, and in stage 2 J_P and J_C where their weight is not 0. The duals climb first (Algorithm 1), once in a
        step of several micro-batches."""
        full = batch.annotated[:, 0]
        x, y = batch.x[batch.phase], batch.y[batch.phase]
        weight = self.config.partial_weight
        if stage.name != "mixed" or not (weight or self.prior_weight):
            return self._labelled(self.nets(x[full]), y[full])
        log_p = _log_softmax(self.nets(x))
        log_p_l, log_p_p = (log_p.index_select(0, items.nonzero()[:, 0]) for items in (full, ~full))
        terms = self._labelled(log_p_l, y[full])
        if weight:
            target = self.targets(x[~full], y[~full], batch.annotated[~full])
            terms["J_P"] = weight * mean_cross_entropy(log_p_p, target)
        if self.prior_weight:
            p = mean_prediction(log_p_p, y[~full])
            if not self._climbed:
                self._climbed, self._p = True, p.detach()
                self.prior.ascend(self._p)
            terms["J_C"] = self.prior_weight * self.prior(p)
        return terms

    def _labelled(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        """J_L of the fully labelled items, and beside it their soft Dice where the settings give it a weight."""
        if not self.config.dice_weight:
            return {"J_L": mean_cross_entropy(scores, y)}
        terms = self.dice_cross_entropy(scores, y)
        return {"J_L": terms["cross_entropy"], "dice": self.config.dice_weight * terms["dice"]}

    @torch.no_grad()
    def targets(self, x: Tensor, y: Tensor, annotated: Tensor) -> Tensor:
        """Targets of J_P for partly labelled items: given labels, and the teacher's elsewhere; for "semi" its alone."""
        if not len(x):
            return y
        if self.config.supervision == "semi":
            y, annotated = torch.where(y < UNKNOWN, UNKNOWN, y), torch.zeros_like(annotated)
        return pseudo_labels(self.teacher(x), y, annotated)

    def watched(self) -> Mapping[str, float]:
        """How far the duals lag behind the p they last climbed by, and how far that is from q."""
        if self._p is None:
            return {}
        return {"dual_residual": self.prior.residual(self._p), "prior_divergence": self.prior.divergence(self._p)}


def _log_softmax(logits: Tensor) -> Tensor:
    """In float32, or wider where the logits are."""
    return (logits.float() if logits.dtype.itemsize < 4 else logits).log_softmax(1)


def objective(run: RunConfig) -> PannObjective:
    """The objective of a training run, freshly initialised; a UserError where its batch cannot be mixed 3:1."""
    config: PannConfig = method_config("pann", run.method_config)
    if config.form == "2d" and run.batch // run.accumulate < 2:
        raise UserError(
            "pann in 2-D normalises the pooled image over the batch: batch over accumulate must be 2 or more"
        )
    mixed = config.supervision != "full" and config.second_steps > 0
    if mixed and (run.batch // run.accumulate) % MIX:
        raise UserError(
            f"pann mixes three fully labelled items with a partly labelled one: batch ({run.batch}) over accumulate "
            f"({run.accumulate}) must be a multiple of {MIX}"
        )
    return PannObjective(config, classes=len(run.labels))


def _summary(config: PannConfig) -> str:
    net = f"DeepLabv3+ ({config.deeplab.encoder}) on slices" if config.form == "2d" else "a residual 3-D U-Net"
    how = {
        "full": "fully labelled cases alone",
        "semi": "fully labelled and unlabelled cases",
        "partial": "fully and partly labelled cases, without the prior",
        "pann": "fully and partly labelled cases and a prior on organ sizes",
    }[config.supervision]
    return f"PaNN: {net}, one for all phases, trained with {how}."


METHOD = Method("pann", nets=PannNet, segmentor=PannSegmentor, objective=objective, summary=_summary)
