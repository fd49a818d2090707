"""Arrays pass between processes as memory-mapped files, each under a lease, in one session folder of the client.

The client owns the folder: whatever a worker leaves there, also a crashed one, goes when the job is released or the
session ends. A session whose client died is swept by the next client: its lock file is free then.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.io.lock import hold, release

_PREFIX = "session-"


@dataclass(frozen=True)
class Lease:
    """One array in a file.

    Attributes
    ----------
    path : the file, inside the session folder.
    shape, dtype, offset : how its bytes from `offset` on are read (C order); `dtype` is a NumPy type string.
    owner : job that wrote it.
    release : "job" goes when its job ends, "handle" when the job's handle is released.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    owner: str
    release: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by `from_dict`."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Lease:
        """The lease that `to_dict` described."""
        return Lease(**{**data, "shape": tuple(int(n) for n in data["shape"])})


class Store:
    """Where one job's arrays go (`folder`), inside a session (`root`) whose leases it may read."""

    def __init__(self, root: Path, folder: Path, owner: str, release: str = "handle") -> None:
        self.root, self.folder, self.owner, self.release = root.resolve(), folder, owner, release

    def put(self, array: NDArray[Any]) -> Lease:
        """Lease `array`: as it is where it already is a map of a file of this session, as a copy otherwise."""
        if array.dtype.hasobject:
            raise TypeError("arrays of Python objects do not leave the process")
        mapped = self._existing(array)
        if mapped is not None:
            return mapped
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.npy"
        # Written, not mapped: on a full disk a write fails with an error, a mapped page with a fatal signal.
        with path.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            offset = file.tell() - array.nbytes
        return self._lease(path, array, offset)

    def get(self, lease: Lease) -> NDArray[Any]:
        """The array, memory-mapped and read-only. Raises ValueError for a path or size that cannot be a lease."""
        path = Path(lease.path).resolve()
        dtype = np.dtype(lease.dtype)
        if not path.is_relative_to(self.root) or dtype.hasobject:
            raise ValueError(f"{path.name} is not a leased array of this session")
        bytes_needed = lease.offset + int(np.prod(lease.shape, dtype=object)) * dtype.itemsize
        if min((*lease.shape, lease.offset), default=0) < 0 or path.stat().st_size < bytes_needed:
            raise ValueError(f"{path.name} is shorter than its lease says")
        if 0 in lease.shape:
            return np.empty(lease.shape, dtype)
        return np.memmap(path, dtype, "r", lease.offset, lease.shape)

    def _existing(self, array: NDArray[Any]) -> Lease | None:
        found = map_of(array)
        if found is None or not array.flags.c_contiguous:
            return None
        path, offset = found
        return self._lease(path, array, offset) if path.is_relative_to(self.root) else None

    def _lease(self, path: Path, array: NDArray[Any], offset: int) -> Lease:
        return Lease(str(path), array.shape, array.dtype.str, offset, self.owner, self.release)


def map_of(array: NDArray[Any]) -> tuple[Path, int] | None:
    """File and byte offset where a contiguous `array` is mapped, or None. A slice keeps its parent's `offset`,
    so the true one is found from the addresses."""
    base: Any = array
    while isinstance(base, np.ndarray) and getattr(base, "_mmap", None) is None:
        base = base.base
    if not isinstance(base, np.memmap) or base.filename is None:
        return None
    mapped: mmap.mmap = base._mmap  # type: ignore[attr-defined]
    start = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    skipped = int(base.offset) % mmap.ALLOCATIONGRANULARITY
    offset = int(base.offset) - skipped + array.__array_interface__["data"][0] - start
    return Path(base.filename).resolve(), offset


class Session:
    """The client's scratch folder, locked while the client lives."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or scratch_parent()
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        self.root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)).resolve()
        self._lock = _locked(self.root / "lock")

    def folder(self, job: str) -> Path:
        """The folder of one job."""
        return self.root / job

    def inputs(self, job: str) -> Store:
        """Where the client puts what a job gets: gone when the job ends."""
        return Store(self.root, self.folder(job) / "in", job, "job")

    def is_input(self, job: str, lease: Lease) -> bool:
        """Whether `lease` is of an array that `job` was given."""
        return Path(lease.path).is_relative_to(self.folder(job) / "in")

    def drop_inputs(self, job: str) -> None:
        """Remove what was handed to a job that ended."""
        shutil.rmtree(self.folder(job) / "in", ignore_errors=True)

    def drop(self, job: str) -> None:
        """Remove everything of a job. Where the system keeps mapped files (Windows), the rest goes with the session."""
        shutil.rmtree(self.folder(job), ignore_errors=True)

    def close(self) -> None:
        """Remove the session folder."""
        if self._lock is not None:
            release(self._lock)
            self._lock = None
        shutil.rmtree(self.root, ignore_errors=True)


def scratch_parent() -> Path:
    """Folder of all sessions of this user: ``MULTIPHASE_SCRATCH``, or one among the system's temporary files."""
    named = os.environ.get("MULTIPHASE_SCRATCH")
    if named:
        return Path(named)
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"napari-multiphase-{user}"


def sweep(parent: Path) -> int:
    """Remove session folders whose client is gone; returns how many."""
    swept = 0
    for folder in parent.glob(f"{_PREFIX}*"):
        file = folder / "lock"
        # A folder without a lock may be a session that starts this very moment, unless it is old.
        lock = _locked(file) if file.exists() else None
        if lock is None:
            continue
        release(lock)
        shutil.rmtree(folder, ignore_errors=True)
        swept += 1
    return swept


def _locked(file: Path) -> IO[bytes] | None:
    """`file`, open and locked, or None where another process holds it."""
    try:
        return hold(file)
    except OSError:
        return None
