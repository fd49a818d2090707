"""RSTN, PCN's segmentor of one target: coarse network, saliency transformation, fine network (PAPER 000, Sec. 3).

u (N, 3, H, W) are stacks of three neighbouring slices in [0, 1]; each network gives a logit for each of the three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_multiphase.config.pcn import SLICES, RstnConfig
from napari_multiphase.nets.fcn8s import Fcn8s

OUTSIDE = -1e4
"""Fine logit outside the box: its probability is 0 in any precision."""

# --- boxes ---------------------------------------------------------------------------------------------------------


class Box(NamedTuple):
    """Rows y0 to y1 and columns x0 to x1 of a slice."""

    y0: int
    y1: int
    x0: int
    x1: int

    def grown(self, margins: Sequence[int], height: int, width: int) -> Box:
        """With margins (top, bottom, left, right), within the slice."""
        top, bottom, left, right = margins
        return Box(
            max(0, self.y0 - top), min(height, self.y1 + bottom), max(0, self.x0 - left), min(width, self.x1 + right)
        )

    def cut(self, x: Tensor) -> Tensor:
        """(..., H, W) -> the box of it, a view."""
        return x[..., self.y0 : self.y1, self.x0 : self.x1]


def box_of(mask: Tensor) -> Box | None:
    """The bounding box of what any channel of (C, H, W) bool holds; None where nothing."""
    _, height, width = mask.shape
    if mask.is_meta:  # shapes without values: the largest that there may be
        return Box(0, height, 0, width)
    flat = mask.any(0)
    rows, columns = flat.any(1).nonzero()[:, 0], flat.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


# --- network -------------------------------------------------------------------------------------------------------


class Saliency(nn.Module):
    """g: coarse probabilities (N, 3, H, W) -> weights of the image (N, 3, H, W), all `bias` at the start."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(SLICES, SLICES, 3, padding=1)
        self.last = nn.Conv2d(SLICES, SLICES, 5, padding=2)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.ones_(self.first.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, bias)  # type: ignore[arg-type]

    def forward(self, p: Tensor) -> Tensor:
        return self.last(self.first(p).relu())


class Mode(StrEnum):
    """What the fine network sees in training."""

    RAW = "S"
    """The raw image in the label's box."""
    WEIGHTED = "I"
    """The image times its saliency in the label's box."""
    JOINED = "J"
    """The image times its saliency in the coarse result's box, as in testing."""


class Results(NamedTuple):
    """Logits (N, 3, H, W) of both networks."""

    coarse: Tensor
    fine: Tensor


class Rstn(nn.Module):
    """One target's segmentor: stacks u (N, 3, H, W) in [0, 1] -> `Results`."""

    def __init__(self, config: RstnConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = Fcn8s(config.net, SLICES)
        self.saliency = Saliency(config.saliency_bias)
        self.fine = Fcn8s(config.net, SLICES)

    def forward(self, u: Tensor, inside: Tensor, mode: Mode, draws: Iterator[torch.Generator]) -> Results:
        """Both results in training. The box has no gradient: the fine loss reaches the coarse network through g alone.

        Parameters
        ----------
        inside : (N, 3, H, W) bool, the target's label.
        draws : a generator per item, for the margins.
        """
        coarse = self.coarse(u)
        p = coarse.to(torch.promote_types(coarse.dtype, torch.float32)).sigmoid()
        image = u if mode is Mode.RAW else self.weighted(u, p)
        boxes = [self._training_box(a, b, mode, draw) for a, b, draw in zip(p, inside, draws, strict=False)]
        return Results(coarse, self.fine_logits(image, boxes))

    def weighted(self, u: Tensor, p: Tensor) -> Tensor:
        """I * g(P)."""
        return u * self.saliency(p)

    def fine_logits(self, image: Tensor, boxes: Sequence[Box | None]) -> Tensor:
        """(N, 3, H, W), each through the fine network within its box; `OUTSIDE` elsewhere, and where it has none."""
        out = torch.full_like(image, OUTSIDE, dtype=torch.promote_types(image.dtype, torch.float32))
        for n, box in enumerate(boxes):
            if box is not None:
                out[n, :, box.y0 : box.y1, box.x0 : box.x1] = self.fine(box.cut(image[n : n + 1]))[0].to(out.dtype)
        return out

    def testing_box(self, mask: Tensor) -> Box | None:
        """The box of the last round's mask (3, H, W) bool, with the fixed margin; None where it is empty."""
        box = box_of(mask)
        return None if box is None else box.grown([self.config.margin_vox] * 4, *mask.shape[1:])

    def _training_box(self, p: Tensor, inside: Tensor, mode: Mode, draw: torch.Generator) -> Box:
        """Of the coarse result where the mode says so and it found anything, else of the label, else everything."""
        _, height, width = p.shape
        found = box_of(p >= 0.5) if mode is Mode.JOINED else None
        box = found or box_of(inside) or Box(0, height, 0, width)
        margins = [self.config.margin_vox] * 4
        if torch.rand((), generator=draw) < self.config.random_share:
            low, high = self.config.random_margin_vox
            margins = torch.randint(low, high + 1, (4,), generator=draw).tolist()
        return box.grown(margins, height, width)
