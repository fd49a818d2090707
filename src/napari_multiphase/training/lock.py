"""One run at a time works in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event, OnEvent
from napari_multiphase.io.lock import hold, owner, release

LOCK_FILE = "run.lock"


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
        handle = hold(path)
    except BlockingIOError:
        raise UserError(
            f"{folder}: is being trained by {owner(path)}; wait for it, stop it, or choose another folder"
        ) from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        on_event(Event("warning", f"{path} cannot be locked ({words}); see that no other run uses this folder"))
    try:
        yield
    finally:
        if handle is not None:
            release(handle)
