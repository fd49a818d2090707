"""Run configurations as YAML files. A file may start from another one: ``extends: other.yaml``.

Paths in a file are relative to that file; what is written names them in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from napari_multiphase.config.run import RunConfig
from napari_multiphase.config.table import check_run
from napari_multiphase.config.words import in_words
from napari_multiphase.errors import UserError

_DEEPEST = 8
_PATHS = (("data", "path"), ("method_config", "imagenet_weights"), ("method_config", "encoder_weights"))


def read_run(path: Path, **changes: Any) -> RunConfig:
    """The configuration in a YAML file, with what it extends, and `changes` on top.

    ``extends``, and every other path, is relative to the file it stands in; mappings are merged key by key, everything
    else is replaced.

    Raises
    ------
    UserError : which file and which field is wrong.
    """
    values = {**_merged(Path(path), _DEEPEST), **changes}
    try:
        run = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {in_words(error, values)}") from error
    try:
        check_run(run)
    except ValidationError as error:
        raise UserError(f"{path}: method_config.{in_words(error, run.method_config)}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return run


def write_run(run: RunConfig, path: Path) -> None:
    """Every field of `run`, defaults included, so that a later version cannot change what was meant.

    Raises
    ------
    UserError : no such method, or a patch that it cannot take.
    """
    values = {**run.model_dump(mode="json"), "method_config": check_run(run).model_dump(mode="json")}
    text = yaml.safe_dump(_in_full(values, Path.cwd()), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _merged(path: Path, depth: int) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such run configuration; `multiphase plan` writes one") from error
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a run configuration: {in_words(error)}; correct it") from error
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise UserError(
            f"{path} cannot be read as a run configuration: it is {kind}; write one 'name: value' to a line"
        )
    values = _in_full(values, path.parent)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if depth == 0:
        raise UserError(f"{path}: 'extends' goes more than {_DEEPEST} files deep, or in a circle")
    return _merge(_merged(path.parent / str(parent), depth - 1), values)


def _in_full(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`values` with every path that is relative to `folder` written in full; a model's name stays a name."""
    values = dict(values)
    for group, key in _PATHS:
        inside = values.get(group)
        if isinstance(inside, dict) and isinstance(inside.get(key), str):
            values[group] = {**inside, key: _full(inside[key], folder)}
    inside = values.get("method_config")
    if isinstance(inside, dict) and "translators_from" in inside:
        values["method_config"] = {**inside, "translators_from": _model(inside["translators_from"], folder)}
    if "start_from" in values:
        values["start_from"] = _model(values["start_from"], folder)
    return values


def _model(start: Any, folder: Path) -> Any:
    """A model's folder in full; its name stays a name."""
    named = not isinstance(start, str) or Path(start).name == start
    return start if named or not Path(_full(start, folder)).is_dir() else _full(start, folder)


def _full(text: str, folder: Path) -> str:
    path = Path(text)
    with suppress(RuntimeError):  # "~" and nobody of that name
        path = path.expanduser()
    return str((folder / path).absolute())


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
