"""Checkpoints: written whole, verified, the last two kept. safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event, OnEvent, ignore
from napari_multiphase.io.atomic import atomic_folder

FOLDER = "checkpoints"
KEPT = 2
_STATE, _META = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run was: `tensors` by name (networks, duals, pools, optimisers), `meta` (JSON types)."""

    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]


def save_checkpoint(run_folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoints/<step>``, read it back to compare, then drop all but it and the one before it.

    Raises
    ------
    UserError : where it cannot be written; the checkpoints there are stay untouched.
    """
    target = run_folder / FOLDER / f"{step:08d}"
    # The copies also undo sharing: safetensors refuses two names for one memory.
    content = save({name: t.detach().cpu().clone().contiguous() for name, t in checkpoint.tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    with atomic_folder(target) as part:
        (part / _STATE).write_bytes(content)
        text = json.dumps({"format_version": 1, "sha256": digest, "step": step, **checkpoint.meta}, indent=1)
        (part / _META).write_text(text, encoding="utf-8")
        if _digest(part / _STATE) != digest:
            raise UserError(f"cannot write {target}: the disk gave back something else; check the disk")
    there, torn = _numbered(run_folder), (run_folder / FOLDER).glob(".*")  # what a kill in the middle of a write left
    # A later step was damaged, else the run had gone on from it: it must not take a whole one's place.
    kept = [folder for folder in there if int(folder.name) <= step][:KEPT]
    for old in (*(folder for folder in there if folder not in kept), *torn):
        shutil.rmtree(old, ignore_errors=True)
    return target


def has_checkpoints(run_folder: Path) -> bool:
    """Whether there is one, whole or damaged."""
    return bool(_numbered(run_folder))


def load_checkpoint(run_folder: Path, on_event: OnEvent = ignore) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None where there is none; damaged ones are passed over with a warning.

    Raises
    ------
    UserError : where there are checkpoints and all of them are damaged.
    """
    found = _numbered(run_folder)
    for number, folder in enumerate(found):
        checkpoint = _read(folder)
        if checkpoint is not None:
            if number:
                steps = " and ".join(str(int(damaged.name)) for damaged in found[:number])
                text = f"{folder.parent}: damaged at step {steps}; the run goes on from step {int(folder.name)}"
                on_event(Event("warning", text))
            return checkpoint
    if found:
        raise UserError(f"{run_folder / FOLDER}: every checkpoint is damaged; start the run anew in another folder")
    return None


def _read(folder: Path) -> Checkpoint | None:
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if _digest(folder / _STATE) != meta["sha256"]:
            return None
        return Checkpoint(load_file(folder / _STATE), meta)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _numbered(run_folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    found = [path for path in (run_folder / FOLDER).glob("*") if path.is_dir() and path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
