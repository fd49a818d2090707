"""L_seg of PCN's segmentors, a loss for each form (PAPER 000, Sec. 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from napari_multiphase.labels import IGNORE
from napari_multiphase.losses.segmentation import BinaryDiceLoss, DiceCrossEntropyLoss
from napari_multiphase.methods.pcn.network import unit
from napari_multiphase.methods.pcn.rstn import Mode, Rstn

COARSE_WEIGHT, FINE_WEIGHT = 1 / 3, 2 / 3
"""Of RSTN's two networks in its loss (RSTN)."""

Seg = Callable[[nn.Module, Tensor, Tensor, Tensor, Mode, Iterator[torch.Generator], Tensor | None], dict[str, Tensor]]
"""(segmentor, image, labels (B, D, H, W), annotated (B, K), mode, draws, what each voxel counts) -> the terms of L_seg
by name."""


def multi_class_terms(loss: DiceCrossEntropyLoss) -> Seg:
    """Form "unet3d": cross-entropy and soft Dice over all structures."""
    return lambda net, x, y, _annotated, _mode, _draws, weight: loss(net(x), y, weight)


def rstn_terms(loss: BinaryDiceLoss) -> Seg:
    """Form "rstn": 1/3 (1 - D_coarse) + 2/3 (1 - D_fine), D an item's soft Dice over its three slices.

    Where the target is annotated, whatever is not drawn is known not to be it.
    """

    def terms(
        net: nn.Module,
        x: Tensor,
        y: Tensor,
        annotated: Tensor,
        mode: Mode,
        draws: Iterator[torch.Generator],
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        inside, known = y == 1, (y != IGNORE) & annotated[:, 1, None, None, None]
        found = net(unit(x), inside, mode, draws)
        coarse, fine = (loss(_wide(logits).sigmoid(), inside, known) for logits in found)
        return {"coarse": COARSE_WEIGHT * coarse, "fine": FINE_WEIGHT * fine}

    return terms


def passes(net: nn.Module, image: Tensor) -> list[Tensor]:
    """Logits of a segmentor's networks, without boxes."""
    return [net.coarse(image), net.fine(image)] if isinstance(net, Rstn) else [net(image)]


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x
