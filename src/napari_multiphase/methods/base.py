"""What every method offers: a network to run, and an objective to train. The loop and the engine know nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from napari_multiphase.config import (
    AugmentConfig,
    OptimiserConfig,
    RunConfig,
    Settings,
    Traits,
    TranslatorTraits,
    method_config,
)
from napari_multiphase.errors import UserError
from napari_multiphase.io.weights import read_weights
from napari_multiphase.model import Model
from napari_multiphase.nets.instance_norm import InstanceNorm
from napari_multiphase.volume import Phase

# --- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """Which patches a stage sees.

    Attributes
    ----------
    pairing : "single": each item is one phase of a case, the phases of `phases` taking turns step by step. "pair": both
        phases at the same place of the venous grid (the arterial scan resampled through the case's transform), learned
        from by the labels of the venous phase. "unpaired": an item of each phase of `phases`, each of a case, a place
        and labels of its own; where one phase has fewer cases, they come round more often.
    phases : for "single" and "unpaired": which phases.
    annotation : which cases: "full" (every structure annotated), "partial" (the others), "any", or "mixed": three items
        of every four from "full", the fourth from "partial" (PaNN, Sec. 3).
    focus : channels that patches are centred on; empty for all structures present, each equally likely.
    focus_share : share of patches that are centred on a voxel of a focus channel; the rest lie anywhere.
    knows_background : whether the loss learns what background is from voxels of 254 too; elsewhere some case must be
        annotated in full.
    patch_vox : (D, H, W) instead of the run's.
    augment : random changes.
    shares : not for "pair": of these phases, only this share of the cases (at least one) is learned from: of the
        arterial phase the first ones, of the venous the last, so that small shares are different patients.
    also : a further draw, of items of their own: ``Batch.also``.
    unlabelled : of `phases`, those whose labels nobody reads: their cases need none.
    reviewed_weight : of a voxel that a person drew or looked at, over that of a prediction that stands in for one.
    """

    pairing: Literal["single", "pair", "unpaired"] = "single"
    phases: tuple[Phase, ...] = tuple(Phase)
    annotation: Literal["any", "full", "partial", "mixed"] = "any"
    focus: tuple[int, ...] = ()
    focus_share: float = 0.75
    knows_background: bool = False
    patch_vox: tuple[int, int, int] | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    shares: Mapping[Phase, float] = field(default_factory=dict)
    also: Draw | None = None
    unlabelled: tuple[Phase, ...] = ()
    reviewed_weight: float = 1.0


@dataclass(frozen=True)
class Turn:
    """One optimiser's move within a step: `modules` are prefixes of the objective's parameter names; all others are
    frozen meanwhile (gradient still flows through them). Parameters whose name starts with one of `factors` learn at so
    many times the optimiser's rate. It moves in every `every`-th step of the stage, from the first on."""

    name: str
    modules: tuple[str, ...]
    optimiser: OptimiserConfig
    factors: Mapping[str, float] = field(default_factory=dict)
    every: int = 1


@dataclass(frozen=True)
class Stage:
    """One stretch of training: in every step each turn that is due moves once, in order."""

    name: str
    steps: int
    turns: tuple[Turn, ...]
    draw: Draw


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes
    ----------
    x : per phase (B, 1, D, H, W) float32: HU clipped to the run's window and mapped to [-1, 1] (with
        ``Traits.standardise``: zero mean and unit variance over the clipped scan instead). One phase for
        "single" draws, both for the others.
    y : per phase (B, D, H, W) int64 channel indices; ``labels.UNKNOWN`` (254): none of the case's annotated structures,
        more is not known; ``labels.IGNORE`` (255): leave out. For "pair" both phases hold labels of the same place:
        y[VENOUS] are the venous scan's own, y[ARTERIAL] the arterial scan's, carried.
    annotated : (B, K) bool, channels annotated in the item's case ("unpaired": in all of its cases but those of
        unlabelled phases); channel 0 only where every structure is.
    seed : for the method's own draws in this step, alike in every process.
    first : index of item 0 in the step's whole batch (several processes share one).
    size : items of the step's whole batch.
    also : what ``Draw.also`` drew.
    weight : per phase (B, D, H, W) float32, what each voxel counts; empty where all count alike
        (``Draw.reviewed_weight`` 1).
    """

    x: Mapping[Phase, Tensor]
    y: Mapping[Phase, Tensor]
    annotated: Tensor
    seed: int
    first: int = 0
    size: int = 1
    also: Batch | None = None
    weight: Mapping[Phase, Tensor] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        """The only phase of a "single" draw."""
        (phase,) = self.x
        return phase

    def draws(self, salt: int = 0) -> Iterator[torch.Generator]:
        """A generator per item, the same however the batch is divided among processes."""
        for item in range(len(self.annotated)):
            yield torch.Generator().manual_seed((self.seed * 1_000_003 + self.first + item) * 97 + salt)

    def to(self, device: torch.device) -> Batch:
        """On `device`."""
        move = {p: t.to(device, non_blocking=True) for p, t in self.x.items()}
        labels = {p: t.to(device, non_blocking=True) for p, t in self.y.items()}
        also = self.also and self.also.to(device)
        weight = {p: t.to(device, non_blocking=True) for p, t in self.weight.items()}
        return Batch(move, labels, self.annotated.to(device), self.seed, self.first, self.size, also, weight)


class Objective(nn.Module):
    """What the training loop optimises. Its ``state_dict`` is everything that resuming needs beyond the optimisers:
    networks, duals, pools, teachers (as parameters or buffers of fixed shape).

    `nets` holds the networks whose weights make the model; anything only training needs lies beside it.
    """

    nets: nn.Module
    silent_passes: float = 0.0
    """Forward passes of a step that nothing is learned through, as a share of those that `rehearse` shows."""

    def stages(self) -> Sequence[Stage]:
        """The stages in order."""
        raise NotImplementedError

    def begin(self, stage: Stage, draw: Callable[[int], Batch]) -> None:
        """Before the first step of `stage` (not when resuming within it). ``draw(i)`` gives the whole batch of step i
        to every process: for statistics such as PaNN's q."""

    def before_step(self, stage: Stage, step: int) -> None:
        """Before each step: refresh a teacher, say. Must depend on (`stage`, `step`) and the state alone."""

    def end(self, stage: Stage) -> None:
        """After the last step of `stage`, before its result is judged or saved."""

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """Named loss terms, weights included; their sum is minimised by `turn`. Runs under autocast: what the papers
        need in full precision is cast here. Sums over the batch go through `losses.reduce.global_sum`."""
        raise NotImplementedError

    def rehearse(self, stage: Stage, turn: Turn, x: Tensor) -> Sequence[Tensor]:
        """The networks' outputs of `turn` where each image is `x` (B, C, D, H, W), on the meta device, for estimates of
        memory and time; nothing: one pass of the segmentor."""
        return ()

    def watched(self) -> Mapping[str, float]:
        """Further figures for the curves (a dual's residual, the confidence), read after each step."""
        return {}


# --- running -------------------------------------------------------------------------------------------------------


class Segmentor(Protocol):
    """A method's networks, run tile by tile by the inference engine."""

    @property
    def traits(self) -> Traits:
        """As of the method's settings."""

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, C, d + 2 context, h, w) -> (B, K, d, h, w), up to a constant per voxel (log-probabilities will do).

        C: see ``Traits.reads`` and ``Traits.region``. For "pair" methods `phase` is VENOUS.
        """

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The members' mean probabilities, each (K, n, h, w), as one (K, n, h, w); the only one where there is one."""


class RegionSegmentor(Segmentor, Protocol):
    """A segmentor that finds its own region first (``Traits.region``)."""

    def region_logits(self, x: Tensor) -> Tensor:
        """(B, 1, d + 2 context, h, w) of the venous phase -> (B, 2, d, h, w)."""


class Translator(Protocol):
    """A method's generators, run tile by tile by Translate."""

    @property
    def traits(self) -> TranslatorTraits:
        """As of the method's settings (`translator_traits`)."""

    def translate(self, to: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) of the other phase, in [-1, 1] -> the same shape of phase `to`, in [-1, 1].

        The input's outer voxels may be context (``TranslatorTraits.context_vox``); they are cut off afterwards. Where
        an input ends at the scan's own end there is none on that side: no input reaches beyond the scan, rounded up to
        a multiple of the divisor by repeating its last voxels.
        """

    def norms(self, to: Phase) -> Sequence[InstanceNorm]:
        """The instance normalisations of the generator of phase `to`, in any order; none for "slices", whose statistics
        are those of what they are given."""


class CoarseToFineSegmentor(Segmentor, Protocol):
    """A segmentor of one structure that looks again at what it found (``Traits.rounds``): K = 2."""

    def coarse_logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 1, d + 2 context, h, w) -> (B, 2, d, h, w). `logits` then sees the last round's probability and mask."""


@dataclass(frozen=True)
class Method:
    """One row of ``methods.METHODS``.

    Attributes
    ----------
    name : its key.
    nets : settings, number of classes -> the networks whose weights make the model.
    segmentor : settings, networks in evaluation mode -> what the engine runs.
    objective : run -> what the loop optimises.
    summary : settings -> a sentence or two for the model's card.
    translator : settings, networks in evaluation mode -> what Translate runs; None: the method does not translate.
        A model does where its settings' `translator_traits` say so.
    """

    name: str
    nets: Callable[[Any, int], nn.Module]
    segmentor: Callable[[Any, nn.Module], Segmentor]
    objective: Callable[[RunConfig], Objective]
    summary: Callable[[Any], str] = field(default=lambda config: "")
    translator: Callable[[Any, nn.Module], Translator] | None = None

    def load(self, model: Model, device: torch.device) -> Segmentor:
        """The networks of a model folder on `device`, in evaluation mode; UserError where weights and card disagree."""
        return self.segmentor(*self._loaded(model, device))

    def load_translator(self, model: Model, device: torch.device) -> Translator:
        """The same for translating; UserError where the method does not."""
        if self.translator is None:
            raise UserError(f"the model '{model.card.name}' does not translate: choose one that does")
        return self.translator(*self._loaded(model, device))

    def _loaded(self, model: Model, device: torch.device) -> tuple[Settings, nn.Module]:
        config: Settings = method_config(self.name, model.card.config)
        with torch.device("meta"):
            nets = self.nets(config, len(model.card.labels))
        expected = {name: tuple(tensor.shape) for name, tensor in stored_state(nets).items()}
        weights = read_weights(model, expected)
        zeros(nets)
        nets.load_state_dict({n: torch.from_numpy(w).float() for n, w in weights.items()}, strict=False)
        return config, nets.to(device).eval().requires_grad_(False)


def zeros(nets: nn.Module) -> nn.Module:
    """`nets` made on the meta device, now all zeros on the processor (`Module.to_empty` imports sympy first: 2 s)."""
    return nets._apply(lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))


def stored_state(nets: nn.Module) -> dict[str, Tensor]:
    """What a model file holds of `nets`: parameters and running statistics, without the batch counters."""
    return {name: tensor for name, tensor in nets.state_dict().items() if not name.endswith("num_batches_tracked")}
