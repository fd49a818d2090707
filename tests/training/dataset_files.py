"""A tiny data set on disk: two phases of a box of soft tissue with two labels, and the case list that names it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from napari_multiphase.config import RunConfig

SHAPE = (20, 18, 16)


def body(seed: int = 0) -> np.ndarray:
    hu = np.full(SHAPE, -1000, np.int16)
    hu[3:-3, 3:-3, 2:-2] = 60 + np.random.default_rng(seed).integers(-10, 10, (14, 12, 12))
    return hu


def drawn() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:10, 5:10, 5:10] = 1
    labels[12:14, 5:10, 5:10] = 2
    return labels


def save(path: Path, data: np.ndarray, spacing=(3.0, 3.0, 3.0), shift=0.0) -> str:
    affine = np.diag([*spacing, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(data, affine), path)
    return str(path)


def good(folder: Path, name: str, seed: int = 0) -> dict:
    return {
        "id": name,
        "arterial": {
            "image": save(folder / f"{name}_a.nii.gz", body(seed)),
            "labels": save(folder / f"{name}_al.nii.gz", drawn()),
        },
        "venous": {
            "image": save(folder / f"{name}_v.nii.gz", body(seed + 1)),
            "labels": save(folder / f"{name}_vl.nii.gz", drawn()),
        },
        "transform": "identity",
    }


def make_run(folder: Path, cases: list[dict], **changes) -> RunConfig:
    path = folder / "cases.yaml"
    path.write_text(yaml.safe_dump({"annotated": ["liver", "spleen"], "cases": cases}))
    values = {"labels": (0, 1, 2), "spacing_mm": (3.0, 3.0, 3.0), "data": {"kind": "dataset", "path": path}, **changes}
    return RunConfig.model_validate(values)
