"""One training run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from napari_multiphase.bounds import Labels, ModelName, Sizes, SpacingMm, StructureId, WindowHu
from napari_multiphase.config.base import Device, Settings
from napari_multiphase.config.data import DatasetConfig, PhantomConfig
from napari_multiphase.labels import STRUCTURES


class ValidationConfig(Settings):
    """Which cases are held out, and how often they are looked at."""

    folds: int = Field(default=5, ge=2)
    """Patients are split into this many contiguous folds. Ours."""
    fold: int = Field(default=0, ge=0)
    """The fold that is held out."""
    cases: int = Field(default=4, ge=1)
    """At most so many of its cases are segmented at each look (all of them stay out of training)."""
    every: int = Field(default=500, ge=1)
    """Steps between two looks; the end of each stage is looked at as well."""
    corrected: int = Field(default=4, ge=2)
    """From so many patients corrected in part on, some are held out where nobody else can be; fewer are all learned
    from. Ours."""


class RunConfig(Settings):
    """One training run. The trainer needs nothing else; ``run.yaml`` in the run folder is this."""

    method: str = "pcn"
    """Key of METHODS."""
    method_config: dict[str, Any] = Field(default_factory=dict)
    """The method's own settings, validated by it: networks, losses, stages, optimisers, augmentation."""
    name: ModelName = "my-model"
    """Name of the model that comes out."""
    summary: str = ""
    """A sentence for the model's card; empty lets the method say it."""
    licence: str = "BSD-3-Clause"
    """Of the model that comes out, for its card; where training data ask for theirs, that."""
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """Everything random is derived from (seed, stage, step, item). 64 bits, as torch takes."""
    data: Annotated[PhantomConfig | DatasetConfig, Field(discriminator="kind")] = PhantomConfig()
    """What to learn from."""
    start_from: str | None = None
    """Name of a model whose weights are the start (fine-tuning), or its folder, written with a slash."""
    labels: Labels = (0, *STRUCTURES)
    """Label id of each output channel; 0 is background. The label table."""
    window_hu: WindowHu = (-200.0, 600.0)
    """Clipped and mapped linearly to [-1, 1]; holds an arterial aorta (ours; each paper's own is in its preset)."""
    spacing_mm: SpacingMm = (3.0, 2.0, 2.0)
    """(z, y, x) spacing of the network's grid. Ours."""
    patch_vox: tuple[int, int, int] = (64, 96, 96)
    """(D, H, W) of one training patch, and of one tile when segmenting; which sizes a method takes, ``check_run`` says.
    Ours."""
    overlap: float = Field(default=0.25, ge=0, lt=0.95)
    """Share of a tile repeated by its neighbour when segmenting. Ours."""
    further_sizes: Sizes = ()
    """Sizes, 0.85 being 15 % smaller, in which every tile is looked at beside its own when segmenting, which counts as
    much as they together. For methods that work on volumes in one go. Ours."""
    in_one_piece: tuple[StructureId, ...] = ()
    """Organs of which parts much smaller than the largest one are left out after segmenting. Ours."""
    batch: int = Field(default=1, ge=1)
    """Patches per optimiser step, over all processes and micro-batches."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches per step: less memory, the same step (batch statistics apart)."""
    device: Device = "auto"
    """Where to train."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the networks; losses are computed in float32. "auto": bfloat16 where the device computes in it."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's choice."""
    loaders: int = Field(default=0, ge=0)
    """Processes that draw patches (Linux); 0 is one helper thread (best on few cores)."""
    validation: ValidationConfig = ValidationConfig()
    """Held-out patients."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between two checkpoints; the last two are kept."""

    @model_validator(mode="after")
    def _sane(self) -> RunConfig:
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate})")
        if self.validation.fold >= self.validation.folds:
            raise ValueError(f"validation.fold must be below validation.folds ({self.validation.folds})")
        return self
