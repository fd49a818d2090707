"""What the Correct dock does: which structure and region are at hand, and the tools on `session.annotating`. Draws
nothing.

What acts on a slice or around the cursor is done at once; what goes over the volume is a job of the worker, and its
answer is dropped where labels were changed meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.annotating import Annotating
from napari_multiphase.gui.edits import Box, Edit, Edits
from napari_multiphase.gui.layers import jump_to, layers_of, ours
from napari_multiphase.gui.session import Session
from napari_multiphase.imaging import editing
from napari_multiphase.jobs.correcting import box_of
from napari_multiphase.jobs.protocol import URGENT
from napari_multiphase.labels import name_of
from napari_multiphase.volume import Phase

_SEEN_SHARE = 0.9
"""A region is reviewed when this share of its voxels is."""
_MARGIN_MM = 70.0
"""What is shown around a region that was jumped to."""
_ROUND = {"paint", "erase", "polygon", "fill", "HU brush", "HU eraser"}
"""Edits that make a slice a key slice of *Fill between slices*."""


@dataclass
class Region:
    """An uncertain region as the list shows it; see `imaging.uncertain`."""

    structure: int
    ml: float
    confidence: float
    centre: tuple[int, int, int]
    box: Box
    mask: NDArray[np.bool_]
    reviewed: bool = False


@dataclass(frozen=True)
class Source:
    """Where a structure can be taken from: `labels` on the grid of `phase`; None for what was corrected there."""

    text: str
    phase: Phase
    labels: NDArray[np.uint8] | None


class Correcting:
    """One per dock. `on_change` gets "regions", "region" (which one is at hand), "structure" or "tool"."""

    def __init__(self, session: Session, on_change: Callable[[str], object]) -> None:
        self._session, self._on_change = session, on_change
        self.structure = 1
        self.in_slice = True
        self.overwrite = False
        self.found: list[Region] | None = None
        self.only: int | None = None
        self.at = -1
        self._keys: dict[tuple[int, int], set[int]] = {}
        self._token: object = None

    @property
    def annotating(self) -> Annotating:
        """The labels at hand."""
        return self._session.annotating

    # --- structures ------------------------------------------------------------------------------------------------

    def choose(self, structure: int) -> None:
        """Edit this structure from now on, with napari's brush too."""
        self.structure = structure
        layer = self.annotating.layer
        if layer is not None and layer.selected_label != structure:
            layer.selected_label = structure
        self._on_change("structure")

    def activate(self) -> None:
        """Make the annotation the active layer, so that keys and brush are its own."""
        layer = self.annotating.layer
        if layer is not None:
            self._session.viewer.layers.selection.active = layer

    @property
    def over(self) -> list[int]:
        """The structures that may be overwritten: none, or all that are not complete."""
        if not self.overwrite:
            return []
        states = self.annotating.states
        return [label for label in range(1, 254) if states.get(label) != "complete" and label != self.structure]

    # --- uncertain regions -----------------------------------------------------------------------------------------

    def find(self) -> None:
        """Look for the uncertain regions of the labels as they are now; "regions" follows."""
        annotating = self.annotating
        self.found, self.at, self._token = None, -1, None
        self._on_change("regions")
        layer, confidence = annotating.layer, annotating.confidence
        if layer is None or confidence is None:
            return
        token = self._token = object()
        params = {"labels": layer.data, "confidence": confidence, "spacing_mm": annotating.grid.spacing_mm}
        self._session.quietly("find_uncertain", params, lambda told: self._found(token, told), priority=URGENT)

    def _found(self, token: object, told: Any) -> None:
        if token is not self._token:
            return
        self.found = regions_from(told) if told is not None else []
        if self.only not in {region.structure for region in self.found}:
            self.only = None
        self.check_reviewed()
        self._on_change("regions")

    @property
    def regions(self) -> list[Region] | None:
        """The regions that are listed, and that `at` and `next` count: all, or those of the structure `only`."""
        if self.found is None or self.only is None:
            return self.found
        return [region for region in self.found if region.structure == self.only]

    def list_only(self, structure: int | None) -> None:
        """List the regions of one structure (0: of none), or with None all of them."""
        self.only, self.at = structure, -1
        self._on_change("regions")

    def check_reviewed(self) -> bool:
        """Tick what is reviewed by now; whether any tick changed."""
        marks, changed = self.annotating.reviewed, False
        for region in self.found or ():
            seen = float(marks[region.box][region.mask].mean()) >= _SEEN_SHARE
            changed, region.reviewed = changed or seen != region.reviewed, seen
        return changed

    def next(self) -> None:
        """Go to the next region that nobody reviewed, after the last one from the start again."""
        regions = self.regions or []
        order = [*range(self.at + 1, len(regions)), *range(min(self.at + 1, len(regions)))]
        for index in order:
            if not regions[index].reviewed:
                self.go_to(index)
                return

    def go_to(self, index: int) -> None:
        """Show a region: its slice, large, the annotation visible, its structure chosen."""
        self.at = index
        region = (self.regions or [])[index]
        layer, grid = self.annotating.layer, self.annotating.grid
        assert layer is not None
        viewer = self._session.viewer
        layer.visible = True
        self.activate()
        jump_to(viewer, grid, region.centre)
        z, y, x = (o + i * s for o, i, s in zip(grid.origin_mm, region.centre, grid.spacing_mm, strict=True))
        viewer.scene.camera.center = (z, y, x)
        wide = max((p.stop - p.start) * s for p, s in zip(region.box, grid.spacing_mm, strict=True))
        viewer.scene.camera.zoom = min(viewer.canvas.size) / (min(wide, 200.0) + 2 * _MARGIN_MM)
        if region.structure:
            self.choose(region.structure)
        self._on_change("region")

    def mark_reviewed(self) -> None:
        """The region at hand is right as it is now; on to the next one."""
        regions = self.regions or []
        if 0 <= self.at < len(regions):
            region = regions[self.at]
            self.annotating.mark_reviewed(region.box, region.mask)
            region.reviewed = True
            self._on_change("regions")
            self.next()

    # --- tools -----------------------------------------------------------------------------------------------------

    def view_axis(self) -> int:
        """The axis that the slider goes along."""
        dims = self._session.viewer.dims
        hidden = [axis for axis in range(3) if axis not in dims.displayed]
        return hidden[0] if len(hidden) == 1 else 0

    def slice_box(self) -> Box:
        """The slice in view."""
        grid, axis = self.annotating.grid, self.view_axis()
        index = self.voxel_of(self._session.viewer.dims.point)[axis]
        index = min(max(index, 0), grid.shape[axis] - 1)
        z, y, x = (slice(index, index + 1) if a == axis else slice(0, n) for a, n in enumerate(grid.shape))
        return z, y, x

    def voxel_of(self, point_mm: Sequence[float]) -> tuple[int, int, int]:
        """The voxel at a point (z, y, x) mm; it may lie outside."""
        grid = self.annotating.grid
        z, y, x = (round((p - o) / s) for p, o, s in zip(point_mm, grid.origin_mm, grid.spacing_mm, strict=True))
        return z, y, x

    def keys(self) -> list[int]:
        """The slices across the view's axis in which the structure was painted since it was filled last."""
        return sorted(self._keys.get((self.view_axis(), self.structure), ()))

    def fill_between(self, replace: bool) -> None:
        """Between slices across the view's axis: gaps alone, or all that lies between painted slices."""
        values: dict[str, Any] = {"axis": self.view_axis(), "spacing_mm": self.annotating.grid.spacing_mm}
        if replace:
            values["keys"] = self.keys()
        self._over_volume("fill between", "fill between slices", {**values, "over": self.over})
        self._keys.pop((self.view_axis(), self.structure), None)

    def reshape(self, tool: str, mm: float) -> None:
        """ "grow" (by a negative number: shrink) or "smooth"."""
        grid = self.annotating.grid
        values: dict[str, Any] = {"spacing_mm": grid.spacing_mm, "over": self.over, _AMOUNT[tool]: mm}
        what = "shrink" if mm < 0 else tool
        function = editing.grow if tool == "grow" else editing.smooth
        if self.in_slice:
            self._at_once(what, lambda labels, box: function(labels, self.structure, within=box, **values))
        else:
            self._over_volume(tool, what, values)

    def keep_largest(self) -> None:
        """Everything but the largest part goes."""
        if self.in_slice:
            self._at_once("keep largest", lambda labels, box: editing.keep_largest(labels, self.structure, within=box))
        else:
            self._over_volume("keep largest", "keep largest", {})

    def remove_small(self, smallest_ml: float) -> None:
        """Parts below so many millilitres go."""
        values = {"smallest_ml": smallest_ml, "voxel_ml": self.annotating.grid.voxel_ml}
        if self.in_slice:
            self._at_once(
                "remove islands", lambda labels, box: editing.remove_small(labels, self.structure, within=box, **values)
            )
        else:
            self._over_volume("remove small", "remove islands", values)

    def _at_once(self, what: str, tool: Callable[[NDArray[np.uint8], Box], editing.Change]) -> None:
        layer = self.annotating.layer
        assert layer is not None
        self.put(tool(layer.data, self.slice_box()), what)

    def put(self, change: editing.Change, what: str) -> None:
        """Apply what a tool returned, or say that it changes nothing."""
        if change is None:
            self._say_nothing(what)
        else:
            self.annotating.apply(*change, self.named(what))
            self._on_change("tool")

    def named(self, what: str) -> str:
        """What *Undo* says it takes back."""
        return f"{what}, {name_of(self.structure)}"

    def _over_volume(self, tool: str, what: str, values: dict[str, Any]) -> None:
        layer = self.annotating.layer
        assert layer is not None
        params = {"labels": layer.data, "tool": tool, "values": {**values, "structure": self.structure}}
        self._ask("edit", what, params)

    def _ask(self, task: str, what: str, params: dict[str, Any]) -> None:
        edits = self.annotating.edits
        before, said = edits.last if edits else None, self.named(what)
        title = f"{said[:1].upper()}{said[1:]}"
        self._session.ask(task, title, params, lambda told: self._answered(told, said, edits, before))

    def _answered(self, told: Any, said: str, edits: Edits | None, before: Edit | None) -> None:
        annotating = self.annotating
        if edits is None or annotating.edits is not edits:
            return
        if edits.last is not before:
            self._session.tell_error("edit", f"the labels were changed while '{said}' ran: press it once more", "")
        elif told is None:
            self._say_nothing(said)
        else:
            annotating.apply(box_of(told["box"]), told["after"], said)
            self._on_change("tool")

    def _say_nothing(self, what: str) -> None:
        from napari.utils.notifications import show_info

        show_info(f"{what[:1].upper()}{what[1:]}: nothing to change.")

    # --- from elsewhere --------------------------------------------------------------------------------------------

    def sources(self) -> list[Source]:
        """Label maps of this study that a structure can be taken from, those of the phase at hand first."""
        session, study = self._session, self._session.study
        if study is None or self.annotating.layer is None:
            return []
        mine = self.annotating.phase
        found = []
        for layer in reversed(layers_of(session.viewer, kind="labels", study=study.id)):
            name = str(ours(layer)["phase"])
            phase = study.fused_phase if name == "fused" else Phase(name)
            run = ours(layer).get("run", "")
            found.append(Source(f"{name}, prediction {run}", phase, layer.data))
        found.sort(key=lambda source: source.phase is not mine)
        if mine.other in study.volumes:
            found.append(Source(f"{mine.other}, as corrected", mine.other, None))
        return found

    def take(self, source: Source, reach_mm: float | None) -> None:
        """The structure as `source` has it, everywhere or within `reach_mm` of the cursor of the viewer."""
        session, annotating = self._session, self.annotating
        assert annotating.layer is not None and session.study is not None
        params: dict[str, Any] = {
            "study": session.study, "phase": annotating.phase, "labels": annotating.layer.data,
            "structure": self.structure, "source": source.labels, "source_phase": source.phase,
            "folder": annotating.folder, "over": self.over,
        }  # fmt: skip
        if reach_mm is not None:
            at = self.voxel_of(session.viewer.dims.point)
            box = editing.box_around(at, reach_mm, annotating.grid.spacing_mm, annotating.grid.shape)
            params["within"] = [n for part in box for n in (part.start, part.stop)]
        self._ask("take_structure", f"take from {source.text}", params)

    # --- what the session says -------------------------------------------------------------------------------------

    def edited(self) -> None:
        """Labels or marks changed: remember painted slices, and tick what is reviewed."""
        edits = self.annotating.edits
        edit = edits.last if edits is not None else None
        if edit is not None and edit.what.split(",")[0] in _ROUND:
            for axis, part in enumerate(edit.box):
                if part.stop - part.start == 1:
                    for label in set(np.unique(np.concatenate([edit.labels.before, edit.labels.after]))) - {0}:
                        self._keys.setdefault((axis, int(label)), set()).add(part.start)
        if self.check_reviewed():
            self._on_change("regions")

    def begun(self) -> None:
        """Other labels are at hand, or none."""
        self._keys.clear()
        layer = self.annotating.layer
        if layer is not None:
            self.choose(self.structure)
            threading.Thread(target=_warm, daemon=True, name="multiphase tools").start()
        self.find()


def _warm() -> None:
    """Load what *Smooth* needs (half a second), so that its first press is as quick as the others."""
    import scipy.ndimage  # noqa: F401


_AMOUNT = {"grow": "by_mm", "smooth": "sigma_mm"}


def regions_from(told: dict[str, Any]) -> list[Region]:
    """What the job `find_uncertain` told."""
    found, start = [], 0
    for row in told["regions"]:
        box = box_of(row["box"])
        shape = tuple(part.stop - part.start for part in box)
        size = int(np.prod(shape))
        bits = np.asarray(told["masks"])[start : start + -(-size // 8)]
        start += len(bits)
        mask = np.unpackbits(bits, count=size).reshape(shape).astype(bool)
        z, y, x = row["centre"]
        found.append(Region(row["structure"], row["ml"], row["confidence"], (z, y, x), box, mask))
    return found
