"""Run configurations as YAML files. A file may start from another one: ``extends: other.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from napari_multiphase.config.run import RunConfig
from napari_multiphase.config.table import method_config
from napari_multiphase.errors import UserError

_DEEPEST = 8


def read_run(path: Path, **changes: Any) -> RunConfig:
    """The configuration in a YAML file, with what it extends, and `changes` on top.

    ``extends`` names a file relative to this one; mappings are merged key by key, everything else is replaced.

    Raises
    ------
    UserError : which file and which field is wrong.
    """
    values = {**_merged(Path(path), _DEEPEST), **changes}
    try:
        run = RunConfig.model_validate(values)
        method_config(run.method, run.method_config)
    except ValidationError as error:
        first = error.errors()[0]
        prefix = "" if error.title == "RunConfig" else "method_config."
        field = prefix + ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field or 'the file'}: {first['msg'].removeprefix('Value error, ')}") from error
    return run


def write_run(run: RunConfig, path: Path) -> None:
    """Every field of `run`, defaults included, so that a later version cannot change what was meant."""
    values = run.model_dump(mode="json")
    values["method_config"] = method_config(run.method, run.method_config).model_dump(mode="json")
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _merged(path: Path, depth: int) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a run configuration: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} cannot be read as a run configuration: it is no list of settings")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if depth == 0:
        raise UserError(f"{path}: 'extends' goes more than {_DEEPEST} files deep, or in a circle")
    return _merge(_merged(path.parent / str(parent), depth - 1), values)


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
