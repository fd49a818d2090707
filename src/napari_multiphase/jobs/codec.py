"""Objects <-> JSON with leases: what lets a request carry a `Study` and an answer a `Prediction`.

Only the types of an explicit table are ever built from a line. Arrays come back memory-mapped and read-only.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.jobs.leases import Lease, Store

_OBJECTS = "napari_multiphase"
TYPES = {
    "Grid": "volume",
    "Source": "volume",
    "Volume": "volume",
    "DenseField": "field",
    "PhaseGuess": "study",
    "Finding": "study",
    "PhaseTransform": "study",
    "Study": "study",
    "TwoBest": "study",
    "PhasePrediction": "study",
    "Prediction": "study",
    "Translation": "study",
    "Model": "model",
    "ModelCard": "model",
    "RegisterOptions": "config",
    "SegmentOptions": "config",
    "TranslateOptions": "config",
    "Event": "events",
    "Series": "io.dicom_index",
    "Scan": "studies.scans",
}
"""Where each type that may cross lives, below the package; a dataclass or a pydantic model, torch-free."""

_INLINE_BYTES = 4096
_TAG = "$type"


def encode(value: Any, store: Store) -> Any:
    """`value` as JSON types, arrays above 4 kB as leases of `store`. Raises TypeError for a type not in the table."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _encode_array(value, store)
    if isinstance(value, Path):
        return {_TAG: "path", "value": str(value)}
    if _is_phase(value):
        return {_TAG: "Phase", "value": str(value)}
    if isinstance(value, Mapping):
        return _encode_mapping(value, store)
    if isinstance(value, tuple):
        return {_TAG: "tuple", "items": [encode(v, store) for v in value]}
    if isinstance(value, (list, set, frozenset)):
        return [encode(v, store) for v in value]
    return _encode_object(value, store)


def decode(value: Any, store: Store) -> Any:
    """What `encode` was given. Raises ValueError or TypeError on anything else."""
    if isinstance(value, list):
        return [decode(v, store) for v in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_TAG)
    if kind is None:
        return {k: decode(v, store) for k, v in value.items()}
    if kind == "lease":
        return store.get(Lease.from_dict(value["lease"]))
    if kind == "array":
        raw = base64.b64decode(value["base64"])
        return np.frombuffer(raw, np.dtype(value["dtype"])).reshape(value["shape"]).copy()
    if kind == "path":
        return Path(value["value"])
    if kind == "tuple":
        return tuple(decode(v, store) for v in value["items"])
    if kind == "mapping":
        return {decode(k, store): decode(v, store) for k, v in value["items"]}
    return _decode_object(kind, value["value"], store)


def leases_in(value: Any) -> Iterator[Lease]:
    """Every lease in an encoded value."""
    if isinstance(value, dict):
        if value.get(_TAG) == "lease":
            yield Lease.from_dict(value["lease"])
        else:
            for inner in value.values():
                yield from leases_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leases_in(inner)


def _encode_array(array: np.ndarray, store: Store) -> dict[str, Any]:
    if array.nbytes > _INLINE_BYTES:
        return {_TAG: "lease", "lease": store.put(array).to_dict()}
    if array.dtype.hasobject:
        raise TypeError("arrays of Python objects do not leave the process")
    text = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {_TAG: "array", "dtype": array.dtype.str, "shape": list(array.shape), "base64": text}


def _encode_mapping(value: Mapping[Any, Any], store: Store) -> dict[str, Any]:
    if all(type(k) is str and k != _TAG for k in value):
        return {k: encode(v, store) for k, v in value.items()}
    return {_TAG: "mapping", "items": [[encode(k, store), encode(v, store)] for k, v in value.items()]}


def _encode_object(value: Any, store: Store) -> dict[str, Any]:
    name = type(value).__name__
    if TYPES.get(name) is None or not type(value).__module__.startswith(f"{_OBJECTS}.{TYPES[name]}"):
        raise TypeError(f"a {name} does not cross between processes")
    if is_dataclass(value):
        inner = {f.name: encode(getattr(value, f.name), store) for f in fields(value) if f.init}
    else:
        inner = value.model_dump(mode="json")
    return {_TAG: name, "value": inner}


def _decode_object(kind: str, value: Any, store: Store) -> Any:
    if kind == "Phase":
        return _class("Phase", "volume")(value)
    if kind not in TYPES:
        raise ValueError(f"a {kind} does not cross between processes")
    cls: Any = _class(kind, TYPES[kind])
    if hasattr(cls, "__dataclass_fields__"):
        return cls(**{k: decode(v, store) for k, v in value.items()})
    return cls.model_validate(value)


def _is_phase(value: Any) -> bool:
    return isinstance(value, str) and type(value).__name__ == "Phase"


def _class(name: str, room: str) -> Any:
    return getattr(importlib.import_module(f"{_OBJECTS}.{room}"), name)
