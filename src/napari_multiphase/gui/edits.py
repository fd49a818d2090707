"""One stack of what was done to the labels: tools, brush strokes and marks are undone and redone in their order.

An edit keeps the voxels that changed, nothing else: where in its box they lie, what they were and what they became.
`Edits` works on plain arrays; `follow` ties it to a napari layer, whose own history is emptied after every stroke, so
that there is one order of things and one memory of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.private import forget_history, lead_undo

if TYPE_CHECKING:
    from napari.layers import Labels

Box = tuple[slice, slice, slice]
MOST_BYTES = 512 * 2**20
"""Memory for undoing; the oldest edits go first. A voxel takes 6 bytes."""
MOST_EDITS = 1000


@dataclass(frozen=True)
class Change:
    """The voxels of a box of one array that changed: flat places in the box, values before and after."""

    where: NDArray[np.uint32]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @staticmethod
    def between(before: NDArray[Any], after: NDArray[Any]) -> Change:
        """What differs between two states of a box, uint8 or bool."""
        old, new = np.ravel(before), np.ravel(after)
        where = np.flatnonzero(old != new)
        return Change(where.astype(np.uint32), old[where].astype(np.uint8), new[where].astype(np.uint8))

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.where.nbytes + self.before.nbytes + self.after.nbytes

    def write(self, part: NDArray[Any], values: NDArray[np.uint8]) -> None:
        """Put `values` where the change is in `part`, a view of the box."""
        part[np.unravel_index(self.where, part.shape)] = values


@dataclass(frozen=True)
class Edit:
    """One step of undo: what the user did, in words, where, and the change of the labels and of what was reviewed."""

    what: str
    box: Box
    labels: Change
    reviewed: Change

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.labels.bytes + self.reviewed.bytes


class Edits:
    """The undo stack of one label map.

    Parameters
    ----------
    labels : (D, H, W) uint8, changed in place.
    reviewed : (D, H, W) bool, True where a person changed or looked at a voxel; changed in place with the labels and
        restored with them. None where nobody keeps that.
    on_change : called after every edit, undo and redo with the edit.
    """

    def __init__(
        self,
        labels: NDArray[np.uint8],
        reviewed: NDArray[np.bool_] | None = None,
        on_change: Callable[[Edit], object] = lambda _edit: None,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.labels, self.reviewed, self.on_change = labels, reviewed, on_change
        self._most_bytes = most_bytes
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    def apply(self, box: Box, after: NDArray[np.uint8], what: str) -> Edit | None:
        """Put `after` into `box`; None where that changes nothing."""
        if after.shape != self.labels[box].shape:
            raise ValueError(f"the box holds {self.labels[box].shape} voxels, the new values {after.shape}")
        change = Change.between(self.labels[box], after)
        change.write(self.labels[box], change.after)
        return self._push(what, box, change, self._looked_at(box, change.where))

    def mark(self, box: Box, mask: NDArray[np.bool_], what: str = "mark as reviewed") -> Edit | None:
        """Voxels of `mask`, which has the box's shape, were looked at and are right; None if they all were before."""
        return self._push(what, box, _nothing(), self._looked_at(box, np.flatnonzero(mask)))

    def record(self, atoms: Sequence[Any], what: str = "paint") -> Edit | None:
        """A stroke as napari's `paint` event reports it, oldest atom first; the layer may hold it already or not yet.

        napari tells of a stroke of the mouse when it is over, of a fill or a polygon just before it writes it.
        """
        places = [_box_of(atom) for atom in atoms]
        box = _union(places)
        before, after = self.labels[box].copy(), self.labels[box].copy()
        steps = list(zip(atoms, places, strict=True))
        for atom, place in reversed(steps):
            _put(before, box, atom, place, undone=True)
        for atom, place in steps:
            _put(after, box, atom, place, undone=False)
        change = Change.between(before, after)
        return self._push(what, box, change, self._looked_at(box, change.where))

    def _looked_at(self, box: Box, where: NDArray[np.integer[Any]]) -> Change:
        if self.reviewed is None or not len(where):
            return _nothing()
        part = self.reviewed[box]
        new = where[~part[np.unravel_index(where, part.shape)]].astype(np.uint32)
        change = Change(new, np.zeros(len(new), np.uint8), np.ones(len(new), np.uint8))
        change.write(part, change.after)
        return change

    def _push(self, what: str, box: Box, labels: Change, reviewed: Change) -> Edit | None:
        if not len(labels.where) and not len(reviewed.where):
            return None
        edit = Edit(what, box, labels, reviewed)
        self._undone.clear()
        self._done.append(edit)
        while len(self._done) > MOST_EDITS or (len(self._done) > 1 and self.bytes > self._most_bytes):
            del self._done[0]
        self.on_change(edit)
        return edit

    def undo(self) -> Edit | None:
        """Take the last edit back; None where there is none."""
        if not self._done:
            return None
        edit = self._done.pop()
        self._undone.append(edit)
        self._write(edit, edit.labels.before, edit.reviewed.before)
        return edit

    def redo(self) -> Edit | None:
        """Do again what was undone last; None where nothing was, or something else was done since."""
        if not self._undone:
            return None
        edit = self._undone.pop()
        self._done.append(edit)
        self._write(edit, edit.labels.after, edit.reviewed.after)
        return edit

    def _write(self, edit: Edit, labels: NDArray[np.uint8], reviewed: NDArray[np.uint8]) -> None:
        edit.labels.write(self.labels[edit.box], labels)
        if self.reviewed is not None:
            edit.reviewed.write(self.reviewed[edit.box], reviewed)
        self.on_change(edit)

    @property
    def can_undo(self) -> str:
        """What *Undo* would take back, in words; empty where there is nothing."""
        return self._done[-1].what if self._done else ""

    @property
    def can_redo(self) -> str:
        """What *Redo* would do again, in words; empty where there is nothing."""
        return self._undone[-1].what if self._undone else ""

    @property
    def bytes(self) -> int:
        """Memory of all edits."""
        return sum(edit.bytes for edit in (*self._done, *self._undone))


def follow(layer: Labels, edits: Edits) -> None:
    """Let strokes on `layer` (napari's and those of the Compare panes) become edits, and its undo lead to the stack.

    The layer's array is `edits.labels`. Ctrl+Z and Ctrl+Shift+Z call the layer's own `undo` and `redo`; Ctrl+Y is bound
    on this layer alone.
    """

    def painted(event: Any) -> None:
        forget_history(layer)
        edits.record(event.value, _STROKES.get(str(layer.mode).lower(), "paint"))

    layer.events.paint.connect(painted)
    lead_undo(layer, edits.undo, edits.redo)
    layer.bind_key("Control-Y", lambda _layer: edits.redo(), overwrite=True)


_STROKES = {"erase": "erase", "fill": "fill", "polygon": "polygon"}


def _nothing() -> Change:
    empty = np.zeros(0, np.uint8)
    return Change(np.zeros(0, np.uint32), empty, empty)


def _box_of(atom: Any) -> Box:
    """Where an atom lies: one made with a mask has `slice_key`; else (indices, old values, new values)."""
    if hasattr(atom, "slice_key"):
        z, y, x = atom.slice_key
        return z, y, x
    z, y, x = (slice(int(np.min(axis)), int(np.max(axis)) + 1) for axis in atom[0])
    return z, y, x


def _put(part: NDArray[np.uint8], box: Box, atom: Any, place: Box, *, undone: bool) -> None:
    """Put an atom's old or new values into `part`, a copy of `box`."""
    if hasattr(atom, "slice_key"):
        inner = part[tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(place, box, strict=True))]
        inner[... if atom.mask is None else atom.mask] = atom.old_values if undone else atom.new_value
    else:
        indices, old, new = atom
        part[tuple(np.asarray(axis) - b.start for axis, b in zip(indices, box, strict=True))] = old if undone else new


def _union(boxes: Sequence[Box]) -> Box:
    z, y, x = (
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(3)
    )  # fmt: skip
    return z, y, x
