"""One run at a time works in a run folder: a lock of the operating system, which ends with its process in any case."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event, OnEvent

LOCK_FILE = "run.lock"
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_FAR = 1 << 20
"""Windows keeps others from reading a locked byte, so the byte is none of the text."""

_held: set[IO[bytes]] = set()
if hasattr(os, "register_at_fork"):  # a loader's worker that outlives a killed run must not keep its lock
    os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _held])


@contextmanager
def locked(folder: Path, on_event: OnEvent) -> Iterator[None]:
    """Hold ``run.lock`` of a run folder, which is made where it is missing.

    Where the file system has no locks (some network drives), or nothing can be written, that is a warning, not an end.

    Raises
    ------
    UserError : another process holds it; names its number and its computer.
    """
    path, handle = folder / LOCK_FILE, None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b", buffering=0)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _BUSY:
                raise UserError(
                    f"{folder}: is being trained by {_owner(handle)}; wait for it, stop it, or choose another folder"
                ) from None
            raise
        _held.add(handle)
        handle.truncate(0)
        handle.write(json.dumps(whoami()).encode())
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        on_event(Event("warning", f"{path} cannot be locked ({words}); see that no other run uses this folder"))
    try:
        yield
    finally:
        if handle is not None:
            _held.discard(handle)
            handle.close()


def whoami() -> dict[str, str | int | float]:
    """How this process is known again: numbers are given anew, so its creation belongs to it (seconds since 1970)."""
    own = psutil.Process()
    return {"pid": own.pid, "host": socket.gethostname(), "created_s": own.create_time()}


def _lock(handle: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        handle.seek(_FAR)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        handle.seek(0)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _owner(handle: IO[bytes]) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        handle.seek(0)
        said = json.loads(handle.read(1000))
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
