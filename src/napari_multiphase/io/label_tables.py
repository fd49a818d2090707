"""Names and colours of labels as other programs read them: JSON, ITK-SNAP, 3D Slicer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from napari_multiphase.labels import STRUCTURES, Structure, name_of

LABELS_FILE = "labels.json"
ITK_SNAP_FILE = "labels_itksnap.txt"
SLICER_FILE = "labels_slicer.ctbl"
_STRANGE = (255, 0, 255)


def write_label_tables(folder: Path, ids: Iterable[int]) -> list[str]:
    """Write the three tables of the labels `ids` into `folder`; returns the files' names."""
    rows = [_row(label) for label in sorted(set(ids) - {0})]
    (folder / LABELS_FILE).write_text(json.dumps([_entry(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    (folder / ITK_SNAP_FILE).write_text(_itk_snap(rows), encoding="utf-8")
    (folder / SLICER_FILE).write_text(_slicer(rows), encoding="utf-8")
    return [LABELS_FILE, ITK_SNAP_FILE, SLICER_FILE]


def _row(label: int) -> Structure:
    return STRUCTURES.get(label) or Structure(label, name_of(label), _STRANGE, label, "organ")


def _entry(row: Structure) -> dict[str, object]:
    return {"id": row.id, "name": row.name, "colour": list(row.colour), "group": name_of(row.group), "kind": row.kind}


def _itk_snap(rows: list[Structure]) -> str:
    """Label description file: index, red, green, blue, opacity, visible, in meshes, name."""
    lines = ["# ITK-SnAP Label Description File", "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL"]
    lines.append('    0     0    0    0     0    0   0  "Clear Label"')
    for row in rows:
        r, g, b = row.colour
        lines.append(f'{row.id:5d} {r:5d} {g:4d} {b:4d}     1    1   1  "{row.name}"')
    return "\n".join(lines) + "\n"


def _slicer(rows: list[Structure]) -> str:
    """Colour table: index, name without spaces, red, green, blue, opacity."""
    lines = ["# Color table file labels.ctbl", f"# {len(rows) + 1} values", "0 background 0 0 0 0"]
    for row in rows:
        r, g, b = row.colour
        lines.append(f"{row.id} {row.name.replace(' ', '_')} {r} {g} {b} 255")
    return "\n".join(lines) + "\n"
