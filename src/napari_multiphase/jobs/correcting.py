"""Jobs of the Correct dock: uncertain regions, and the editing tools over a whole volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.imaging import editing
from napari_multiphase.imaging.editing import Box, Change
from napari_multiphase.imaging.fusion import carry_maps
from napari_multiphase.imaging.uncertain import uncertain_regions
from napari_multiphase.jobs.server import Context
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase

Told = dict[str, Any] | None
"""``{"box": six numbers, "after": values}``, or None where nothing changes."""

_TOOLS: Mapping[str, Callable[..., Change]] = {
    "fill between": editing.fill_between,
    "grow": editing.grow,
    "smooth": editing.smooth,
    "keep largest": editing.keep_largest,
    "remove small": editing.remove_small,
}


def edit(context: Context, labels: NDArray[np.uint8], tool: str, values: Mapping[str, Any]) -> Told:
    """One of `imaging.editing`'s tools over `labels` (D, H, W); `values` are its arguments."""
    context.on_event(Event("progress", f"{tool} over the volume"))
    return _told(_TOOLS[tool](labels, **values))


def find_uncertain(
    context: Context, labels: NDArray[np.uint8], confidence: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> dict[str, Any]:
    """`uncertain_regions` as JSON types, with all masks in one array of bits, each from a byte of its own on."""
    context.on_event(Event("progress", "looking for uncertain regions"))
    found = uncertain_regions(labels, confidence, spacing_mm)
    bits = [np.packbits(region.mask) for region in found]
    rows = [
        {
            "structure": region.structure, "ml": region.ml, "confidence": region.confidence, "score": region.score,
            "centre": list(region.centre), "box": _numbers(region.box),
        }
        for region in found
    ]  # fmt: skip
    return {"regions": rows, "masks": np.concatenate(bits) if bits else np.zeros(0, np.uint8)}


def take_structure(
    context: Context,
    study: Study,
    phase: Phase,
    labels: NDArray[np.uint8],
    structure: int,
    source: NDArray[np.uint8] | None = None,
    source_phase: Phase | None = None,
    folder: Path | None = None,
    over: Sequence[int] = (),
    within: Sequence[int] | None = None,
) -> Told:
    """A structure of `labels`, on the grid of `phase`, becomes what another map says it is.

    The other map is `source`, on the grid of `source_phase` (default: `phase`), or what was corrected in `source_phase`
    and is kept in the study's workspace. Of the other phase it is carried through the study's transform, and where that
    scan does not reach nothing changes. `within` limits it: six numbers.
    """
    phase, source_phase = Phase(phase), Phase(source_phase or phase)
    other = _corrected(study, source_phase, folder) if source is None else source
    seen = None
    if source_phase is not phase:
        context.on_event(Event("progress", f"carrying from the {source_phase} scan"))
        through = (study.transform or PhaseTransform.identity()).into(source_phase)
        grids = study.volumes[source_phase].grid, study.volumes[phase].grid
        context.cancel.check()
        ones = np.broadcast_to(np.uint8(1), other.shape)
        other, reached = carry_maps((other, np.ascontiguousarray(ones)), *grids, through)
        seen = reached > 0
        context.cancel.check()
    context.on_event(Event("progress", "comparing"))
    return _told(
        editing.take(labels, other, structure, over=over, within=box_of(within) if within else None, seen=seen)
    )


def _corrected(study: Study, phase: Phase, folder: Path | None) -> NDArray[np.uint8]:
    from napari_multiphase.studies.annotation import Annotation
    from napari_multiphase.studies.workspace import Workspace, default_folder

    folder = folder or default_folder(study)
    none = f"nothing was corrected in the {phase} scan yet: choose a prediction, or correct that scan first"
    if not (folder / "study.json").exists():
        raise UserError(none)
    path = Workspace.open(folder).annotation_file(phase)
    if not path.exists():
        raise UserError(none)
    with Annotation.open(path) as kept:
        if kept.grid != study.volumes[phase].grid:
            raise UserError(f"{path} belongs to another scan than the {phase} one that is open: open its own study")
        return kept.labels()


def box_of(numbers: Sequence[int]) -> Box:
    """Start and stop along z, y, x as slices."""
    a, b, c, d, e, f = (int(n) for n in numbers)
    return slice(a, b), slice(c, d), slice(e, f)


def _numbers(box: Box) -> list[int]:
    return [int(n) for part in box for n in (part.start, part.stop)]


def _told(change: Change) -> Told:
    return None if change is None else {"box": _numbers(change[0]), "after": np.ascontiguousarray(change[1])}


CORRECTING_TASKS: dict[str, Callable[..., Any]] = {
    "edit": edit,
    "find_uncertain": find_uncertain,
    "take_structure": take_structure,
}
