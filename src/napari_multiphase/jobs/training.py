"""Training from the window: a process of its own that outlives it, found again by its number and its creation.

All there is to a run lies in its folder. No torch here: what the process does is read from what it writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.places import data_folder
from napari_multiphase.jobs.priority import give_way
from napari_multiphase.model import CARD_FILE
from napari_multiphase.training.lock import LOCK_FILE
from napari_multiphase.training.run_folder import MODEL_FOLDER, PLAN_FILE, RUN_FILE, STOP_FILE

PROCESS_FILE = "process.json"
LOG_FILE = "trainer.log"
_SAME_S = 2.0
"""Two readings of one process's creation differ by less."""
_UNSAFE = re.compile(r"[^\w.-]+")

_children: list[subprocess.Popen[bytes]] = []
"""Started from here; a parent must ask for their end, or they stay as shadows."""


def runs_folder() -> Path:
    """Where runs that the window starts are kept."""
    return data_folder() / "runs"


def new_run_folder(name: str) -> Path:
    """A folder for a run called `name` that nobody has yet; it is not made."""
    plain = _UNSAFE.sub("-", name).strip("-.") or "run"
    taken = (runs_folder() / (plain if number == 1 else f"{plain}-{number}") for number in range(1, 10_000))
    return next(folder for folder in taken if not folder.exists())


def list_runs(folder: Path | None = None) -> list[Path]:
    """Run folders, the newest first."""
    try:
        found = [
            path for path in (folder or runs_folder()).iterdir() if path.is_dir() and not path.name.startswith(".")
        ]
        runs = [path for path in found if (path / RUN_FILE).exists() or (path / PLAN_FILE).exists()]
        return sorted(runs, key=lambda path: (_begun(path), path.name), reverse=True)
    except OSError:
        return []


def _begun(folder: Path) -> float:
    first = folder / PLAN_FILE
    return (first if first.exists() else folder / RUN_FILE).stat().st_mtime


def command_of(folder: Path) -> list[str]:
    """What starts the run in `folder`, or goes on with it, on the command line."""
    run = [sys.executable, "-m", "napari_multiphase", "train"]
    if (folder / RUN_FILE).exists():
        return [*run, "--resume", str(folder)]
    return [*run, str(folder / PLAN_FILE), "--out", str(folder)]


def command_text(folder: Path) -> str:
    """The same as one line for this system's shell."""
    parts = command_of(folder)
    return subprocess.list2cmdline(parts) if sys.platform == "win32" else shlex.join(parts)


def start(folder: Path) -> None:
    """Start the run that ``plan.yaml`` in `folder` describes, or go on with what was begun there.

    The process is in a session of its own (on Windows without a console, in a group of its own), so that neither the
    window's end nor its Ctrl+C reaches it; what it prints goes to ``trainer.log``.

    Raises
    ------
    UserError : nothing to start, it runs already, or it is finished.
    """
    folder = Path(folder)
    if not (folder / PLAN_FILE).exists() and not (folder / RUN_FILE).exists():
        raise UserError(f"{folder}: holds no run; start a new one")
    if is_finished(folder):
        raise UserError(f"{folder}: this run is finished; start a new one to train on")
    if is_alive(folder):
        raise UserError(f"{folder}: this run is at work already")
    command = command_of(folder)
    with contextlib.suppress(OSError):
        (folder / STOP_FILE).unlink(missing_ok=True)
    extra: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        extra = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        with (folder / LOG_FILE).open("ab") as log:
            log.write(f"\n$ {command_text(folder)}\n".encode())
            log.flush()
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment, **extra
            )
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise UserError(f"{folder}: the training process cannot be started ({words}); check the disk") from error
    _children.append(child)
    give_way(child.pid)
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(child.pid)
        with atomic_path(folder / PROCESS_FILE) as part:
            known = {"pid": child.pid, "host": socket.gethostname(), "created_s": process.create_time()}
            part.write_text(json.dumps(known), encoding="utf-8")


def stop(folder: Path) -> None:
    """Ask the run to end after its current step and to save; a UserError where the message cannot be left."""
    try:
        (Path(folder) / STOP_FILE).write_text("stop after the current step\n", encoding="utf-8")
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise UserError(f"{folder}: the run cannot be told to stop ({words}); check that folder") from error


def is_finished(folder: Path) -> bool:
    """Whether the run's model is there."""
    return (folder / MODEL_FOLDER / CARD_FILE).is_file()


def is_alive(folder: Path) -> bool:
    """Whether a process on this computer works on the run: by number and creation, for numbers are given anew."""
    _bury()
    return any(_lives(known) for known in _known(folder))


def begun_s(folder: Path) -> float:
    """When the process that worked on the run last was created, in seconds since 1970; 0 where none is known."""
    return max((float(known.get("created_s", 0)) for known in _known(folder)), default=0.0)


def exit_code(folder: Path) -> int | None:
    """How the process that was started here ended; None where it runs, or another window started it."""
    pids = {known.get("pid") for known in _known(folder)}
    ours = [child for child in reversed(_children) if child.pid in pids]
    if ours and not is_alive(folder):  # its first thread is gone; the others may take a moment
        with contextlib.suppress(subprocess.TimeoutExpired):
            ours[0].wait(2)
    return ours[0].returncode if ours else None


def other_host(folder: Path) -> str:
    """The computer that worked on the run last, where it is not this one."""
    hosts = [str(known["host"]) for known in _known(folder) if known.get("host")]
    return hosts[0] if hosts and socket.gethostname() not in hosts else ""


def _known(folder: Path) -> Iterator[Mapping[str, Any]]:
    """What the trainer (its lock) and the window (when it started it) say about the process."""
    for name in (LOCK_FILE, PROCESS_FILE):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8")[:1000])
        except (OSError, ValueError):
            continue
        if isinstance(said, dict):
            yield said


def _lives(known: Mapping[str, Any]) -> bool:
    try:
        if known["host"] != socket.gethostname():
            return False
        process = psutil.Process(int(known["pid"]))
        same = abs(process.create_time() - float(known["created_s"])) < _SAME_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _bury() -> None:
    """Take note of the ends of own children."""
    for child in _children:
        child.poll()
