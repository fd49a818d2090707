"""One structure from coarse to fine: a coarse pass, then rounds in which networks see what the last round found.

After PAPER 000's segmentor RSTN. Implements: RSTN, coarse to fine in testing -> ``refine``.
Branches of a method (`Segmentor.combine`) are fused in every round, before the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.imaging.body import Body
from napari_multiphase.imaging.components import large_components
from napari_multiphase.inference.engine import Networks, Settings, predict, predict_probability
from napari_multiphase.inference.scan import Scan
from napari_multiphase.methods.base import CoarseToFineSegmentor
from napari_multiphase.metrics.overlap import Overlap
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Phase

COARSE, ROUND = "coarse", "round"
"""Names of these passes in messages; a round's number follows."""
THRESHOLD = 0.5
SURE = 1e-7


def refine(
    segmentor: CoarseToFineSegmentor,
    phase: Phase,
    scan: Scan,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_tiles: Callable[[str, int, int], None],
    cancel: Cancel,
    scratch: Path | None,
) -> tuple[PhasePrediction, Settings]:
    """What `segmentor` says about `scan` in the end, on ``scan.grid``; settings and errors as of `predict`.

    Round 0 is the coarse probability. Each further one runs over the slices near the last round's mask: where the
    probability reaches 1/2, without small connected parts. It ends where two masks in a row hardly differ, where
    nothing is left (the result is empty then), or after ``Rounds.most``.
    """
    rounds, members = segmentor.traits.rounds, range(segmentor.traits.members)
    assert rounds is not None
    run = partial(predict_probability, on_event=on_event, cancel=cancel)
    coarse = Networks(tuple(partial(segmentor.coarse_logits, phase, member=m) for m in members), segmentor.combine)
    fine = Networks(tuple(partial(segmentor.logits, phase, member=m) for m in members), segmentor.combine)
    p, settings = run(coarse, scan, settings, on_tiles=partial(on_tiles, COARSE))
    mask = large_components(p >= THRESHOLD, rounds.least_part)
    for number in range(1, rounds.most + 1):
        if not mask.any():
            break
        seen, before = _around(scan, p, mask), mask
        p, settings = run(fine, seen, settings, on_tiles=partial(on_tiles, f"{ROUND} {number}"))
        mask = large_components(p >= THRESHOLD, rounds.least_part)
        if mask.any() and Overlap.of(mask, before).dice >= rounds.stop_dice:
            break
    if not mask.any():
        on_event(Event("warning", f"the structure was not found in the {phase} scan: the result is empty"))
        p[:] = 0
    p[(p >= THRESHOLD) & ~mask] = 0
    last = replace(scan, appended=(p,), context_vox=0)
    return predict(
        Networks((_appended,)),
        last,
        settings,
        on_event=on_event,
        on_tiles=lambda done, of: None,
        cancel=cancel,
        scratch=scratch,
    )


def _around(scan: Scan, p: NDArray[np.float16], mask: NDArray[np.bool_]) -> Scan:
    """The scan with `p` and `mask` as inputs, to be run in slices whose stacks meet the mask."""
    grid, reach = scan.network_grid, 2 * scan.context_vox + 1
    slices = maximum_filter1d(mask.any(axis=(1, 2)).view(np.uint8), reach, mode="constant").view(bool)
    body = Body(scan.body.on(grid) & slices[:, None, None], grid.spacing_mm, grid.origin_mm)
    return replace(scan, appended=(p, mask), body=body)


def _appended(x: Tensor) -> Tensor:
    """The last channel, a probability (B, C, d, h, w) -> log-probabilities (B, 2, d, h, w)."""
    p = x[:, -1].clamp(SURE, 1 - SURE)
    return torch.stack([torch.log1p(-p), p.log()], dim=1)
