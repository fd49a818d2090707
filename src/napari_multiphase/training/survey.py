"""A look at a data set: how large, how fine, how bright, and what of it is annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import PhantomConfig, RunConfig
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.labels import UNKNOWN
from napari_multiphase.training.preflight import Problem, check_case
from napari_multiphase.training.sources import CaseSource, RawCase
from napari_multiphase.volume import Phase

MOST_CASES = 24
"""So many cases are opened, evenly spread; all of them are counted."""
_SAMPLES = 20_000


@dataclass
class Survey:
    """What was seen.

    Attributes
    ----------
    cases, patients : in the whole data set.
    phases : cases that have each phase; `pairs` those that have both.
    annotated : cases in which each structure was drawn, by id.
    looked_at : cases that were opened.
    spacings_mm, extents_mm : (z, y, x) of each scan that was opened.
    hu : (n,) drawn at random from what is annotated there, every scan alike.
    problems : what is wrong with the cases that were opened.
    """

    cases: int = 0
    patients: int = 0
    phases: Counter[Phase] = field(default_factory=Counter)
    pairs: int = 0
    annotated: Counter[int] = field(default_factory=Counter)
    looked_at: int = 0
    spacings_mm: list[tuple[float, float, float]] = field(default_factory=list)
    extents_mm: list[tuple[float, float, float]] = field(default_factory=list)
    hu: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    problems: list[Problem] = field(default_factory=list)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Median (z, y, x)."""
        return np.median(self.spacings_mm, axis=0)

    @property
    def extent_mm(self) -> NDArray[np.float64]:
        """Median (z, y, x)."""
        return np.median(self.extents_mm, axis=0)


def look(run: RunConfig, sources: Sequence[CaseSource], on_event: OnEvent, cancel: Cancel) -> Survey:
    """Open up to `MOST_CASES` of `sources` and count all; phantoms are known without being made."""
    seen = Survey(len(sources), len({source.patient for source in sources}))
    for source in sources:
        seen.phases.update(source.phases)
        seen.pairs += len(source.phases) == len(Phase)
        seen.annotated.update(source.annotated)
    if isinstance(run.data, PhantomConfig):
        z, y, x = (n * s for n, s in zip(run.data.case_vox, run.spacing_mm, strict=True))
        seen.looked_at, seen.spacings_mm, seen.extents_mm = len(sources), [run.spacing_mm], [(z, y, x)]
        return seen
    chosen = np.unique(np.linspace(0, len(sources) - 1, min(MOST_CASES, len(sources))).astype(int))
    drawn = []
    for done, index in enumerate(chosen):
        cancel.check()
        on_event(Event("progress", f"looking at {sources[index].id}", done / len(chosen)))
        problems, raw = check_case(run, sources[index])
        seen.problems += problems
        if raw is not None:
            seen.looked_at += 1
            seen.spacings_mm += [volume.spacing_mm for volume in raw.volumes.values()]
            seen.extents_mm += [volume.grid.extent_mm for volume in raw.volumes.values()]
            drawn += _annotated_hu(raw, int(index))
    if drawn:
        seen.hu = np.concatenate(drawn)
    return seen


def _annotated_hu(raw: RawCase, seed: int) -> list[NDArray[np.float32]]:
    """Up to 20,000 values per scan where some structure was drawn."""
    rng, found = np.random.default_rng(seed), []
    for phase, labels in raw.labels.items():
        volume = raw.volumes.get(phase)
        if volume is None or labels.shape != volume.shape:
            continue
        values = volume.data[(labels.data > 0) & (labels.data < UNKNOWN)]
        if len(values):
            found.append(rng.choice(values, min(len(values), _SAMPLES), replace=False).astype(np.float32))
    return found
