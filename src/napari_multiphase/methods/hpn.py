"""HPN: Hyper-Pairing Network for two-phase pancreatic cancer segmentation (PAPER 001).

Implements:

* Sec. 2.1 hyper-connected paths, 3D-UNet and 3D-ResDSN bases -> ``HyperNet``, ``ExchangeConv``
* Eq. 1 pairing loss L_corr -> ``losses.correlation.CorrelationLoss``
* Eq. 2 cross-entropy + 0.5 L_corr -> ``HpnObjective.terms``
* Sec. 2.2 virtual pairs, lambda ~ Beta(0.4, 0.4) -> ``virtual_pairs``, ``mixing_shares``
* Sec. 3.1 union of the models of original and of virtual pairs -> ``union_masks``, ``union``
* Table 1 fusion of two single-phase networks -> ``HpnSegmentor.logits``
* Table 1 single phases, fusion, HyperNet, HyperNet-aug, HPN -> ``config.hpn.HpnConfig``

Symbols: X_A, X_B are images (B, 1, D, H, W) of the arterial and venous phase on the venous grid, clipped and
standardised over the scan; u, e, v, d are a path's maps at one level; f_1, f_2 = d of the finest level, the inputs of
the head, (B, C, D, H, W); lambda is (B,).

Deviations: a label map is what is shown, saved and scored, so the union is settled per voxel (``union``); the paper's
masks of each target apart, which may overlap, are ``union_masks``. The single-phase networks read their phase out of
the pair: on the venous grid, from studies that have both phases, learning the venous labels. ``dice_weight`` above 0
adds a soft Dice that Eq. 2 does not have. The deformable registration of the paper is the study's transform here.
What the paper leaves open and what we took: where in a level the paths exchange maps: after the first convolution of
the encoder's and the decoder's level ("own maps first, other maps second", after HyperDenseNet), and the encoder's
maps at the decoder's entry; in 3D-ResDSN, exchange is a + conv1x1x1(b). Further choices: the fields of ``HpnConfig``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import HpnConfig, RunConfig, Traits, method_config
from napari_multiphase.losses.correlation import CorrelationLoss
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss, mean_cross_entropy
from napari_multiphase.methods.base import Batch, Draw, Method, Objective, Stage, Turn
from napari_multiphase.nets.batchnorm import BatchNorm3d
from napari_multiphase.nets.convolution import Conv3d
from napari_multiphase.volume import Phase

PHASES = (Phase.ARTERIAL.value, Phase.VENOUS.value)

# --- blocks --------------------------------------------------------------------------------------------------------


class ExchangeConv(nn.Module):
    """3x3x3 convolution + batch normalisation + ReLU over own maps and, where there is one, the other path's.

    own (B, i, D, H, W), other (B, j, D, H, W) or None -> (B, o, D, H, W). 3D-UNet reads [own; other], 3D-ResDSN
    own + conv1x1x1(other), where i = j.
    """

    def __init__(self, config: HpnConfig, own: int, other: int, out: int) -> None:
        super().__init__()
        summed = config.base == "resdsn"
        self.cross = nn.Conv3d(other, own, 1, bias=False) if summed and other else None
        self.conv = Conv3d(own if summed else own + other, out, 3, padding=1, bias=False)
        self.norm = BatchNorm3d(out)
        _normal_init(self.conv.weight, "relu")
        if self.cross is not None:
            _normal_init(self.cross.weight, "linear")
        if other and config.cross_init == "zero":
            nn.init.zeros_(self.conv.weight.data[:, own:] if self.cross is None else self.cross.weight)

    def forward(self, own: Tensor, other: Tensor | None = None) -> Tensor:
        """See the class."""
        if other is None:
            x = own
        elif self.cross is None:
            x = torch.cat([own, other], dim=1)
        else:
            x = own + self.cross(other)
        return F.relu(self.norm(self.conv(x)), inplace=True)


def _normal_init(weight: Tensor, nonlinearity: Literal["relu", "linear"]) -> None:
    """N(0, gain^2 / fan-in). Not on the meta device, where drawing imports torch's compiler: seconds, for no value."""
    if not weight.is_meta:
        nn.init.kaiming_normal_(weight, nonlinearity=nonlinearity)


class Path(nn.Module):
    """The layers of one phase's encoder-decoder; ``HyperNet`` runs them, level by level."""

    def __init__(self, config: HpnConfig, exchange: bool) -> None:
        super().__init__()
        summed = config.base == "resdsn"
        first = [config.width * 2**level for level in range(config.levels)]
        second = [2 * width for width in first]
        inputs = [1, *second]
        self.enc1 = nn.ModuleList(ExchangeConv(config, i, 0, o) for i, o in zip(inputs, first, strict=False))
        self.enc2 = nn.ModuleList(ExchangeConv(config, i, i * exchange, o) for i, o in zip(first, second, strict=True))
        ups = second[:-1] if summed else second[1:]
        self.up = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, 2) for i, o in zip(second[1:], ups, strict=True))
        self.dec1 = nn.ModuleList(
            ExchangeConv(config, o if summed else up + o, o * exchange, o)
            for up, o in zip(ups, second[:-1], strict=True)
        )
        self.dec2 = nn.ModuleList(ExchangeConv(config, o, o * exchange, o) for o in second[:-1])
        self.summed = summed

    def enter(self, level: int, deeper: Tensor, skip: Tensor) -> Tensor:
        """up(d of the level below), joined with this level's own skip."""
        up = self.up[level](deeper)
        return up + skip if self.summed else torch.cat([up, skip], dim=1)


# --- network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """What a network says of a batch.

    Attributes
    ----------
    logits : (B, K, D, H, W).
    aux : while training, 3D-ResDSN's auxiliary logits at full size, coarsest first; else empty.
    last : per path the maps that enter the head, (B, C, D, H, W).
    """

    logits: Tensor
    aux: tuple[Tensor, ...]
    last: tuple[Tensor, ...]


class HyperNet(nn.Module):
    """Two hyper-connected paths, or one where `phases` names one: (B, 2, D, H, W), arterial first -> ``Output``.

    Encoder level: u = conv1(x); e = conv2([u; u']); x = maxpool(e). Decoder level: v = conv1([up(d); e; e']);
    d = conv2([v; v']). Head: conv1x1x1([d_A; d_B]). A prime marks the other path's maps. Not dense: only maps of the
    same level are exchanged.
    """

    def __init__(self, config: HpnConfig, classes: int, phases: Sequence[str] = PHASES) -> None:
        super().__init__()
        self.channels = [PHASES.index(phase) for phase in phases]
        self.paths = nn.ModuleList(Path(config, exchange=len(phases) > 1) for _ in phases)
        self.levels = config.levels
        self.head = nn.Conv3d(len(phases) * 2 * config.width, classes, 1)
        self.aux_levels = range(config.levels - 2, 0, -1)[:2] if config.base == "resdsn" else range(0)
        self.aux_heads = nn.ModuleList(
            nn.Conv3d(len(phases) * 2 * config.width * 2**level, classes, 1) for level in self.aux_levels
        )

    def forward(self, x: Tensor) -> Output:
        """See the class; each side is a multiple of 2^(levels - 1)."""
        skips = self._encode([x[:, channel : channel + 1] for channel in self.channels])
        maps = self._decode(skips)
        aux: tuple[Tensor, ...] = ()
        if self.training:
            size = x.shape[2:]
            heads = zip(self.aux_heads, self.aux_levels, strict=True)
            aux = tuple(_enlarge(head(torch.cat(maps[level], 1)), size) for head, level in heads)
        return Output(self.head(torch.cat(maps[0], 1)), aux, tuple(maps[0]))

    def _encode(self, xs: list[Tensor]) -> list[list[Tensor]]:
        paths = cast(list[Path], self.paths)
        skips: list[list[Tensor]] = []
        for level in range(self.levels):
            if level:
                xs = [F.max_pool3d(e, 2) for e in skips[-1]]
            us = [path.enc1[level](x) for path, x in zip(paths, xs, strict=True)]
            skips.append([path.enc2[level](*pair) for path, pair in zip(paths, _with_other(us), strict=True)])
        return skips

    def _decode(self, skips: list[list[Tensor]]) -> list[list[Tensor]]:
        """d of both paths per level, finest first."""
        paths = cast(list[Path], self.paths)
        maps = [skips[-1]]
        for level in reversed(range(self.levels - 1)):
            vs = [
                path.dec1[level](path.enter(level, deeper, own), other)
                for path, deeper, (own, other) in zip(paths, maps[0], _with_other(skips[level]), strict=True)
            ]
            ds = [path.dec2[level](*pair) for path, pair in zip(paths, _with_other(vs), strict=True)]
            maps.insert(0, ds)
        return maps


def _with_other(maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor | None]]:
    """Each path's maps with the other path's, None where there is no other."""
    return [(own, maps[1 - i] if len(maps) > 1 else None) for i, own in enumerate(maps)]


def _enlarge(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, list(size), mode="trilinear", align_corners=False)


class HpnNets(nn.ModuleDict):
    """The networks of ``config.networks`` by name, each with its own weights."""

    def __init__(self, config: HpnConfig, classes: int) -> None:
        super().__init__({name: HyperNet(config, classes, phases) for name, phases in config.networks.items()})


# --- running -------------------------------------------------------------------------------------------------------


def union_masks(first: Tensor, second: Tensor, k: int) -> Tensor:
    """M_k = M_k^(1) or M_k^(2) of target k (Sec. 3.1), probabilities (K, ...) of each model -> (...) bool.

    Taken apart for each target, as the paper scores them: two targets' masks may overlap.
    """
    return (first.argmax(0) == k) | (second.argmax(0) == k)


def union(first: Tensor, second: Tensor) -> Tensor:
    """The union as one label map: probabilities (K, ...) of each model -> (K, ...), channel 0 the background.

    Per voxel: where both choose the same class, their mean; where one chooses background, the other's probabilities;
    where they choose two different structures, those of the model with the higher softmax. The largest entry of the
    result is the union's class; the mask of a target lies within its ``union_masks``.
    """
    top1, class1 = first.max(0)
    top2, class2 = second.max(0)
    take2 = torch.where((class1 > 0) & (class2 > 0), top2 > top1, class2 > 0)
    return torch.where(class1 == class2, (first + second) / 2, torch.where(take2, second, first))


@dataclass(frozen=True)
class HpnSegmentor:
    """A trained HPN or baseline, ready to be run over tiles."""

    config: HpnConfig
    nets: nn.Module

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 2, d, h, w), arterial first -> (B, K, d, h, w); of fusion the log of the mean probability."""
        nets = list(self.nets.children())
        if self.config.paths != "fusion":
            return nets[member](x).logits
        log_p = [F.log_softmax(net(x).logits.float(), dim=1) for net in nets]
        return torch.logsumexp(torch.stack(log_p), dim=0) - float(np.log(len(log_p)))

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The union of the two models' means, or the only model's."""
        return union(*means) if len(means) == 2 else means[0]


# --- objective -----------------------------------------------------------------------------------------------------


def mixing_shares(batch: Batch, beta: float) -> Tensor:
    """lambda ~ Beta(beta, beta) per item, (B,) float32, not folded: phases often swap."""
    rngs = (np.random.default_rng(generator.initial_seed()) for generator in batch.draws())
    return torch.tensor([rng.beta(beta, beta) for rng in rngs], dtype=torch.float32)


def virtual_pairs(arterial: Tensor, venous: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """(lambda X_A + (1 - lambda) X_B, lambda X_B + (1 - lambda) X_A) for lambda (B,), Sec. 2.2; labels stay."""
    share = share.to(arterial).reshape(-1, *[1] * (arterial.ndim - 1))
    return share * arterial + (1 - share) * venous, share * venous + (1 - share) * arterial


class HpnObjective(Objective):
    """Eq. 2 for each network in turn, on original pairs, virtual pairs or a mixture."""

    def __init__(self, config: HpnConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.nets = HpnNets(config, classes)
        paired = [name for name, phases in config.networks.items() if len(phases) > 1 and config.corr_weight]
        self.pairing = nn.ModuleDict({name: CorrelationLoss(config.corr_mode, 2 * config.width) for name in paired})
        self.dice_cross_entropy = DiceCrossEntropyLoss()

    def stages(self) -> Sequence[Stage]:
        """One per network: "original" then "virtual", "joint", "arterial", "venous"."""
        config = self.config
        draw = Draw("pair", focus_share=config.focus_share, augment=config.augment)
        return [
            Stage(name, config.steps, (Turn(name, (f"nets.{name}", f"pairing.{name}"), config.optimiser),), draw)
            for name in config.networks
        ]

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """Eq. 2: cross-entropy + corr_weight L_corr, plus 3D-ResDSN's weighted auxiliary cross-entropies."""
        target = batch.y[Phase.VENOUS]
        out: Output = self.nets[stage.name](self._pairs(stage.name, batch))  # type: ignore[index]
        terms = self._segmentation(out.logits, target)
        for i, (weight, logits) in enumerate(zip(self.config.aux_weights, out.aux, strict=False), 1):
            terms[f"aux_{i}"] = weight * mean_cross_entropy(logits, target)
        if stage.name in self.pairing:
            terms["L_corr"] = self.config.corr_weight * self.pairing[stage.name](*out.last)
        return terms

    def _segmentation(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        if not self.config.dice_weight:
            return {"cross_entropy": mean_cross_entropy(logits, target)}
        terms = self.dice_cross_entropy(logits, target)
        return {"cross_entropy": terms["cross_entropy"], "dice": self.config.dice_weight * terms["dice"]}

    def _pairs(self, name: str, batch: Batch) -> Tensor:
        """(B, 2, D, H, W), mixed as the network of that name asks."""
        pair = batch.x[Phase.ARTERIAL], batch.x[Phase.VENOUS]
        if name in ("virtual", "joint"):
            share = mixing_shares(batch, self.config.beta)
            if name == "joint":
                lots = torch.stack([torch.rand((), generator=generator) for generator in batch.draws(salt=1)])
                share = torch.where(lots < self.config.joint_share, share, 1.0)
            pair = virtual_pairs(*pair, share)
        return torch.cat(pair, dim=1)


def objective(run: RunConfig) -> HpnObjective:
    """The objective of a training run, freshly initialised."""
    return HpnObjective(method_config("hpn", run.method_config), classes=len(run.labels))


def _summary(config: HpnConfig) -> str:
    base = "3D-UNet" if config.base == "unet" else "3D-ResDSN"
    if config.paths == "fusion":
        return f"HPN's baseline: mean probability of two single-phase networks ({base})."
    if config.paths != "hyper":
        return f"HPN's baseline: one network of the {config.paths} phase ({base})."
    pairs = {"none": "original pairs", "union": "original and virtual pairs (union of two models)"}
    name = "HPN: hyper-connected paths with pairing loss" if config.corr_weight else "HyperNet: hyper-connected paths"
    return f"{name} ({base}), trained on {pairs.get(config.aug_mode, 'a mixture of original and virtual pairs')}."


METHOD = Method("hpn", nets=HpnNets, segmentor=HpnSegmentor, objective=objective, summary=_summary)
