"""What is wrong with cases, named before any training: all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_multiphase.config import RunConfig, method_config
from napari_multiphase.errors import UserError
from napari_multiphase.labels import UNKNOWN, name_of
from napari_multiphase.training.sources import CaseSource, RawCase
from napari_multiphase.volume import Phase, Volume

GRID_TOLERANCE_MM = 0.1
DENSE_HU = 4000.0
DENSE_SHARE = 0.01
"""At most so many voxels may be denser than that; metal is a few."""
LEAST_EXTENT_MM = 20.0


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one case. "bad" cases stop a run; a "warning" is told and the run goes on."""

    case: str
    text: str
    level: Literal["bad", "warning"] = "bad"

    def __str__(self) -> str:
        return f"{self.case}: {self.text}"


def check_phases(run: RunConfig, source: CaseSource) -> list[Problem]:
    """What the run's method lacks in a case that has an image; nothing is read."""
    pair = method_config(run.method, run.method_config).traits.reads == "pair"
    missing = [phase for phase in Phase if phase not in source.phases]
    if not pair or not missing or not source.phases:
        return []
    text = f"has no {missing[0]} scan, and {run.method} learns from pairs; the case is left out"
    return [Problem(source.id, text, "warning")]


def check_case(run: RunConfig, source: CaseSource) -> tuple[list[Problem], RawCase | None]:
    """What is wrong with one case for any method, and the case, where it could be read."""
    if not source.phases:
        return [Problem(source.id, "neither phase has an image; add the files or leave the case out")], None
    try:
        raw = source.read()
    except UserError as error:
        return [Problem(source.id, str(error))], None
    except Exception as error:
        return [failure(source, error)], None
    found = [Problem(source.id, text) for text in _bad(raw)]
    return found + [Problem(source.id, text, "warning") for text in _doubtful(run, source, raw)], raw


def failure(source: CaseSource, error: Exception) -> Problem:
    """A case that nobody foresaw, as one that is bad: it is named with the others."""
    words = "not enough memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
    return Problem(source.id, f"cannot be read or prepared ({words}); repair its files or leave the case out")


def refuse(problems: Sequence[Problem]) -> None:
    """Raise one UserError that names every bad case, if there is any."""
    bad = [str(problem) for problem in problems if problem.level == "bad"]
    if bad:
        cases = len({problem.case for problem in problems if problem.level == "bad"})
        lines = "\n  ".join(bad)
        raise UserError(f"{cases} {'case' if cases == 1 else 'cases'} cannot be trained on; repair or drop:\n  {lines}")


def _bad(raw: RawCase) -> Iterator[str]:
    for phase, volume in raw.volumes.items():
        yield from _geometry(phase, volume)
        yield from _values(phase, volume)
        if raw.foreign.get(phase):
            values = ", ".join(map(str, raw.foreign[phase]))
            yield f"the {phase} labels hold {values}, which no label of the data set has; correct the file or the table"
        if phase in raw.labels and not raw.labels[phase].grid.matches(volume.grid, GRID_TOLERANCE_MM):
            yield f"the {phase} labels lie on another grid than the image ({_grids(raw.labels[phase], volume)})"
        seen = raw.reviewed.get(phase)
        if seen is not None and not seen.grid.matches(volume.grid, GRID_TOLERANCE_MM):
            yield f"what was reviewed of the {phase} scan lies on another grid than it ({_grids(seen, volume)})"
    if len(raw.volumes) == len(Phase) and _same(*(raw.volumes[phase] for phase in Phase)):
        yield "both phases are the same image; name the right files"
    if raw.transform is not None and not (np.isfinite(raw.transform).all() and np.linalg.det(raw.transform) > 0.1):
        yield "its transform is not one between two scans of a body (not finite, folded or mirrored); register anew"


def _geometry(phase: Phase, volume: Volume) -> Iterator[str]:
    if min(volume.grid.extent_mm) < LEAST_EXTENT_MM:
        size = " x ".join(f"{mm:.0f}" for mm in volume.grid.extent_mm)
        yield f"the {phase} scan is {size} mm in size, too thin to learn from; check its spacing"


def _values(phase: Phase, volume: Volume) -> Iterator[str]:
    data = volume.data
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        yield f"the {phase} scan holds values that are not numbers; repair the file"
        return
    low, high = float(data.min()), float(data.max())
    span = f"the {phase} scan runs from {low:g} to {high:g}"
    if low >= 0:
        yield f"{span}, which cannot be HU (fat and air lie below 0); export it in Hounsfield units"
    elif high - low < 200:
        yield f"{span}, which cannot be HU (it was scaled or is empty); export it in Hounsfield units"
    elif np.count_nonzero(data > DENSE_HU) > DENSE_SHARE * data.size:
        yield f"{span}, much of it denser than any tissue; export it in Hounsfield units"


def _grids(labels: Volume, volume: Volume) -> str:
    sizes = [" x ".join(map(str, v.shape)) for v in (labels, volume)]
    if sizes[0] != sizes[1]:
        return f"{sizes[0]} voxels for {sizes[1]}"
    return "the same number of voxels, at another place or spacing"


def _same(one: Volume, other: Volume) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one.data, other.data))


def _doubtful(run: RunConfig, source: CaseSource, raw: RawCase) -> Iterator[str]:
    if not raw.labels:
        yield "has no labels; it serves only methods that learn from unlabelled scans"
    elif len(raw.labels) < len(raw.volumes):
        (bare,) = (phase for phase in raw.volumes if phase not in raw.labels)
        yield f"has no {bare} labels; what that scan shows is not learned from"
    wanted = sorted(source.annotated & set(run.labels))
    drawn = {int(i) for labels in raw.labels.values() for i in np.unique(labels.data) if 0 < i < UNKNOWN}
    if raw.labels and wanted and not drawn & set(wanted):
        names = ", ".join(name_of(label) for label in wanted)
        yield f"its labels hold none of what was annotated ({names}); check that they are the right files"
