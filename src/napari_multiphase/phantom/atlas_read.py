"""Any label map and the JSON that names its values, as codes on a canonical grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.io.images import read_labels
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom.atlas_tissues import BODY, CODES, code_of
from napari_multiphase.volume import Volume

JSON_BYTES = 4 << 20
LARGEST_VOXELS = 160_000_000
LEAST_ML = 300.0
"""A map of less than this is no abdomen."""


def read_atlas(labels: Path, names: Path) -> Volume:
    """The map as codes of `atlas_tissues` (uint8), 0 outside; what `names` maps to null is "body".

    `names` is JSON: ``{"1": "liver", "2": "vertebrae_L1", ...}``, or the same under the key "labels". A meaning is a
    name of the label table or of `atlas_tissues`, an id of the label table, or a name of the map's own that can be
    understood. What cannot be is named under the key "structures": ``{"RK": "right kidney", "implant": null}``.

    Raises
    ------
    UserError : unreadable files, JSON of another form, values without a name, names that mean nothing, no anatomy.
    """
    meanings = read_meanings(Path(names))
    volume = read_labels(Path(labels))
    if volume.data.size > LARGEST_VOXELS:
        raise UserError(f"{Path(labels).name}: has {volume.data.size} voxels; resample it to 1 mm or coarser")
    counts = np.bincount(volume.data.ravel())
    nameless = [int(v) for v in np.flatnonzero(counts) if v and int(v) not in meanings]
    if nameless:
        shown = ", ".join(map(str, nameless[:5])) + (", ..." if len(nameless) > 5 else "")
        raise UserError(f"{Path(labels).name}: {Path(names).name} gives the values {shown} no name; add them there")
    table = np.zeros(max(len(counts), 1), np.uint8)
    for value, code in meanings.items():
        if 0 < value < len(table):
            table[value] = code
    codes = table[volume.data]
    known = np.count_nonzero((codes > 0) & (codes != BODY)) * volume.grid.voxel_ml
    if known < LEAST_ML:
        raise UserError(
            f"{Path(labels).name}: holds {known:.0f} ml of named structures, too little for an abdomen; check the map, "
            f"its spacing and {Path(names).name}"
        )
    return volume.with_data(codes)


def read_meanings(path: Path) -> dict[int, int]:
    """Value -> code, from the JSON file."""
    data = _json(path)
    extra = data.get("structures", {})
    pairs = data.get("labels", {k: v for k, v in data.items() if k != "structures"})
    if not isinstance(pairs, dict) or not isinstance(extra, dict) or not pairs:
        raise UserError(
            f'{path.name}: names no label values; write {{"1": "liver", "2": "spleen"}}, or the same under "labels"'
        )
    found: dict[int, int] = {}
    unknown: list[str] = []
    for key, meaning in pairs.items():
        value = _value(key, path)
        if value == 0:
            continue
        code = _code(meaning, extra, path)
        if code is None:
            unknown.append(str(meaning)[:60])
        else:
            found[value] = code
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise UserError(
            f'{path.name}: does not say what {shown} stands for; add it under "structures" with a name of the label '
            "table, or null"
        )
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_BYTES:
            raise UserError(
                f"{path.name}: is larger than {JSON_BYTES >> 20} MB; give the JSON that names the map's values"
            )
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the name") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path.name}: is not JSON; write {{"1": "liver", ...}}') from error
    if not isinstance(data, dict):
        raise UserError(f'{path.name}: holds a list, not names by value; write {{"1": "liver", ...}}')
    return data


def _value(key: str, path: Path) -> int:
    if not (key.isascii() and key.isdigit() and len(key) <= 5 and int(key) <= 65_535):
        raise UserError(f"{path.name}: '{key[:40]}' is no label value; use whole numbers from 0 to 65535 as keys")
    return int(key)


def _code(meaning: object, extra: Mapping[str, Any], path: Path) -> int | None:
    if isinstance(meaning, str) and meaning in extra:
        meaning = extra[meaning]
    if meaning is None:
        return BODY
    if isinstance(meaning, bool) or not isinstance(meaning, int | str):
        raise UserError(
            f"{path.name}: {str(meaning)[:40]} is no structure; use a name, an id of the label table, or null"
        )
    if isinstance(meaning, int):
        return meaning if meaning in STRUCTURES else None
    return CODES.get(meaning, code_of(meaning))
