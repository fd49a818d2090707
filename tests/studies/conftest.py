"""Small scans as files: enough for roles, listing and keeping; the image content is tested on phantoms and real CT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_multiphase.studies import open_study
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase, Volume

Writer = Callable[..., Path]


def box_of_tissue(seed: int, shape: tuple[int, int, int] = (12, 40, 40)) -> np.ndarray:
    """(D, H, W) int16: noisy soft tissue in air."""
    data = np.full(shape, -1000, np.int16)
    rng = np.random.default_rng(seed)
    inner = tuple(slice(n // 6, n - n // 6) for n in shape[1:])
    data[(slice(None), *inner)] = rng.normal(50, 12, data[(slice(None), *inner)].shape)
    return data


@pytest.fixture
def write_nifti(tmp_path: Path) -> Writer:
    """Write (D, H, W) data as NIfTI below the test's folder: ``write(name, data, spacing_mm=..., origin_mm=...)``."""

    def write(
        name: str,
        data: np.ndarray,
        spacing_mm: tuple[float, float, float] = (5.0, 4.0, 4.0),
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Path:
        volume = Volume.from_array(data, spacing_mm, origin_mm)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        affine = lps_to_ras @ volume.affine_mm[:, [2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(data.transpose(2, 1, 0), affine), path)
        return path

    return write


@pytest.fixture
def study(tmp_path: Path, write_nifti: Writer) -> Study:
    """Two small scans, opened from their files."""
    for seed, phase in enumerate(Phase):
        write_nifti(f"scans/{phase.value}.nii.gz", box_of_tissue(seed))
    return open_study([tmp_path / "scans"])
