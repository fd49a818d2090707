"""Which files make up one scan: a DICOM series may hold several acquisitions of the same places."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_multiphase.io.dicom_header import Header
from napari_multiphase.io.dicom_stack import SAME_PLACE_MM, Placed, offsets_mm


def by_series(headers: Iterable[Header]) -> list[list[Header]]:
    """Files of one SeriesInstanceUID that share size, spacing and orientation."""
    groups: dict[tuple[Any, ...], list[list[Header]]] = defaultdict(list)
    for header in headers:
        keys = ("PatientID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
        folder = "" if header.text("SeriesInstanceUID") else header.name.rpartition("/")[0]
        for group in (alike := groups[(folder, *(header.text(k) for k in keys))]):
            if _parallel(group[0].placed, header.placed):
                group.append(header)
                break
        else:
            alike.append([header])
    return [group for alike in groups.values() for group in alike]


def _parallel(first: Placed | None, second: Placed | None) -> bool:
    if first is None or second is None:
        return first is second
    spacing = (first.row_spacing_mm - second.row_spacing_mm, first.column_spacing_mm - second.column_spacing_mm)
    return max(map(abs, spacing)) < 1e-3 and np.abs(np.subtract(first.orientation, second.orientation)).max() < 2e-3


def acquisitions(group: list[Header]) -> list[list[Header]]:
    """Split files of one series that hold several scans of the same places (phases) into one list per scan.

    By AcquisitionNumber, acquisition, trigger or content time where one of them tells the scans apart; otherwise by
    the order of InstanceNumber. A few repeated slices are left in: reading decides whether they are copies.
    """
    if any(h.placed is None for h in group):
        return [group]
    firsts, copies = _without_copies(group)
    most, repeats = _repeats(firsts)
    if most < 2:
        parts = [firsts]
    else:
        parts = _by_field(firsts, most) or ([firsts] if repeats < max(2, len(firsts) // 4) else _by_order(firsts))
    for copy in copies:  # the same object twice, for instance in a backup folder
        next(p for p in parts if any(h.text("SOPInstanceUID") == copy.text("SOPInstanceUID") for h in p)).append(copy)
    return parts


def _without_copies(group: list[Header]) -> tuple[list[Header], list[Header]]:
    seen: set[str] = set()
    firsts: list[Header] = []
    copies: list[Header] = []
    for header in group:
        uid = header.text("SOPInstanceUID")
        (copies if uid and uid in seen else firsts).append(header)
        seen.add(uid)
    return firsts, copies


def _places(group: list[Header]) -> list[int]:
    """A number per file, the same for files at the same place along the slice normal."""
    at = offsets_mm([h.placed for h in group if h.placed is not None])
    order = np.argsort(at, kind="stable")
    jumps = np.diff(at[order], prepend=at[order[0]]) > SAME_PLACE_MM
    places = np.empty(len(at), int)
    places[order] = np.cumsum(jumps)
    return places.tolist()


def _repeats(group: list[Header]) -> tuple[int, int]:
    """How often the most repeated place occurs, and how many files lie at a place that is taken already."""
    counts = Counter(_places(group))
    return max(counts.values()), sum(counts.values()) - len(counts)


def _by_field(group: list[Header], most: int) -> list[list[Header]] | None:
    for keyword in ("AcquisitionNumber", "AcquisitionTime", "TriggerTime", "ContentTime"):
        parts: dict[str, list[Header]] = defaultdict(list)
        for header in group:
            parts[header.text(keyword)].append(header)
        if len(parts) == most and all(_repeats(part)[0] == 1 for part in parts.values()):
            return [parts[key] for key in sorted(parts, key=_numeric)]
    return None


def _numeric(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _by_order(group: list[Header]) -> list[list[Header]]:
    ordered = sorted(group, key=lambda h: (h.whole("InstanceNumber") or 0, h.name))
    parts: list[list[Header]] = [[]]
    taken: set[int] = set()
    for header, place in zip(ordered, _places(ordered), strict=True):
        if place in taken:
            parts.append([])
            taken = set()
        parts[-1].append(header)
        taken.add(place)
    # Phases stored slice by slice (1a 1b 2a 2b ...) give parts of one slice each: deal them out instead.
    if len(parts) > _repeats(group)[0]:
        dealt: dict[int, int] = defaultdict(int)
        parts = [[] for _ in range(_repeats(group)[0])]
        for header, place in zip(ordered, _places(ordered), strict=True):
            parts[dealt[place]].append(header)
            dealt[place] += 1
    return parts
