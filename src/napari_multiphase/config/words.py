"""Why a file of settings cannot be used, in one clause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

_GROUP = "must be a group of 'name: value' settings"
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known; check its spelling",
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dict_type": _GROUP,
    "union_tag_not_found": "its {discriminator} is missing",
    "union_tag_invalid": "its {discriminator} must be one of {expected_tags}",
}


def in_words(error: Exception, values: Any = None) -> str:
    """What was wrong first: the entry as the file names it, or the line and column.

    Parameters
    ----------
    error : raised while the file was read, parsed or validated.
    values : what was validated, for a ``ValidationError``.
    """
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        known = _WORDS.get(first["type"], "").format_map(first.get("ctx", {}))
        return f"{_entry(first['loc'], values) or 'the file'}: {known or first['msg'].removeprefix('Value error, ')}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, yaml.reader.ReaderError | UnicodeDecodeError):
        return "it is not plain text in UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _entry(way: tuple[int | str, ...], values: Any) -> str:
    """The keys to an entry. Pydantic puts the kind of a group among them, which the file writes elsewhere."""
    keys: list[str] = []
    for number, key in enumerate(way):
        if isinstance(values, Mapping) and key not in values and number < len(way) - 1:
            continue
        keys.append(str(key))
        values = values.get(key) if isinstance(values, Mapping) else None
    return ".".join(keys)
