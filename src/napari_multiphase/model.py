"""A model: a folder with a card (``model.json``) and weights (``weights.safetensors``). Never pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_multiphase.labels import STRUCTURES
from napari_multiphase.volume import Phase

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


class ModelCard(BaseModel):
    """Everything about a model but its weights; shown to the user before the model is trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = 1
    name: str = Field(min_length=1, max_length=80)
    method: str
    """Key of the METHODS table, e.g. "pcn"."""
    config: dict[str, Any]
    """The method's own settings, validated by it when the network is built."""
    labels: tuple[int, ...] = Field(min_length=2)
    """Label id of each output channel; channel 0 is background."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """Phases the model can segment: each alone, or both at once where its method reads pairs."""
    window_hu: tuple[float, float]
    """HU are clipped to this window and mapped linearly to [-1, 1]."""
    spacing_mm: tuple[float, float, float]
    """(z, y, x) spacing the network works at."""
    tile_vox: tuple[int, int, int]
    """(D, H, W) of one tile at that spacing."""
    overlap: float = Field(ge=0.0, lt=1.0)
    """Share of a tile that its neighbour repeats, per axis."""
    summary: str
    """What the model is, in a sentence or two."""
    training_data: str
    """What it learned from, in words."""
    phantoms_only: bool
    """Trained on phantoms only: shown wherever the model is."""
    licence: str
    metrics: dict[str, Any] = Field(default_factory=dict)
    """Figures with the command that measured them."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _sane(self) -> ModelCard:
        if self.labels[0] != 0 or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must start with 0 (background) and name each id once")
        unknown = [i for i in self.labels[1:] if i not in STRUCTURES]
        if unknown:
            raise ValueError(f"labels {unknown} are not in the label table")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("window_hu must grow")
        if min(self.spacing_mm) <= 0 or max(self.spacing_mm) > 20:
            raise ValueError("spacing_mm must lie in (0, 20]")
        if self.tile_vox[0] < 1 or min(self.tile_vox[1:]) < 16 or max(self.tile_vox) > 512:
            raise ValueError("tile_vox must lie in [16, 512], its z in [1, 512]")
        return self


@dataclass(frozen=True)
class Model:
    """A model folder that was read and whose weights match the card."""

    folder: Path
    card: ModelCard

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS_FILE
