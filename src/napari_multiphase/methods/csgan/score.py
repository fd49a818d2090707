"""The S-score: how well a synthetic image still shows the anatomy of its source (PAPER 003, Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_multiphase.methods.base import Segmentor, Translator
from napari_multiphase.metrics import s_score as mean_dice
from napari_multiphase.volume import Phase


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
    logits = judge.logits(to, translator.translate(to, x))
    return mean_dice(logits.argmax(1)[0].numpy(), y[0].numpy(), range(logits.shape[1]))[0]
