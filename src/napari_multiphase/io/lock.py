"""A lock of the operating system on a file: it ends with its process, however that ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_FAR = 1 << 20
"""Windows keeps others from reading a locked byte, so the byte is none of the text."""

_held: set[IO[bytes]] = set()
if hasattr(os, "register_at_fork"):  # a helper that outlives its killed parent must not keep the parent's lock
    os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _held])


def hold(path: Path) -> IO[bytes]:
    """`path`, made where it is missing, open and locked, with this process named in it; `release` ends it.

    Raises BlockingIOError where it is held, another OSError where it cannot be made or the system has no locks there.
    """
    handle = path.open("a+b", buffering=0)
    try:
        _lock(handle)
        handle.truncate(0)
        handle.write(json.dumps(whoami()).encode())
    except OSError:
        handle.close()
        raise
    _held.add(handle)
    return handle


def whoami() -> dict[str, str | int | float]:
    """How this process is known again: numbers are given anew, so its creation belongs to it (seconds since 1970)."""
    own = psutil.Process()
    return {"pid": own.pid, "host": socket.gethostname(), "created_s": own.create_time()}


def release(handle: IO[bytes]) -> None:
    """Give the lock back."""
    _held.discard(handle)
    handle.close()


def owner(path: Path) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        with path.open("rb") as handle:
            said = json.loads(handle.read(1000))
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@contextmanager
def briefly(path: Path, wait_s: float = 10.0) -> Iterator[None]:
    """Hold the lock for a change that takes moments, waiting up to `wait_s` for others who do the same.

    Where the file system has no locks, or the file cannot be made, the change goes on without one.

    Raises TimeoutError where another process does not give it back.
    """
    handle, until = None, time.monotonic() + wait_s
    while handle is None:
        try:
            handle = hold(path)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise TimeoutError(owner(path)) from error
            time.sleep(0.01)
        except OSError:
            break
    try:
        yield
    finally:
        if handle is not None:
            release(handle)


def _lock(handle: IO[bytes]) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(_FAR)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            handle.seek(0)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            raise BlockingIOError(error.errno, error.strerror) from error
        raise
