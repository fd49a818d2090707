"""Weights of a model folder, as NumPy arrays: safetensors only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open

from napari_multiphase.errors import UserError
from napari_multiphase.model import Model


def read_weights(model: Model, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of `model` by parameter name, exactly those of `expected` (name -> shape).

    Names and shapes are compared in the file's header, before anything is read; a UserError says what differs.
    """
    where = f"model '{model.card.name}' in {model.folder}"
    try:
        with safe_open(model.weights, framework="numpy") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _compare(found, expected, where)
            return {name: file.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{where} has weights that cannot be read ({error}); get the model again") from error


def _compare(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{where} lacks the weights '{name}' that its card promises; get the model again")
        if found[name] != shape:
            raise UserError(
                f"{where} has {found[name]} for '{name}' where its card (method, settings, number of labels) "
                f"needs {shape}; get the model again"
            )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise UserError(f"{where} has weights its card does not know ('{extra[0]}'); get the model again")
