"""The corrected labels of one phase: an SQLite file of compressed chunks, in which nothing that was saved is lost.

A save compares the arrays with what the file holds, chunk by chunk through their hashes, and writes what differs in one
transaction: the file is always at one save or the next, whatever ends the process. WAL with full synchronisation, so a
power cut does not break it either. The window works on arrays of its own, never on the file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.components import count_labels
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.lock import hold, owner, release
from napari_multiphase.labels import BACKGROUND
from napari_multiphase.studies import annotation_file as files
from napari_multiphase.studies.annotation_file import told
from napari_multiphase.studies.chunks import Box, box_of, content_hash, pack, touched, unpack
from napari_multiphase.volume import Grid

StructureState = Literal["predicted", "corrected", "complete", "not annotated"]
STATES: tuple[StructureState, ...] = get_args(StructureState)


@dataclass(frozen=True)
class Saved:
    """What a save did: bytes of content written, chunks written, ids of the structures whose voxels changed."""

    bytes: int = 0
    chunks: int = 0
    structures: frozenset[int] = frozenset()


class Annotation:
    """Make one with `create` or `open`; safe across threads; `close` it, or use it in a ``with`` block.

    Attributes
    ----------
    path : the file.
    grid : of the scan whose labels these are; `shape` is its (D, H, W).
    model : name of the model whose prediction the correcting started from; may be empty.
    states : `StructureState` by label id, as last saved.
    writable : whether it was opened to be changed.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None, writable: bool) -> None:
        self.path, self.writable = path, writable
        self._connection, self._lock = connection, lock
        self._guard = threading.RLock()
        self._closed = False
        with told(path):
            about = files.read_about(connection, path)
            self.grid, self.model, self._revision, self._time = about.grid, about.model, about.revision, about.saved
            self.states: dict[int, StructureState] = files.read_states(connection, path, STATES)
            self._labels_hash, self._reviewed_hash = files.read_hashes(connection, path, self.grid.shape)
        self._file = files.identity(path)

    # --- making and opening --------------------------------------------------------------------------------------

    @staticmethod
    def create(
        path: Path,
        labels: NDArray[np.uint8],
        grid: Grid,
        *,
        states: Mapping[int, StructureState] | None = None,
        model: str = "",
    ) -> Annotation:
        """A new file that starts from `labels` (D, H, W), nothing of it reviewed; open for changes.

        `states` are by label id; unless given, every structure in `labels` is "predicted".

        Raises UserError where `path` exists or cannot be written.
        """
        path, labels = Path(path), np.asarray(labels)
        _check(labels, np.empty(labels.shape, bool), grid)
        if path.exists():
            raise UserError(f"{path} exists already: open it instead, nothing is written over it")
        if states is None:
            states = {int(i): "predicted" for i in np.flatnonzero(count_labels(labels)) if i != BACKGROUND}
        with atomic_path(path) as part, told(path):
            files.write_new(part, labels, grid, dict(states), model)
        return Annotation.open(path, write=True)

    @staticmethod
    def open(path: Path, *, write: bool = False) -> Annotation:
        """The annotation in `path`, to be read, or with `write` to be changed as well, which one process can at a time.

        Raises UserError where there is none, it is damaged (see `snapshots.recover`), a newer version wrote it, or
        with `write`, another window has it.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path} is gone: bring it back, or begin correcting anew")
        lock = _hold(path) if write else None
        try:
            with told(path):
                connection = files.connect(path, write)
        except BaseException:
            _let_go(lock)
            raise
        try:
            return Annotation(path, connection, lock, write)
        except BaseException:
            connection.close()
            _let_go(lock)
            raise

    def close(self) -> None:
        """Give the file back. What was not saved is dropped."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._connection.close()
                _let_go(self._lock)

    def __enter__(self) -> Annotation:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.grid.shape

    @property
    def revision(self) -> int:
        """Grows with every save that changed something."""
        return self._revision

    @property
    def saved(self) -> str:
        """When something was last saved: ISO time, UTC."""
        return self._time

    @property
    def content(self) -> tuple[object, ...]:
        """Equal for two annotations of one grid that hold the same."""
        with self._guard:
            return tuple(self._labels_hash), tuple(self._reviewed_hash), dict(self.states)

    def labels(self) -> NDArray[np.uint8]:
        """The labels as saved, (D, H, W), an array of the caller's own. Raises UserError where a chunk is damaged."""
        return self._array("labels", self.grid.shape)

    def reviewed(self) -> NDArray[np.bool_]:
        """The voxels that a person changed or marked as looked at, (D, H, W), an array of the caller's own."""
        return self._array("reviewed", self.grid.shape).view(np.bool_)

    def _array(self, column: Literal["labels", "reviewed"], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        out = np.empty(shape, np.uint8)
        with self._guard, told(self.path):
            for number in range(len(self._labels_hash)):
                box = box_of(number, shape)
                out[box] = self._chunk(column, number, out[box].shape)
        return out

    def _chunk(self, column: Literal["labels", "reviewed"], number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Labels, or 0 and 1 for what was reviewed, of one chunk."""
        size = int(np.prod(shape))
        packed = files.read_blob(self._connection, column, number)
        hashes = self._labels_hash if column == "labels" else self._reviewed_hash
        try:
            content = unpack(packed, size if column == "labels" else -(-size // 8))
            if content_hash(number, content) != hashes[number]:
                raise ValueError("its checksum differs")
        except ValueError as error:
            raise files.damaged(self.path, f"chunk {number}: {error}") from error
        return (content if column == "labels" else np.unpackbits(content, count=size)).reshape(shape)

    # --- saving --------------------------------------------------------------------------------------------------

    def save(
        self,
        labels: NDArray[np.uint8],
        reviewed: NDArray[np.bool_],
        states: Mapping[int, StructureState] | None = None,
        boxes: Iterable[Box] | None = None,
        *,
        mark: bool = True,
    ) -> Saved:
        """Write what differs from the file, in one transaction.

        Parameters
        ----------
        labels : (D, H, W). May be painted on meanwhile: what comes too late is found by the next save.
        reviewed : (D, H, W). Every voxel whose label changed is marked in it, unless not `mark`.
        states : by label id; those of the last save unless given. A structure of which voxels changed becomes
            "corrected", unless it is "complete".
        boxes : where to look; everywhere unless given.

        Raises
        ------
        UserError : the disk refuses, the file is gone or damaged, or another process changed it; it is as before.
        """
        with self._guard:
            rows, structures = self._differences(labels, reviewed, boxes, mark)
            wanted = dict(self.states if states is None else states)
            for label in structures - {BACKGROUND}:
                if wanted.get(label) != "complete":
                    wanted[label] = "corrected"
            self._write(rows, wanted)
            return Saved(sum(len(row[1]) + len(row[2]) for row in rows), len(rows), frozenset(structures))

    def replace(
        self, labels: NDArray[np.uint8], reviewed: NDArray[np.bool_], states: Mapping[int, StructureState]
    ) -> None:
        """Take on these values exactly, as `save` does but without marking anything: to go back to a snapshot."""
        with self._guard:
            rows, _ = self._differences(labels, reviewed, None, False)
            self._write(rows, dict(states))

    def backup(self, target: Path) -> None:
        """A copy of the file as last saved, complete in itself."""
        with self._guard, told(self.path), atomic_path(Path(target)) as part:
            files.copy(self._connection, part)

    def _differences(
        self, labels: NDArray[np.uint8], reviewed: NDArray[np.bool_], boxes: Iterable[Box] | None, mark: bool
    ) -> tuple[list[files.Row], set[int]]:
        if self._closed or not self.writable:
            raise UserError(f"{self.path} was opened for reading only: open it again to change it")
        _check(labels, reviewed, self.grid)
        shape, rows = self.grid.shape, []
        structures: set[int] = set()
        for number in range(len(self._labels_hash)) if boxes is None else touched(boxes, shape):
            box = box_of(number, shape)
            now = np.array(labels[box], order="C")  # a copy: what is compared, hashed and written is the same
            now_hash = content_hash(number, now)
            if now_hash != self._labels_hash[number]:
                with told(self.path):
                    old = self._chunk("labels", number, now.shape)
                changed = old != now
                if mark:
                    np.copyto(reviewed[box], True, where=changed)
                structures.update(np.unique(old[changed]).tolist(), np.unique(now[changed]).tolist())
            bits = np.packbits(reviewed[box])
            bits_hash = content_hash(number, bits)
            if now_hash != self._labels_hash[number] or bits_hash != self._reviewed_hash[number]:
                rows.append((number, pack(now), pack(bits), now_hash, bits_hash))
        return rows, structures

    def _write(self, rows: list[files.Row], states: dict[int, StructureState]) -> None:
        if not rows and states == self.states:
            return
        files.check_states(states, STATES)
        if files.identity(self.path) != self._file:
            raise UserError(f"{self.path} was moved, removed or replaced: nothing can be saved into it; bring it back")
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with told(self.path):
            if not files.write(self._connection, rows, states, self._revision, time):
                raise UserError(f"{self.path} was changed by another window or process: open the study again")
        self._revision, self._time, self.states = self._revision + 1, time, states
        for number, _, _, labels_hash, reviewed_hash in rows:
            self._labels_hash[number], self._reviewed_hash[number] = labels_hash, reviewed_hash


def peek(path: Path) -> tuple[dict[int, StructureState], str]:
    """An annotation's states by label id, and when it was last saved; its chunks are not looked at.

    Raises UserError where it is gone, damaged or not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is gone: bring it back, or begin correcting anew")
    with told(path):
        connection = files.connect(path, False)
        try:
            about = files.read_about(connection, path, thorough=False)
            return files.read_states(connection, path, STATES), about.saved
        finally:
            connection.close()


def origin(path: Path) -> tuple[Grid, str]:
    """The grid of an annotation, and the model whose prediction it started from. Raises UserError as `peek`."""
    path = Path(path)
    with told(path):
        connection = files.connect(path, False)
        try:
            about = files.read_about(connection, path, thorough=False)
            return about.grid, about.model
        finally:
            connection.close()


def _hold(path: Path) -> IO[bytes] | None:
    """The lock of who may change the file; None where the file system has none (the revision still protects it)."""
    place = path.with_suffix(".lock")
    try:
        return hold(place)
    except BlockingIOError as error:
        raise UserError(
            f"{path} is being corrected in another window ({owner(place)}): close it there first; here it can be "
            "looked at, not changed"
        ) from error
    except OSError:
        return None


def _let_go(lock: IO[bytes] | None) -> None:
    if lock is not None:
        release(lock)


def _check(labels: NDArray[np.uint8], reviewed: NDArray[np.bool_], grid: Grid) -> None:
    if labels.dtype != np.uint8 or labels.shape != grid.shape:
        raise UserError(
            f"labels are uint8 of shape {grid.shape}, not {labels.dtype} of {labels.shape}: undo that change"
        )
    if reviewed.dtype != np.bool_ or reviewed.shape != grid.shape:
        raise UserError(f"what was reviewed is bool of shape {grid.shape}, not {reviewed.dtype} of {reviewed.shape}")
