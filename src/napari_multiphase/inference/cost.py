"""What a method's networks take per voxel of a tile, found by running them, without weights, over a very small one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from napari_multiphase.config import TranslatorTraits, method_config
from napari_multiphase.inference.engine import Network
from napari_multiphase.inference.tiles import Shape, fit_tile
from napari_multiphase.methods import method
from napari_multiphase.methods.base import CoarseToFineSegmentor, RegionSegmentor, Translator, zeros
from napari_multiphase.model import ModelCard
from napari_multiphase.volume import Phase


@dataclass(frozen=True)
class Cost:
    """Per voxel of a tile.

    Attributes
    ----------
    live_floats : the most numbers of one member alive at once, input and output included.
    flop : floating-point operations of all members' convolutions.
    """

    live_floats: float
    flop: float


def network_cost(card: ModelCard) -> Cost:
    """Of the networks that a model is made of."""
    return _costs(card.method, json.dumps(card.config, sort_keys=True), len(card.labels))[0]


def first_cost(card: ModelCard) -> Cost:
    """Of the first pass: the network that finds the region to work in, or coarse ones; nothing where there is none."""
    return _costs(card.method, json.dumps(card.config, sort_keys=True), len(card.labels))[1]


@lru_cache(maxsize=16)
def _costs(name: str, config: str, classes: int) -> tuple[Cost, Cost]:
    chosen, settings = method(name), method_config(name, json.loads(config))
    with torch.device("meta"):
        nets = chosen.nets(settings, classes)
    traits = settings.traits
    # Networks that work in rounds pad whole slices widely: they are laid out at such a size, without numbers.
    asked = (2, 1, 1) if traits.rounds is None else _SLICES_PROBE
    tile = fit_tile(asked, (10**6, 10**6, 10**6), traits.divisor)
    nets = (nets if traits.rounds else zeros(nets)).eval().requires_grad_(False)
    segmentor, device = chosen.segmentor(settings, nets), next(nets.parameters()).device
    members = range(traits.members)
    later = [partial(segmentor.logits, Phase.VENOUS, member=m) for m in members]
    first: list[Network] = []
    if traits.region:
        first = [cast(RegionSegmentor, segmentor).region_logits]
    elif traits.rounds:
        first = [partial(cast(CoarseToFineSegmentor, segmentor).coarse_logits, Phase.VENOUS, member=m) for m in members]
    slices = tile[0] + 2 * traits.context_vox, *tile[1:]
    return (
        _measured(later, torch.zeros(1, traits.channels, *slices, device=device), tile),
        _measured(first, torch.zeros(1, 1, *slices, device=device), tile),
    )


_SLICES_PROBE = (8, 256, 256)
"""Of the order of what Segment gives them."""


@torch.no_grad()
def _measured(networks: Sequence[Network], x: Tensor, tile: Shape) -> Cost:
    """Of networks that see `x` one after another, per voxel of a tile without context."""
    peak, flop, voxels = 0, 0, tile[0] * tile[1] * tile[2]
    for network in networks:
        with _Counter() as counter:
            network(x)
        peak, flop = max(peak, counter.peak + x.numel()), flop + counter.flop
    return Cost(peak / voxels, flop / voxels)


@dataclass(frozen=True)
class TranslationCost:
    """Of translating to one phase.

    Attributes
    ----------
    whole : of a forward pass, per voxel.
    until_norm : in running order, (which of the translator's `norms`, operations per voxel until it runs).
    """

    whole: Cost
    until_norm: tuple[tuple[int, float], ...] = ()


def translation_cost(card: ModelCard, to: Phase) -> TranslationCost:
    """Of the generator of phase `to` that a model which translates is made of."""
    return _translation_costs(card.method, json.dumps(card.config, sort_keys=True), len(card.labels), to)


@lru_cache(maxsize=16)
def _translation_costs(name: str, config: str, classes: int, to: Phase) -> TranslationCost:
    chosen, settings = method(name), method_config(name, json.loads(config))
    assert chosen.translator is not None
    with torch.device("meta"):
        nets = chosen.nets(settings, classes)
    return measured_translation(chosen.translator(settings, zeros(nets).eval().requires_grad_(False)), to)


_PROBE_SIDE = 64
"""Of slices: what is added at their borders then weighs little."""


@torch.no_grad()
def measured_translation(translator: Translator, to: Phase) -> TranslationCost:
    """Found by one forward pass over a small volume, or over a stack of slices."""
    d, h, w = probe_shape(translator.traits)
    x, met = torch.zeros(1, 1, d, h, w), list[tuple[int, float]]()
    with _Counter() as counter, ExitStack() as hooks:
        for index, norm in enumerate(translator.norms(to)):
            note = partial(_note, met, index, counter, d * h * w)
            hooks.callback(norm.register_forward_pre_hook(note).remove)
        translator.translate(to, x)
    whole = Cost((counter.peak + x.numel()) / (d * h * w), counter.flop / (d * h * w))
    return TranslationCost(whole, tuple(met))


def _note(met: list[tuple[int, float]], index: int, counter: _Counter, voxels: int, *_: Any) -> None:
    met.append((index, counter.flop / voxels))


def probe_shape(traits: TranslatorTraits) -> Shape:
    """(D, H, W) of a small input that a translator takes."""
    if traits.form == "volume":
        d, h, w = (2 * s for s in traits.divisor)
        return d, h, w
    _, h, w = (-(-_PROBE_SIDE // s) * s for s in traits.divisor)
    return 1 + 2 * traits.context_vox[0], h, w


_CONVOLUTIONS = (F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose2d, F.conv_transpose3d)


class _Counter(TorchFunctionMode):
    """Counts the numbers in tensors that are alive after each operation (`peak`: the most), and operations (`flop`)."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.flop = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in _CONVOLUTIONS or func in _TRANSPOSED:
            image, weight = (kwargs[n] if n in kwargs else args[i] for i, n in enumerate(("input", "weight")))
            self.flop += 2 * weight[0].numel() * (out if func in _CONVOLUTIONS else image).numel()
        self._alive = {key: held for key, held in self._alive.items() if not held[0].expired()}
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes() // tensor.element_size())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return out
