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


class AtlasConfig(Settings):
    """A label map whose anatomy phantoms are made of (docs/atlases.md)."""

    labels: str = Field(min_length=1)
    """The map, as ``atlases/person/labels.nii.gz``: from the folder named by MULTIPHASE_ATLASES where that is set, else
    from the working directory."""
    names: str = Field(min_length=1)
    """JSON that names the map's values, found in the same way."""
    share: float = Field(default=1.0, gt=0)
    """How often it is taken, against the other maps."""
    licence: str = ""
    """Of the map, for the model's card."""


class PhantomConfig(Settings):
    """Two-phase phantoms, made once and kept: parametric ones, or some of label maps."""

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
    atlases: tuple[AtlasConfig, ...] = ()
    """Label maps to make phantoms of; without any all phantoms are parametric."""
    parametric_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the cases that are parametric where there are atlases."""
    wide: bool = True
    """Strong domain randomisation of atlas phantoms: HU of every tissue from ranges that cover both phases and more,
    textures of two scales, noise of 3-30 HU, several kernels, blur."""
    warp: float = Field(default=1.0, ge=0, le=1.5)
    """Strength of the random deformation of atlas phantoms."""
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
