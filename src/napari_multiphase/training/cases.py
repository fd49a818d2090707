"""Phantom cases as memory-mapped arrays on the network's grid, made once per run folder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import RunConfig
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.phantom.spec import Pathology
from napari_multiphase.volume import Phase

FIRST_TRAINING_SEED = 1000
PATHOLOGIES: tuple[Pathology, ...] = ("none", "liver", "pancreas")


@dataclass(frozen=True)
class PhaseCase:
    """One scan to learn from: `hu` (D, H, W) int16 and `channels` (D, H, W) uint8 indices into the model's labels."""

    seed: int
    phase: Phase
    hu: NDArray[np.int16]
    channels: NDArray[np.uint8]
    anchors: tuple[NDArray[np.int32], ...]
    """Per channel up to 512 voxel indices (n, 3) where it lies; empty where absent. What patches are centred on."""


def phantom_seeds(run: RunConfig) -> range:
    """The seeds of the run's training phantoms; tests and figures use seeds below `FIRST_TRAINING_SEED`."""
    return range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + run.cases)


def make_cases(run: RunConfig, folder: Path, processes: int, on_event: OnEvent, cancel: Cancel) -> None:
    """Write what is missing of the run's phantoms into `folder`, `processes` at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in phantom_seeds(run) if not _file(folder, seed, Phase.VENOUS, "labels").exists()]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_make_case, run, folder, seed) for seed in missing]
        for done, task in enumerate(tasks, start=1):
            if cancel.requested:
                pool.shutdown(cancel_futures=True)
            cancel.check()
            task.result()
            on_event(Event("progress", f"phantom {done} of {len(tasks)}", done / len(tasks)))


def _make_case(run: RunConfig, folder: Path, seed: int) -> None:
    pathology = PATHOLOGIES[seed % len(PATHOLOGIES)]
    study = make_phantom(PhantomSpec(run.case_vox, run.spacing_mm, seed, pathology))
    for phase in Phase:  # the venous labels are written last: their presence says that the case is whole
        _save(_file(folder, seed, phase, "hu"), study.volumes[phase].data.astype(np.int16))
        _save(_file(folder, seed, phase, "labels"), study.labels[phase])


def _save(path: Path, array: NDArray) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


def _file(folder: Path, seed: int, phase: Phase, kind: str) -> Path:
    return folder / f"{seed}_{phase}_{kind}.npy"


def load_cases(run: RunConfig, folder: Path) -> Iterator[PhaseCase]:
    """The run's cases, arterial and venous in turn; images stay on disk, memory-mapped."""
    channel_of = np.zeros(256, np.uint8)  # a structure the model does not have counts as background
    for channel, label in enumerate(run.labels):
        channel_of[label] = channel
    for seed in phantom_seeds(run):
        for phase in Phase:
            hu = np.load(_file(folder, seed, phase, "hu"), mmap_mode="r", allow_pickle=False)
            labels = np.load(_file(folder, seed, phase, "labels"), allow_pickle=False)
            channels = channel_of[labels]
            yield PhaseCase(seed, phase, hu, channels, _anchors(channels, len(run.labels), seed))


def _anchors(channels: NDArray[np.uint8], classes: int, seed: int) -> tuple[NDArray[np.int32], ...]:
    rng = np.random.default_rng([seed, classes])
    flat = channels.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(classes + 1))
    anchors = []
    for begin, end in zip(starts, starts[1:], strict=False):
        chosen = order[begin:end]
        if len(chosen) > 512:
            chosen = rng.choice(chosen, 512, replace=False)
        anchors.append(np.stack(np.unravel_index(chosen, channels.shape), axis=1).astype(np.int32))
    return tuple(anchors)
