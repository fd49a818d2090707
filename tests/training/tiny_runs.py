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
    "hpn": {
        "labels": (0, 6, 22),
        "window_hu": (-100.0, 240.0),
        "patch_vox": (16, 24, 24),
        "data": {"kind": "phantom", "cases": 3, "case_vox": (48, 48, 48), "pathologies": ["pancreas"]},
        "method_config": {"width": 2, "levels": 2, "steps": 6},
    },
    "urim": {
        "labels": (0, 1, 21),
        "patch_vox": (3, 32, 32),
        "data": {"kind": "phantom", "cases": 3, "case_vox": (48, 48, 48), "pathologies": ["liver"]},
        "method_config": {
            "encoder": {"kind": "unet", "widths": [4, 4, 6, 6, 8]},
            "decoder": 6,
            "sam_branch": 3,
            "liver": {"widths": [4, 6, 8], "steps": 5},
            "steps": 6,
            "optimiser": {"kind": "sgd", "lr": 0.01, "schedule": "poly"},
        },
    },
    "pann": {
        "labels": (0, 1, 2, 18),
        "patch_vox": (16, 24, 24),
        "batch": 4,
        "data": {
            "kind": "phantom",
            "cases": 6,
            "case_vox": (48, 48, 48),
            "partly": [{"cases": 2, "structures": [1]}, {"cases": 1, "structures": [2]}],
        },
        "method_config": {
            "unet": {"widths": [4, 6]},
            "first_steps": 5,
            "second_steps": 6,
            "first": {"kind": "sgd", "lr": 0.01, "schedule": "constant"},
            "second": {"kind": "sgd", "lr": 0.01, "schedule": "constant"},
            "prior_draws": 2,
            "teacher_every": 4,
        },
    },
    "csgan": {
        "labels": (0, 1, 18),
        "patch_vox": (16, 24, 24),
        "method_config": {
            "segmentor": {"widths": [4, 6]},
            "generator": {"widths": [3, 4]},
            "discriminator": {"width": 2, "halvings": 1, "norm": "none", "stretch": [0.1, 2], "structures": True},
            "discriminator_moves": 2,
            "segmentor_steps": 5,
            "generator_steps": 3,
            "joint_steps": 4,
            "pool": 3,
            "crop_vox": [15, 24, 24],
            "real_share": {"arterial": 0.5},
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
