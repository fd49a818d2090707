"""Files and points of one phase, carried to the other through a kept registration."""

from __future__ import annotations

import csv
import math
from itertools import islice
from pathlib import Path

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.resample import resample
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.images import Kind, read_image, read_labels, write_on_source
from napari_multiphase.io.transforms import read_transform
from napari_multiphase.studies.scans import kind_by_content, kind_by_name
from napari_multiphase.volume import Phase, Volume

MOST_POINTS = 1_000_000
AXES = ("x", "y", "z")


def carry_points(file: Path, through: Path, to: Phase, out: Path) -> str:
    """Points of a .csv with columns x, y, z (LPS mm) in the other scan -> the same anatomy in the scan of `to`.

    Other columns are kept. Returns a sentence; raises UserError where the file is not such a table.
    """
    transform = read_transform(through)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names, rows = list(reader.fieldnames or ()), list(islice(reader, MOST_POINTS + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table: give a .csv with columns x, y, z in LPS mm") from error
    if not set(AXES) <= set(names):
        raise UserError(f"{file} has no columns x, y, z: name them in its first line (LPS mm)")
    if len(rows) > MOST_POINTS:
        raise UserError(f"{file} holds more than {MOST_POINTS} points: split it")
    points = np.array([[_number(row[axis], file, line) for axis in AXES] for line, row in enumerate(rows, 2)])
    moved = transform.map(points, to) if len(rows) else points
    with atomic_path(out) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        for row, point in zip(rows, moved, strict=True):
            writer.writerow(
                {name: row[name] for name in names} | dict(zip(AXES, (f"{v:.3f}" for v in point), strict=True))
            )
    return f"{len(rows)} points carried to the {to} scan: {out}"


def _number(text: str | None, file: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{file}, line {line}: '{text}' is no coordinate in mm")
    return value


def carry_image(file: Path, through: Path, to: Phase, out: Path, onto: Path | None) -> str:
    """A label map (nearest neighbour), a confidence map or an image (linear) onto the grid of the scan `onto`.

    Its values tell which it is (`studies.scans.kind_by_content`). What the other scan does not show is -1024 HU in an
    image and 0 elsewhere. Returns a sentence.

    Raises
    ------
    UserError : a file cannot be read or written, or `onto` is missing.
    """
    source = read_image(file)
    if onto is None:
        raise UserError(f"{file.name} takes the grid of the {to} scan: name that with --onto")
    transform, target = read_transform(through), read_image(Path(onto))
    kind = _kind(source, file.name)
    if kind == "labels":
        source = read_labels(file)
    grids, way = (source.grid, target.grid), transform.into(to.other)
    outside = 0.0 if kind == "confidence" else None  # else as usual
    carried = resample(source.data, *grids, 0 if kind == "labels" else 1, way, background=outside)
    if kind == "confidence":
        carried = np.rint(carried * (255 if carried.max(initial=0) <= 1 else 1)).astype(np.uint8)
    write_on_source(out, carried, target, kind=kind, description=f"{to.other} {kind} on the {to} grid")
    return f"{kind} carried to the {to} scan: {out}"


def _kind(source: Volume, name: str) -> Kind:
    found = kind_by_content(source, kind_by_name(name))
    return found if found in ("labels", "confidence") else "image"
