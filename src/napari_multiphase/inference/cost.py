"""What a method's networks take per voxel of a tile, found by running them, without weights, over a very small one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from napari_multiphase.config import method_config
from napari_multiphase.inference.tiles import Shape, fit_tile
from napari_multiphase.methods import method
from napari_multiphase.methods.base import RegionSegmentor, Segmentor, zeros
from napari_multiphase.model import ModelCard
from napari_multiphase.volume import Phase


@dataclass(frozen=True)
class Cost:
    """Per voxel of a tile.

    Attributes
    ----------
    live_floats : the most numbers of one member alive at once, input and output included.
    flop : floating-point operations of all members' convolutions; members are alike.
    """

    live_floats: float
    flop: float


def network_cost(card: ModelCard) -> Cost:
    """Of the networks that a model is made of."""
    return _costs(card.method, json.dumps(card.config, sort_keys=True), len(card.labels))[0]


def region_cost(card: ModelCard) -> Cost:
    """Of the network that finds the region to work in; nothing where there is none."""
    return _costs(card.method, json.dumps(card.config, sort_keys=True), len(card.labels))[1]


@lru_cache(maxsize=16)
def _costs(name: str, config: str, classes: int) -> tuple[Cost, Cost]:
    chosen, settings = method(name), method_config(name, json.loads(config))
    with torch.device("meta"):
        nets = chosen.nets(settings, classes)
    segmentor = chosen.segmentor(settings, zeros(nets).eval().requires_grad_(False))
    traits = segmentor.traits
    tile = fit_tile((2, 1, 1), (10**6, 10**6, 10**6), traits.divisor)
    one = _measured(segmentor, tile, traits.channels, region=False)
    whole = Cost(one.live_floats, one.flop * traits.members)
    return whole, _measured(segmentor, tile, 1, region=True) if traits.region else Cost(0.0, 0.0)


@torch.no_grad()
def _measured(segmentor: Segmentor, tile: Shape, channels: int, region: bool) -> Cost:
    d, h, w = tile
    x = torch.zeros(1, channels, d + 2 * segmentor.traits.context_vox, h, w)
    with _Counter() as counter:
        cast(RegionSegmentor, segmentor).region_logits(x) if region else segmentor.logits(Phase.VENOUS, x)
    return Cost((counter.peak + x.numel()) / (d * h * w), counter.flop / (d * h * w))


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
