"""Writes that are whole or did not happen: everything goes to a sibling first and is renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_multiphase.errors import UserError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another folder",
    errno.EACCES: "you may not write there: choose another folder",
    errno.EPERM: "you may not write there: choose another folder",
    errno.EROFS: "that place is read-only: choose another folder",
    errno.ENOTDIR: "part of the path is a file, not a folder: choose another folder",
    errno.EEXIST: "part of the path is a file, not a folder: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: choose another name",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


def _in_words(error: OSError, target: Path) -> UserError:
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}: check the folder and try again")
    return UserError(f"cannot write {target}: {reason}")


def _sync(path: Path) -> None:
    """Force one file to the disk; systems that cannot (some network drives) are not a reason to fail."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary sibling of `target` to write to; it becomes `target` when the block ends without an error.

    The sibling keeps the suffixes, so writers that choose a format by name work. Missing parent folders are made.
    On any error the sibling is removed and an existing `target` stays as it was.

    Raises
    ------
    UserError : where the system refuses (full, read-only, no permission), in words.
    """
    target = Path(target)
    suffixes = "".join(target.suffixes[-2:])
    sibling = target.with_name(f".{uuid.uuid4().hex[:12]}.part{suffixes}")
    try:
        if target.is_dir():
            raise OSError(errno.EISDIR, "is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield sibling
        _sync(sibling)
        sibling.replace(target)
    except OSError as error:
        raise _in_words(error, target) from error
    finally:
        sibling.unlink(missing_ok=True) if _exists(sibling) else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place, whole, when the block ends without an error.

    A folder that was at `target` is replaced; it is kept until the new one is complete.

    Raises
    ------
    UserError : where the system refuses (full, read-only, no permission), in words.
    """
    target = Path(target)
    mark = uuid.uuid4().hex[:12]
    sibling, old = target.with_name(f".{mark}.part"), target.with_name(f".{mark}.old")
    try:
        if target.exists() and not target.is_dir():
            raise OSError(errno.ENOTDIR, "is a file")
        sibling.mkdir(parents=True)
        yield sibling
        for path in sibling.rglob("*"):
            if path.is_file():
                _sync(path)
        if target.exists():
            target.replace(old)
        try:
            sibling.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
    except OSError as error:
        raise _in_words(error, target) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it, whole, unless another process made `target` meanwhile.

    For folders named by what they hold: whoever comes first wins, the other's work is dropped, and a reader never sees
    a folder that is half-written or about to be replaced.

    Raises
    ------
    UserError : where the system refuses (full, read-only, no permission), in words.
    """
    target = Path(target)
    sibling = target.with_name(f".{uuid.uuid4().hex[:12]}.part")
    try:
        sibling.mkdir(parents=True)
        yield sibling
        for path in sibling.rglob("*"):
            if path.is_file():
                _sync(path)
        try:
            sibling.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    except OSError as error:
        raise _in_words(error, target) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def write_whole(out: Path, write: Callable[[Path], list[str]]) -> list[Path]:
    """Files that `write` puts into the folder it is given and names, moved into `out` all together or not at all.

    Raises
    ------
    UserError : where `out` cannot be written; it is then as it was.
    """
    try:
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=out))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; choose another folder") from error
    try:
        return _move(part, out, write(part))
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()


def _move(part: Path, out: Path, names: list[str]) -> list[Path]:
    """Move the complete files in; where one cannot be moved, those before it are put back as they were."""
    backup = part / "old"
    backup.mkdir()
    moved: list[str] = []
    try:
        for name in names:
            if (out / name).exists():
                (out / name).replace(backup / name)
            moved.append(name)
            (part / name).replace(out / name)
    except OSError:
        for name in moved:
            (out / name).unlink(missing_ok=True)
            if (backup / name).exists():
                (backup / name).replace(out / name)
        raise
    return [out / name for name in names]
