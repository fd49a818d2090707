"""The figures of a prediction as the table shows them. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One structure of the fused result."""

    label: int
    name: str
    ml: float
    arterial_hu: float | None
    venous_hu: float | None
    confidence: float | None


def rows_of(structures: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of the structures that the fused result shows, largest first; `structures` as in report.json."""
    rows = [_row(entry) for entry in structures if "fused" in entry["ml"]]
    return sorted(rows, key=lambda row: -row.ml)


def _row(entry: Mapping[str, Any]) -> Row:
    return Row(
        label=int(entry["id"]),
        name=str(entry["name"]),
        ml=float(entry["ml"]["fused"]),
        arterial_hu=entry["mean_hu"].get("arterial"),
        venous_hu=entry["mean_hu"].get("venous"),
        confidence=entry["mean_confidence"].get("fused"),
    )


def as_sentence(note: str) -> str:
    """A note with a capital letter and a full stop."""
    text = note.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def plan_in_words(plan: Mapping[str, Any]) -> str:
    """What segmenting will take, in a few short sentences."""
    return " ".join(str(sentence) for sentence in plan["sentences"])
