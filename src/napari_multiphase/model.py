"""A model: a folder with a card (``model.json``) and weights (``weights.safetensors``). Never pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from napari_multiphase.bounds import Labels, ModelName, Sizes, SpacingMm, StructureId, TileVox, WindowHu
from napari_multiphase.volume import Phase

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


class ModelCard(BaseModel):
    """Everything about a model but its weights; shown to the user before the model is trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = 1
    name: ModelName
    method: str
    """Key of the METHODS table, e.g. "pcn"."""
    config: dict[str, Any]
    """The method's own settings; ``read_model`` validates them."""
    labels: Labels
    """Label id of each output channel; channel 0 is background."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """Phases the model can segment: each alone, or both at once where its method reads pairs."""
    window_hu: WindowHu
    """HU are clipped to this window and mapped linearly to [-1, 1]."""
    spacing_mm: SpacingMm
    """(z, y, x) spacing the network works at."""
    tile_vox: TileVox
    """(D, H, W) of one tile at that spacing."""
    overlap: float = Field(ge=0.0, lt=1.0)
    """Share of a tile that its neighbour repeats, per axis."""
    further_sizes: Sizes = ()
    """Sizes in which every tile is looked at beside its own, which counts as much as they together."""
    in_one_piece: tuple[StructureId, ...] = ()
    """Organs of which parts much smaller than the largest one are left out after segmenting."""
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


@dataclass(frozen=True)
class Model:
    """A model folder that was read and whose weights match the card."""

    folder: Path
    card: ModelCard

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS_FILE
