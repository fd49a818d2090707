"""Weights of a model folder, as NumPy arrays: safetensors only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors.numpy import load_file

from napari_multiphase.errors import UserError
from napari_multiphase.io.models import tensor_shapes
from napari_multiphase.model import Model


def read_weights(model: Model, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of `model` by parameter name, exactly those of `expected` (name -> shape).

    Names and shapes are compared in the file's header, before anything is read; a UserError says what differs.
    """
    found = tensor_shapes(model)
    where = f"{model.folder}: the weights"
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{where} lack '{name}', which the card promises; get the model again")
        if found[name] != shape:
            raise UserError(
                f"{where} have {found[name]} for '{name}' where the card (method, settings, labels) needs {shape}; "
                "get the model again"
            )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise UserError(f"{where} hold '{extra[0]}', which the card does not know; get the model again")
    return load_file(model.weights)
