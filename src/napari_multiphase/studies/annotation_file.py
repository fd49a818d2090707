"""The SQLite of an annotation: its tables, what is checked before it is believed, errors in words.

A file may come from someone else: tables must be ours to the letter, sizes are bounded before anything is allocated,
and every chunk has its checksum.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.studies.chunks import HASH_BYTES, MOST_PACKED_BYTES, box_of, content_hash, counts, pack
from napari_multiphase.volume import Grid

FORMAT = "napari-multiphase annotation"
VERSION = 1
MOST_VOXELS = 1 << 30
_WAIT_S = 5.0
_TABLES = {
    "about": "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "states": "CREATE TABLE states (label INTEGER PRIMARY KEY, state TEXT NOT NULL)",
    "chunks": (
        "CREATE TABLE chunks (number INTEGER PRIMARY KEY, labels BLOB NOT NULL, reviewed BLOB NOT NULL, "
        "labels_hash BLOB NOT NULL, reviewed_hash BLOB NOT NULL)"
    ),
}
_COLUMNS = "number, length(labels), length(reviewed), labels_hash, reviewed_hash"
_READ = {
    "labels": "SELECT labels FROM chunks WHERE number = ?",
    "reviewed": "SELECT reviewed FROM chunks WHERE number = ?",
}

Row = tuple[int, bytes, bytes, bytes, bytes]
"""Number, packed labels, packed bits of what was reviewed, the hashes of both."""


@dataclass(frozen=True)
class About:
    """What the file says of itself. `saved` is an ISO time; `revision` grows with every save."""

    grid: Grid
    model: str
    revision: int
    saved: str


def damaged(path: Path, what: str) -> UserError:
    """The error for a file that cannot be believed."""
    return UserError(f"{path} is damaged ({what}): go back to its last snapshot, or restore it from a copy")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What SQLite raises, in words."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error).lower()
        if "full" in text:
            reason = "the disk is full: free some space"
        elif "readonly" in text or "read-only" in text:
            reason = "you may not write there: give yourself the right to, or copy the study's folder elsewhere"
        elif "locked" in text or "busy" in text:
            reason = "another program holds it: close it there"
        elif isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
            reason = f"{error}: check the disk and the folder"
        else:
            raise damaged(path, str(error)) from error
        raise UserError(f"cannot use {path}: {reason}") from error
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror or error}: check the disk and the folder") from error


def connect(path: Path, write: bool) -> sqlite3.Connection:
    """A guarded connection; what is not one of our files is refused by what is read next."""
    wal = path.with_name(path.name + "-wal")
    connection = _connection(path, "rw" if write else "ro")
    if not write:
        try:
            connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.OperationalError:  # a read-only folder has no room for what readers of a WAL share
            connection.close()
            if wal.exists() and wal.stat().st_size:
                raise
            connection = _connection(path, "ro", "&immutable=1")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if write:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _connection(path: Path, mode: str, more: str = "") -> sqlite3.Connection:
    name = f"{path.resolve().as_uri()}?mode={mode}{more}"
    made = sqlite3.connect(name, uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    made.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MOST_PACKED_BYTES)
    made.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    return made


def identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file at `path`: SQLite would go on writing into one that was removed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_new(path: Path, labels: NDArray[np.uint8], grid: Grid, states: Mapping[int, str], model: str) -> None:
    """A complete file at `path`, where none is."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF").fetchall()
        connection.execute("BEGIN")
        for table in _TABLES.values():
            connection.execute(table)
        about = {"format": FORMAT, "version": str(VERSION), "grid": json.dumps(grid.to_dict()), "model": model}
        about |= {"revision": "0", "saved": ""}
        connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        connection.executemany("INSERT INTO states VALUES (?, ?)", states.items())
        for number in range(math.prod(counts(grid.shape))):
            part = np.ascontiguousarray(labels[box_of(number, grid.shape)])
            bits = np.zeros(-(-part.size // 8), np.uint8)
            row = (number, pack(part), pack(bits), content_hash(number, part), content_hash(number, bits))
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    finally:
        connection.close()


def read_about(connection: sqlite3.Connection, path: Path, *, thorough: bool = True) -> About:
    """The file's head, once its structure is checked; with `thorough` also every page.

    Raises UserError where it is not ours or damaged.
    """
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 10").fetchall())
    if "about" not in tables or tables.get("about") != _TABLES["about"]:
        raise UserError(f"{path} was not written by this program: choose a study's annotation")
    about = dict(connection.execute("SELECT name, value FROM about LIMIT 20").fetchall())
    if about.get("format") != FORMAT:
        raise UserError(f"{path} was not written by this program: choose a study's annotation")
    if about.get("version") != str(VERSION):
        raise UserError(f"{path} was written by a newer version of this program: update it to open the study")
    if tables != _TABLES:
        raise damaged(path, "its tables are not as this program makes them")
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if thorough else "ok"
    if fault != "ok":
        raise damaged(path, str(fault).splitlines()[0])
    try:
        grid = Grid.from_dict(json.loads(about["grid"]))
        numbers = (*grid.spacing_mm, *grid.origin_mm)
        fine = all(n >= 1 for n in grid.shape) and math.prod(grid.shape) <= MOST_VOXELS
        if not fine or not all(map(math.isfinite, numbers)) or min(grid.spacing_mm) <= 0:
            raise ValueError("no grid that a scan can have")
        return About(grid, str(about["model"]), int(about["revision"]), str(about["saved"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, f"about: {error}") from error


def read_states(connection: sqlite3.Connection, path: Path, known: Sequence[str]) -> dict[int, Any]:
    """The structures' states by label id."""
    states = dict(connection.execute("SELECT label, state FROM states LIMIT 300").fetchall())
    try:
        check_states(states, known)
    except ValueError as error:
        raise damaged(path, f"states: {error}") from error
    return states


def check_states(states: Mapping[int, str], known: Sequence[str]) -> None:
    """Raises ValueError for an id that is none, or a state that there is not."""
    for label, state in states.items():
        if not isinstance(label, int) or not 0 < label < 256 or state not in known:
            raise ValueError(f"{label}: {state}")


def read_hashes(
    connection: sqlite3.Connection, path: Path, shape: tuple[int, int, int]
) -> tuple[list[bytes], list[bytes]]:
    """The hashes of every chunk's labels and bits; checks that all chunks are there and none is too large."""
    expected = math.prod(counts(shape))
    query = f"SELECT {_COLUMNS} FROM chunks ORDER BY number LIMIT ?"
    labels, reviewed = [], []
    for place, (number, *sizes, first, second) in enumerate(connection.execute(query, (expected + 1,))):
        hashed = all(isinstance(h, bytes) and len(h) == HASH_BYTES for h in (first, second))
        if number != place or max(sizes) > MOST_PACKED_BYTES or not hashed:
            raise damaged(path, f"chunk {place}")
        labels.append(first)
        reviewed.append(second)
    if len(labels) != expected:
        raise damaged(path, f"{len(labels)} chunks instead of {expected}")
    return labels, reviewed


def read_blob(connection: sqlite3.Connection, column: str, number: int) -> bytes:
    """The packed content of a chunk; empty where it is gone."""
    found = connection.execute(_READ[column], (number,)).fetchone()
    return bytes(found[0]) if found and isinstance(found[0], bytes) else b""


def write(
    connection: sqlite3.Connection, rows: Sequence[Row], states: Mapping[int, str], revision: int, time: str
) -> bool:
    """One transaction: `rows`, all states, the next revision. False where the file is not at `revision` any more."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        moved = connection.execute(
            "UPDATE about SET value = ? WHERE name = 'revision' AND value = ?", (str(revision + 1), str(revision))
        )
        if moved.rowcount != 1:
            connection.execute("ROLLBACK")
            return False
        connection.execute("UPDATE about SET value = ? WHERE name = 'saved'", (time,))
        connection.executemany("REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)", rows)
        connection.execute("DELETE FROM states")
        connection.executemany("INSERT INTO states VALUES (?, ?)", states.items())
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def copy(connection: sqlite3.Connection, target: Path) -> None:
    """What is committed, as one file without a WAL beside it."""
    made = sqlite3.connect(target, isolation_level=None)
    try:
        connection.backup(made)
        made.execute("PRAGMA journal_mode = DELETE").fetchall()
    finally:
        made.close()
