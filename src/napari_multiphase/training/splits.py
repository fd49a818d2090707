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

    def words(self) -> str:
        """For a person: a line per side, then the notes."""
        sides = (("to learn from", self.train), ("held out", self.validation))
        lines = [f"{name} ({len(ids)}): {', '.join(ids) or 'none'}" for name, ids in sides]
        return "\n".join([*lines, *self.notes])


def folds(count: int, k: int) -> list[range]:
    """`count` things in `k` contiguous folds whose sizes differ by at most one, the last folds being the larger."""
    small, large = divmod(count, k)
    sizes = [small + (i >= k - large) for i in range(k)]
    starts = [sum(sizes[:i]) for i in range(k)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def split_cases(cases: Sequence[TrainingCase], validation: ValidationConfig) -> Split:
    """The split of `cases` by patient, in the order in which the patients first appear.

    Cases annotated in full and in part are folded apart, so that both sides have their share of each. Where the
    fold is empty the last patient is held out, and a note says so; with a single patient nobody is, and a note says so.
    """
    if not cases:
        raise UserError("there is no case to learn from; name a data set that has some")
    everybody = list(dict.fromkeys(c.patient for c in cases))
    held: set[str] = set()
    notes = []
    for complete in (True, False):
        patients = [p for p in everybody if any(c.patient == p and c.complete is complete for c in cases)]
        patients = [p for p in patients if complete or p not in held]
        held |= {patients[i] for i in folds(len(patients), validation.folds)[validation.fold]}
    if len(everybody) == 1:
        held = set()
        notes.append("there is one patient only: nothing is held out, so no figure speaks of new cases")
    elif not held:
        held = {next((c.patient for c in reversed(cases) if c.complete), everybody[-1])}
        where = f"fold {validation.fold} of {validation.folds}"
        notes.append(f"{where} is empty: patient {next(iter(held))} is held out instead")
    elif len(held) == len(everybody):
        held.remove(everybody[0])
        notes.append(f"the fold holds out every patient: patient {everybody[0]} is learned from")
    if held and not any(c.complete for c in cases if c.patient in held):
        notes.append("no held-out case is annotated in full: figures speak of the structures that are")
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
