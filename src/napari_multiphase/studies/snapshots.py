"""Copies of an annotation in files of their own: taken before a model works, to go back to, also from a damaged one."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.lock import hold, owner, release
from napari_multiphase.studies.annotation import Annotation

FOLDER = "snapshots"
MOST_KEPT = 20
_NAMED = re.compile(r"(?P<stem>[^.]+)\.(?P<number>\d{4,9})\.(?P<name>[a-z0-9-]+)\.sqlite")


@dataclass(frozen=True)
class Snapshot:
    """One kept copy: its file, its number (grows), what it was taken before ("segment"), when (seconds, as `time`)."""

    path: Path
    number: int
    name: str
    created: float


def snapshots(path: Path) -> list[Snapshot]:
    """The snapshots of the annotation at `path`, oldest first; no file is opened."""
    found = []
    folder = Path(path).parent / FOLDER
    for file in folder.glob(f"{Path(path).stem}.*.sqlite") if folder.is_dir() else ():
        named = _NAMED.fullmatch(file.name)
        if named and named["stem"] == Path(path).stem:
            found.append(Snapshot(file, int(named["number"]), named["name"], file.stat().st_mtime))
    return sorted(found, key=lambda snapshot: snapshot.number)


def take(annotation: Annotation, name: str) -> Snapshot:
    """Keep the annotation as last saved; the newest snapshot itself where nothing was saved since it.

    The oldest beyond `MOST_KEPT` go. Raises UserError where it cannot be written.
    """
    kept = snapshots(annotation.path)
    if kept and _same(kept[-1], annotation):
        return kept[-1]
    number = kept[-1].number + 1 if kept else 1
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "snapshot"
    target = annotation.path.parent / FOLDER / f"{annotation.path.stem}.{number:04d}.{slug}.sqlite"
    for leftover in target.parent.glob(".*.part*"):  # of a process that was killed meanwhile
        leftover.unlink(missing_ok=True)
    annotation.backup(target)
    for old in kept[: max(0, len(kept) + 1 - MOST_KEPT)]:
        old.path.unlink(missing_ok=True)
    return Snapshot(target, number, slug, target.stat().st_mtime)


def restore(annotation: Annotation, snapshot: Snapshot) -> Snapshot:
    """Take on a snapshot's labels, reviewed voxels and states; returns one of how it was before.

    Raises UserError where the snapshot is damaged or of another grid; nothing has changed then.
    """
    with Annotation.open(snapshot.path) as kept:
        if kept.grid != annotation.grid:
            raise UserError(f"{snapshot.path} belongs to another scan: choose another snapshot")
        labels, reviewed, states = kept.labels(), kept.reviewed(), kept.states
    before = take(annotation, "restore")
    annotation.replace(labels, reviewed, states)
    return before


def recover(path: Path) -> Snapshot:
    """Put the newest readable snapshot in the place of a damaged annotation, which stays beside it as ``.damaged-1``.

    Raises UserError where no snapshot can be read, or another window has the file.
    """
    path = Path(path)
    try:
        lock = hold(path.with_suffix(".lock"))
    except BlockingIOError as error:
        raise UserError(f"{path} is open in {owner(path.with_suffix('.lock'))}: close it there first") from error
    except OSError as error:
        raise UserError(f"cannot write beside {path}: {error.strerror or error}; check the folder") from error
    try:
        for snapshot in reversed(snapshots(path)):
            try:
                with Annotation.open(snapshot.path) as kept:
                    kept.labels(), kept.reviewed()
            except UserError:
                continue
            with atomic_path(path) as part:
                shutil.copyfile(snapshot.path, part)
                _set_aside(path)
            return snapshot
    finally:
        release(lock)
    raise UserError(f"{path} is damaged and has no snapshot that can be read: restore it from a copy, or begin anew")


def _set_aside(path: Path) -> None:
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}.damaged-{n}").exists())
    for ending in ("", "-wal", "-shm"):
        file = path.with_name(path.name + ending)
        if file.exists():
            file.replace(path.with_name(f"{path.name}.damaged-{number}{ending}"))


def _same(snapshot: Snapshot, annotation: Annotation) -> bool:
    try:
        with Annotation.open(snapshot.path) as kept:
            return kept.content == annotation.content
    except UserError:
        return False
