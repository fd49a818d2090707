"""Runs small enough for a test. Their phantoms are prepared once, in the tests' own data folder."""

from typing import Any

from napari_multiphase.config import RunConfig

TINY: dict[str, dict[str, Any]] = {
    "pcn": {
        "labels": (0, 1, 18),
        "patch_vox": (16, 24, 24),
        "method_config": {
            "segmentor": {"widths": [4, 8]},
            "shared_steps": 6,
            "phase_steps": 2,
            "optimiser": {"kind": "sgd", "lr": 0.05, "schedule": "poly"},
        },
    },
}
"""A few steps of every stage, by method."""


def tiny_run(method: str, **changes: Any) -> RunConfig:
    """A run of seconds over the smallest phantoms."""
    values: dict[str, Any] = {
        "method": method,
        "name": "tiny",
        "spacing_mm": (8.0, 8.0, 8.0),
        "data": {"kind": "phantom", "cases": 3, "case_vox": (48, 48, 48)},
        "batch": 2,
        "threads": 1,
        "precision": "float32",
        "validation": {"folds": 3, "every": 5, "cases": 1},
        "checkpoint_every": 3,
        **TINY[method],
        **changes,
    }
    return RunConfig.model_validate(values)
