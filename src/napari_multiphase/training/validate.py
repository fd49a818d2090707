"""Dice on held-out cases, through the inference engine: what Segment would give on the network's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_multiphase.config import RunConfig, method_config
from napari_multiphase.inference.arrays import predict_arrays
from napari_multiphase.labels import IGNORE, UNKNOWN, name_of
from napari_multiphase.methods.base import Method
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.processes import Processes
from napari_multiphase.volume import Phase

Show = Callable[[NDArray[Any], NDArray[np.uint8], NDArray[np.uint8]], None]
"""HU, reference and predicted label ids of a phase, each (D, H, W)."""


def validate(
    run: RunConfig,
    method: Method,
    nets: nn.Module,
    cases: Sequence[TrainingCase],
    processes: Processes,
    show: Show | None = None,
) -> dict[str, float]:
    """Mean Dice over cases and phases per structure ("dice liver"), and "dice mean" over the structures present.

    The cases are divided among the processes. `show` gets the first case's scan, reference and
    prediction.
    """
    sums = np.zeros((2, len(run.labels)))
    config = method_config(run.method, run.method_config)
    with _evaluating(nets):
        segmentor = method.segmentor(config, nets)
        for number, case in enumerate(cases):
            if number % processes.count != processes.rank:
                continue
            scans = case.pair if config.traits.reads == "pair" else case.scans
            if not scans:
                continue
            found = predict_arrays(
                segmentor,
                {phase: scan.hu for phase, scan in scans.items()},
                case.spacing_mm,
                run.window_hu,
                run.patch_vox,
                run.overlap,
                processes.device,
                processes.precision,
                {phase: (scan.mean, scan.std) for phase, scan in scans.items()},
            )
            for phase, channels in found.items():
                sums += _dice(channels, scans[phase].channels, case.annotated, scans[phase].reviewed)
            if show and found and number == 0:
                _show(run, scans, found, show)
    totals, counts = processes.total(torch.from_numpy(sums).to(processes.device)).cpu().numpy()
    present = [c for c in range(1, len(run.labels)) if counts[c]]
    values = {f"dice {name_of(run.labels[c])}": float(totals[c] / counts[c]) for c in present}
    if present:
        values["dice mean"] = float(np.mean(list(values.values())))
    return values


def _dice(
    found: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    annotated: NDArray[np.bool_],
    reviewed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """(2, K): Dice per channel, and 1 where the channel was `annotated` (K,) and lies in the reference.

    Voxels of 255 are left out, and those of 254 where the case is annotated in full. Where it is in part, 254 is none
    of the annotated structures: to find one there is wrong.

    Of a case that was corrected in part only what was `reviewed` is believed, there of every structure. One that is
    annotated was drawn wherever it lies: to find it elsewhere is wrong, reviewed or not.
    """
    classes = len(annotated)
    judged = truth < UNKNOWN if annotated[0] else truth < IGNORE
    if reviewed is not None:
        truth = np.where(reviewed, truth, np.uint8(IGNORE))
        judged = truth < IGNORE
        judged |= annotated[found]
        annotated = np.ones(classes, bool)
    found, truth = found[judged], truth[judged]
    both = np.bincount(truth[truth == found], minlength=classes)
    drawn = np.bincount(truth[truth < UNKNOWN], minlength=classes)
    sizes = drawn + np.bincount(found, minlength=classes)
    present = annotated & (drawn > 0)
    return np.stack([2 * both / np.maximum(sizes, 1) * present, present.astype(float)])


def _show(
    run: RunConfig, scans: Mapping[Phase, PhaseArrays], found: Mapping[Phase, NDArray[np.uint8]], show: Show
) -> None:
    phase = Phase.VENOUS if Phase.VENOUS in found else next(iter(found))
    ids = np.arange(256, dtype=np.uint8)
    ids[: len(run.labels)] = run.labels
    show(scans[phase].hu, ids[scans[phase].channels], ids[found[phase]])


@contextmanager
def _evaluating(nets: nn.Module) -> Iterator[None]:
    before = {module: module.training for module in nets.modules()}
    try:
        nets.eval()
        yield
    finally:
        for module, training in before.items():
            module.training = training
