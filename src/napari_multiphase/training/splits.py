"""Which patients are held out: contiguous folds over patients, never over slices or phases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_multiphase.config.run import ValidationConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.training.cases import Reads, TrainingCase

SPLIT_FILE = "split.json"
REVIEWED = "reviewed voxels"
"""Where cases that were corrected in part are measured."""


@dataclass(frozen=True)
class Split:
    """Ids of the cases to learn from and of those held out; `notes` are what the user should know. `measured` says
    where held-out cases are measured; "" is everywhere."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    notes: tuple[str, ...] = ()
    measured: str = ""

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


def split_cases(cases: Sequence[TrainingCase], validation: ValidationConfig, reads: Reads = "each") -> Split:
    """The split of `cases` by patient, in the order in which the patients first appear.

    The folds are of the patients by whom a method that `reads` each phase or the pair can be judged: those with a case
    annotated in full, or, where fewer than two have one, in part; all others are learned from (PAPER 004 folds its
    fully labelled set). Corrected cases of which nobody looked at every voxel judge where there are no others, in what
    was reviewed. Where the fold is empty the last of them is held out. Whatever is unusual is said in a note.
    """
    if not cases:
        raise UserError("there is no case to learn from; name a data set that has some")
    judged = [c for c in cases if c.shows(reads)]
    full = list(dict.fromkeys(c.patient for c in judged if c.complete))
    partly = [p for p in dict.fromkeys(c.patient for c in judged if not c.corrected) if p not in full]
    patients = full if len(full) > 1 or not partly else partly
    some = list(dict.fromkeys(c.patient for c in judged))
    if not patients and len(some) >= validation.corrected:
        patients = some
    held = {patients[i] for i in folds(len(patients), validation.folds)[validation.fold]}
    notes, measured = [], ""
    if not patients and len(some) > 1:
        notes.append(f"fewer than {validation.corrected} corrected patients: all are learned from, nothing is held out")
    elif not patients or len(some) < 2:
        held = set()
        notes.append("one patient at most has labels to learn from and to judge by: nothing is held out")
    elif not held:
        held = {patients[-1]}
        where = f"fold {validation.fold} of {validation.folds}"
        notes.append(f"{where} is empty: patient {patients[-1]} is held out instead")
    out = [c for c in judged if c.patient in held]
    if any(c.corrected and not c.complete for c in out):
        measured = REVIEWED
        notes.append(
            "held-out cases were corrected in part: Dice is taken over what was reviewed there, which is where the "
            "model was doubted, and everywhere for complete structures"
        )
    elif out and not any(c.complete for c in out):
        notes.append("no held-out case is annotated in full: figures speak of the structures that are")
    train = tuple(c.id for c in cases if c.patient not in held)
    return Split(train, tuple(c.id for c in cases if c.patient in held), tuple(notes), measured)


def write_split(split: Split, validation: ValidationConfig, folder: Path) -> None:
    """Write ``split.json``."""
    values = {
        "rule": f"fold {validation.fold} of {validation.folds} contiguous folds of patients",
        "train": list(split.train),
        "validation": list(split.validation),
        "notes": list(split.notes),
        "measured": split.measured,
    }
    with atomic_path(folder / SPLIT_FILE) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_split(folder: Path) -> Split:
    """The split of a run folder; a UserError where it cannot be read."""
    path = folder / SPLIT_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sides = tuple(values["train"]), tuple(values["validation"])
        return Split(*sides, tuple(values["notes"]), str(values.get("measured", "")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); start the run anew in another folder") from error
