"""Which patients are held out: contiguous folds over patients, never over slices or phases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_multiphase.config.run import ValidationConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.training.cases import TrainingCase

SPLIT_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """Ids of the cases to learn from and of those held out; `notes` are what the user should know."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    notes: tuple[str, ...] = ()


def folds(count: int, k: int) -> list[range]:
    """`count` things in `k` contiguous folds whose sizes differ by at most one, the last folds being the larger."""
    small, large = divmod(count, k)
    sizes = [small + (i >= k - large) for i in range(k)]
    starts = [sum(sizes[:i]) for i in range(k)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def split_cases(cases: Sequence[TrainingCase], validation: ValidationConfig) -> Split:
    """The split of `cases` by patient, in the order in which the patients first appear.

    Cases annotated in full and in part are folded apart, so that both sides have their share of each.
    """
    held: set[str] = set()
    notes = []
    for complete in (True, False):
        patients = list(dict.fromkeys(c.patient for c in cases if c.complete is complete and c.patient not in held))
        fold = folds(len(patients), validation.folds)[validation.fold] if patients else range(0)
        held |= {patients[i] for i in fold}
    if not held:
        patients = list(dict.fromkeys(c.patient for c in cases if c.complete)) or [c.patient for c in cases]
        if len({c.patient for c in cases}) > 1:
            held = {patients[-1]}
            fold = f"fold {validation.fold} of {validation.folds}"
            notes.append(f"{fold} is empty: patient {patients[-1]} is held out instead")
        else:
            notes.append("there is one patient only: nothing is held out, so no figure speaks of new cases")
    train = tuple(c.id for c in cases if c.patient not in held)
    out = tuple(c.id for c in cases if c.patient in held)
    return Split(train, out, tuple(notes))


def write_split(split: Split, validation: ValidationConfig, folder: Path) -> None:
    """Write ``split.json``."""
    values = {
        "rule": f"fold {validation.fold} of {validation.folds} contiguous folds of patients",
        "train": list(split.train),
        "validation": list(split.validation),
        "notes": list(split.notes),
    }
    with atomic_path(folder / SPLIT_FILE) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_split(folder: Path) -> Split:
    """The split of a run folder; a UserError where it cannot be read."""
    path = folder / SPLIT_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Split(tuple(values["train"]), tuple(values["validation"]), tuple(values["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); start the run anew in another folder") from error
