"""What a run learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from napari_multiphase.bounds import StructureId
from napari_multiphase.config.base import Settings


class PartlyLabelled(Settings):
    """Phantoms of which only some structures count as annotated (PaNN)."""

    cases: int = Field(ge=1)
    """How many, taken from the end of the list of cases."""
    structures: tuple[StructureId, ...] = Field(min_length=1)
    """Ids of the label table."""


class PhantomConfig(Settings):
    """Parametric two-phase phantoms, made once and kept."""

    kind: Literal["phantom"] = "phantom"
    cases: int = Field(default=48, ge=2)
    """Studies; seeds `first_seed` and up. Ours."""
    first_seed: int = Field(default=1000, ge=0)
    """Figures use seeds below 1000."""
    case_vox: tuple[int, int, int] = (96, 192, 192)
    """(D, H, W) at the run's spacing."""
    motion_mm: float = Field(default=12.0, ge=0)
    """Peak breathing motion between the phases."""
    pathologies: tuple[Literal["none", "liver", "pancreas"], ...] = Field(
        default=("none", "liver", "pancreas"), min_length=1
    )
    """Taken in turn."""
    partly: tuple[PartlyLabelled, ...] = ()
    """Cases that are annotated in part; all others are annotated in full."""


class DatasetConfig(Settings):
    """Cases on disk: an MSD or nnU-Net folder (dataset.json), or a case list of this project (YAML)."""

    kind: Literal["dataset"] = "dataset"
    path: Path
    """Folder that holds dataset.json, the dataset.json itself, or the case list."""
    structures: dict[str, int | None] = Field(default_factory=dict)
    """The dataset's label names (or numbers as text) -> ids of the label table; null leaves a label out (unknown).
    Names that are the table's own need no entry."""
