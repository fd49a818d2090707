"""SAM + URIM as the loop and the engine see it: nets, segmentor, losses, stages, METHOD (PAPER 002, Sec. 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_multiphase.config import RunConfig, Traits, UrimConfig, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.labels import IGNORE, UNKNOWN
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss, mean_cross_entropy
from napari_multiphase.methods.base import Batch, Draw, Method, Objective, Stage, Turn
from napari_multiphase.methods.urim.network import TumourNet
from napari_multiphase.methods.urim.region import LiverNet, aligned, masked
from napari_multiphase.nets.resnet import load_encoder
from napari_multiphase.nets.stacks import stacks, unstack
from napari_multiphase.volume import Phase

CERTAIN = 30.0
"""Log-probability of a class that the mask rules out is this much below the others'."""

# --- networks ------------------------------------------------------------------------------------------------------


class UrimNets(nn.Module):
    """``tumour`` (`TumourNet`) and, with a liver region, ``liver`` (`LiverNet`).

    `classes` is 3 for background, liver, tumour and 2 for background, tumour: the tumour is the last channel. Neither
    network depends on it, so a model of one may be the start of the other.
    """

    def __init__(self, config: UrimConfig, classes: int) -> None:
        if classes not in (2, 3):
            raise UserError(
                f"SAM + URIM has {classes} labels: give background, organ and lesion (0, 1, 21), or background and "
                "lesion (0, 21)"
            )
        super().__init__()
        self.classes = classes
        self.tumour = TumourNet(config)
        self.liver = LiverNet(config.liver.widths, config.slices) if config.region == "liver" else None


# --- running -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UrimSegmentor:
    """A trained SAM + URIM, ready to be run over tiles."""

    config: UrimConfig
    nets: UrimNets

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 3, d + 2, h, w): arterial and venous in [-1, 1], liver mask -> (B, K, d, h, w), slice by slice.

        With ``region="all"`` there is no mask channel.
        """
        arterial, venous = x[:, 0], x[:, 1]
        mask = x[:, 2] if self.config.region == "liver" else torch.ones_like(venous)
        inputs = [stacks(masked(scan, mask), self.config.slices) for scan in (venous, arterial)]
        inside = unstack(self.nets.tumour(*inputs).final, len(x))
        depth, context = inside.shape[2], self.config.context
        return channels_of(inside, mask[:, None, context : context + depth], self.nets.classes)

    def region_logits(self, x: Tensor) -> Tensor:
        """(B, 1, d + 2, h, w) venous in [-1, 1] -> (B, 2, d, h, w): other, liver."""
        assert self.nets.liver is not None
        return unstack(self.nets.liver(stacks(x[:, 0], self.config.slices)), len(x))

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The only member's means."""
        return means[0]


def channels_of(inside: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Logits (B, 2, d, h, w) within the mask (B, 1, d, h, w) -> (B, classes, d, h, w) everywhere.

    Outside the mask it is background. Inside, liver and tumour share the two-class softmax; with two classes the liver
    is background.
    """
    if classes == 3:
        inside = torch.cat([inside.amin(1, keepdim=True) - CERTAIN, inside], dim=1)
    outside = torch.full_like(inside, -CERTAIN)
    outside[:, 0] = 0
    return torch.where(mask > 0.5, inside, outside)


# --- objective -----------------------------------------------------------------------------------------------------


class UrimObjective(Objective):
    """The stage "liver" trains the liver network alone, the stage "tumour" everything else with CE_init + CE_final.

    `plane_vox` is (H, W) of a training patch.
    """

    nets: UrimNets

    def __init__(self, config: UrimConfig, classes: int, plane_vox: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.plane_vox = plane_vox
        self.nets = UrimNets(config, classes)
        self.tumour = classes - 1
        self.liver_channels = tuple(range(1, classes)) if classes == 3 else ()
        self.liver_loss = DiceCrossEntropyLoss()

    # --- stages ---

    def stages(self) -> Sequence[Stage]:
        """The liver first: the tumour network may train with its masks."""
        tumour = Turn("tumour", ("nets.tumour",), self.config.optimiser)
        stages = [Stage("tumour", self.config.steps, (tumour,), self._tumour_draw())]
        if self.nets.liver is not None and self.config.liver.steps:
            liver = Turn("liver", ("nets.liver",), self.config.liver.optimiser)
            stages.insert(0, Stage("liver", self.config.liver.steps, (liver,), self._liver_draw()))
        return stages

    def _liver_draw(self) -> Draw:
        patch = (self.config.slices, *self.plane_vox)
        augment = self.config.liver.augment
        return Draw(
            "single",
            (Phase.VENOUS,),
            focus=self.liver_channels,
            knows_background=True,
            patch_vox=patch,
            augment=augment,
        )

    def _tumour_draw(self) -> Draw:
        """Cases whose liver is known if the mask is its label; more slices if the mask is predicted from stacks."""
        by_label = self.config.region == "liver" and self.config.train_mask == "labels"
        margin = 2 * self.config.context if self.config.train_mask == "predicted" else 0
        return Draw(
            "pair",
            annotation="full" if by_label else "any",
            focus=self.liver_channels or (self.tumour,),
            focus_share=self.config.tumour_share,
            knows_background=True,
            patch_vox=(self.config.slices + margin, *self.plane_vox),
            augment=self.config.augment,
        )

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """Of the liver: cross-entropy and soft Dice. Of the tumour: CE_init and CE_final, of equal weight."""
        return self._liver_terms(batch) if stage.name == "liver" else self._tumour_terms(batch)

    # --- liver ---

    def _liver_terms(self, batch: Batch) -> dict[str, Tensor]:
        y = batch.y[Phase.VENOUS][:, self.config.context]
        target = self._known(self._in_liver(y).long(), y, batch.annotated[:, self.liver_channels[0]])
        logits = self.nets.liver(batch.x[Phase.VENOUS][:, 0])  # type: ignore[misc]
        return self.liver_loss(logits[:, :, None], target[:, None])

    def _in_liver(self, y: Tensor) -> Tensor:
        """The group: liver and tumour together."""
        return (y >= 1) & (y <= self.tumour)

    def _known(self, target: Tensor, y: Tensor, annotated: Tensor) -> Tensor:
        """`target` (B, H, W), unknown where nobody reviewed or the item's case has no such annotation (B,).

        Where the structure itself is annotated, whatever it does not cover is known not to be it.
        """
        known = (y != IGNORE) & annotated[:, None, None]
        return torch.where(known, target, UNKNOWN)

    # --- tumour ---

    def _tumour_terms(self, batch: Batch) -> dict[str, Tensor]:
        mask = self._mask(batch)
        venous, arterial = (self._inner(x, mask.shape[1]) for x in (batch.x[Phase.VENOUS][:, 0], self._arterial(batch)))
        results = self.nets.tumour(masked(venous, mask), masked(arterial, mask))
        y = batch.y[Phase.VENOUS]
        y = y[:, y.shape[1] // 2]
        target = self._known((y == self.tumour).long(), y, batch.annotated[:, self.tumour])
        if self.config.loss_region == "mask":
            target = torch.where(mask[:, self.config.context] > 0, target, UNKNOWN)
        terms = {"CE_init": mean_cross_entropy(results.initial, target)}
        if self.config.inpainting:
            terms["CE_final"] = mean_cross_entropy(results.final, target)
        return terms

    def _inner(self, x: Tensor, depth: int) -> Tensor:
        """The middle `depth` slices of (B, D, H, W)."""
        first = (x.shape[1] - depth) // 2
        return x[:, first : first + depth]

    def _mask(self, batch: Batch) -> Tensor:
        """(B, slices, H, W), 1 in the liver: the labels', the liver network's, or 1 everywhere."""
        venous = batch.x[Phase.VENOUS][:, 0]
        if self.nets.liver is None:
            return torch.ones_like(venous)
        if self.config.train_mask == "labels":
            return self._in_liver(batch.y[Phase.VENOUS]).to(venous)
        return predicted_mask(self.nets.liver, venous, self.config.slices)

    def _arterial(self, batch: Batch) -> Tensor:
        """The arterial scan (B, D, H, W), moved if `align` says so."""
        x = batch.x[Phase.ARTERIAL][:, 0]
        if self.config.align == "none":
            return x
        own, other = batch.y[Phase.ARTERIAL], batch.y[Phase.VENOUS]
        if self.config.align == "tumour":
            return aligned(x, own == self.tumour, other == self.tumour)
        return aligned(x, self._in_liver(own), self._in_liver(other))


def predicted_mask(liver: nn.Module, venous: Tensor, slices: int) -> Tensor:
    """The liver as segmenting will see it, without gradient: (B, d + slices - 1, H, W) -> (B, d, H, W) of 0 and 1."""
    was_training = liver.training
    liver.eval()
    with torch.no_grad():
        logits = unstack(liver(stacks(venous, slices)), len(venous))
    liver.train(was_training)
    return (logits[:, 1] > logits[:, 0]).to(venous)


# --- METHOD --------------------------------------------------------------------------------------------------------


def objective(run: RunConfig) -> UrimObjective:
    """The objective of a training run, freshly initialised, with ImageNet weights where the settings name a file."""
    config: UrimConfig = method_config("urim", run.method_config)
    _check_labels(config, len(run.labels))
    made = UrimObjective(config, len(run.labels), run.patch_vox[1:])
    if config.imagenet_weights:
        for stream in made.nets.tumour.streams.streams.values():
            load_encoder(stream.net, Path(config.imagenet_weights))  # type: ignore[arg-type]
    return made


def _check_labels(config: UrimConfig, classes: int) -> None:
    if classes == 2 and config.align == "liver":
        raise UserError(
            "method_config.align is liver, but the run's labels have no liver: add 1 to labels, or set align to tumour "
            "or none"
        )
    needs = config.liver.steps > 0 or config.train_mask == "labels"
    if classes == 2 and config.region == "liver" and needs:
        raise UserError(
            "SAM + URIM learns the liver region from liver labels, and the run's labels have none: add 1 to labels; or "
            "set method_config.region to all; or start from a model that knows the liver, with liver.steps 0 and "
            "train_mask predicted"
        )


FUSIONS = {
    "sp": "the venous phase alone",
    "ilf": "both phases concatenated at the input",
    "dlf": "both phases concatenated before the classifier",
    "mp": "both phases added at four levels",
    "mw": "both phases weighted by scalars at four levels",
    "pa": "phase attention with an input-dependent gate at four levels",
    "sam": "selective aggregation (SAM) at four levels",
}


def summary(config: UrimConfig) -> str:
    """Two or three sentences for the card, how training pairs were aligned among them."""
    refined = "and uncertain region inpainting" if config.inpainting else "without inpainting"
    where = "within the liver its own network finds" if config.region == "liver" else "without a liver region"
    how = (
        "registered by the study's transform"
        if config.align == "none"
        else f"registered, then moved patch by patch in plane until the centres of both phases' {config.align} labels "
        "coincide"
    )
    return (
        f"SAM + URIM's tumour network on stacks of {config.slices} slices, {where}: {FUSIONS[config.fusion]}, "
        f"{refined}. Training pairs were {how}; when segmenting only the transform is used."
    )


METHOD = Method("urim", nets=UrimNets, segmentor=UrimSegmentor, objective=objective, summary=summary)  # type: ignore[arg-type]
