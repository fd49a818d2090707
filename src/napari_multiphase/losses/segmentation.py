"""Segmentation losses over (B, K, D, H, W) logits and (B, D, H, W) channel indices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.labels import UNKNOWN
from napari_multiphase.losses.reduce import global_sum


def mean_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the whole batch's voxels, those with target 254 or 255 (unknown, ignore) left out.

    logits (B, K, ...), target (B, ...) channel indices -> a scalar; float32 also under mixed precision.
    """
    known = target < UNKNOWN
    return _mean_nll(_log_softmax(logits), torch.where(known, target, 0), known)


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(logits.float() if logits.dtype.itemsize < 4 else logits, dim=1)


def _mean_nll(log_p: Tensor, channel: Tensor, known: Tensor) -> Tensor:
    nll = F.nll_loss(log_p, channel, reduction="none") * known
    return global_sum(nll.sum()) / global_sum(known.sum().to(nll)).clamp(min=1)


EPS = 1e-6
"""Of soft Dice: two empty masks have 1."""


def soft_dice(overlap: Tensor, total: Tensor) -> Tensor:
    """(2 sum py + e) / (sum p + sum y + e) of overlaps sum py and totals sum p + sum y, e = 1e-6 (RSTN)."""
    return (2 * overlap + EPS) / (total + EPS)


class BinaryDiceLoss(nn.Module):
    """One minus the soft Dice of each item over all its channels, the mean over the whole batch's items (RSTN)."""

    def forward(self, p: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor:
        """Probabilities p (B, C, ...), y of the same shape in [0, 1] -> a number; float32, or wider where p is.

        `known` (bool, same shape): voxels that count; all without it.
        """
        p = p.float() if p.dtype.itemsize < 4 else p
        y = y.to(p)
        if known is not None:
            p, y = p * known, y * known
        loss = 1 - soft_dice((p * y).flatten(1).sum(1), (p + y).flatten(1).sum(1))
        return global_sum(loss.sum()) / global_sum(loss.new_tensor(float(len(loss))))


LEAST_HELD_VOX = 5
"""A channel of less than that in a patch is not held there: what is left of it is noise."""


def hold_loss(logits: Tensor, target: Tensor, before: Tensor, held: Sequence[int]) -> Tensor:
    """How far probabilities moved where the target says nothing: of each channel in `held` that q shows the Dice
    semimetric loss sum |p - q| / (sum p + sum q) (Wang et al. 2023, for soft labels). Each weighs as much as one of the
    structures that the target shows does in its Dice term: their sum is divided by the number of those.

    `q` is the target where that is known (there p counts as volume alone), else what the network said `before`, logits
    (B, K, ...). Sums span the whole batch and all processes. Returns a number, float32 also under mixed precision.
    """
    unknown = target >= UNKNOWN
    now, was = (_log_softmax(x).exp() for x in (logits, before))
    sums = []
    for channel in held:
        p, q = now[:, channel], torch.where(unknown, was[:, channel], (target == channel).to(was))
        sums.append(torch.stack([((p - q).abs() * unknown).sum(), p.sum() + q.sum(), q.sum()]))
    moved, volume, there = global_sum(torch.stack(sums)).unbind(1)
    shown = there >= LEAST_HELD_VOX
    known = global_sum(torch.bincount(target[~unknown], minlength=logits.shape[1]))[1:].count_nonzero()
    return (moved / volume)[shown].sum() / known.clamp(min=1)


class DiceCrossEntropyLoss(nn.Module):
    """Voxel-mean cross-entropy plus one minus the mean soft Dice over the foreground classes present in the target.

    Soft Dice is `soft_dice` over the whole batch at once.
    Voxels with target 254 or 255 (unknown, ignore) count in neither term. Computed in float32 also under mixed
    precision; sums and counts span all processes.
    """

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Named terms: ``{"cross_entropy": ..., "dice": ...}``, to be summed by the caller.

        `weight` (B, D, H, W): how often each voxel counts, in both terms; once without it.
        """
        log_p = _log_softmax(logits)
        known = target < UNKNOWN
        channel = torch.where(known, target, 0)
        counts = known if weight is None else known * weight.to(log_p)
        dice = 1 - self._mean_dice(log_p.exp(), channel, counts)
        return {"cross_entropy": _mean_nll(log_p, channel, counts), "dice": dice}

    def _mean_dice(self, p: Tensor, channel: Tensor, counts: Tensor) -> Tensor:
        """`counts`: 0 where nothing is known, elsewhere how often a voxel counts; bool where that is once."""
        whole = counts.dtype == torch.bool and bool(counts.all())
        p = p if whole else p * counts[:, None]
        p_true = p.gather(1, channel[:, None])[:, 0]  # (B, D, H, W), zero where unknown
        overlap = p.new_zeros(p.shape[1]).index_add(0, channel.flatten(), p_true.flatten())
        shares = None if counts.dtype == torch.bool else counts.flatten()
        drawn = channel[counts] if shares is None else channel.flatten()
        count = torch.bincount(drawn, shares, minlength=p.shape[1]).to(p)
        overlap, count, volume = global_sum(torch.stack([overlap, count, p.sum((0, 2, 3, 4))]))
        dice = soft_dice(overlap, volume + count)
        chosen = dice[1:][count[1:] > 0]
        return chosen.mean() if chosen.numel() else dice.sum() * 0 + 1
