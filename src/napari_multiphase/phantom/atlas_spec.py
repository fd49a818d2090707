"""What a phantom of a label map is asked to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari_multiphase.errors import UserError
from napari_multiphase.phantom.spec import PhantomSpec


@dataclass(frozen=True)
class AtlasSpec(PhantomSpec):
    """`PhantomSpec` with a map of somebody's anatomy; the field of view is drawn where the map reaches.

    Attributes
    ----------
    atlas : label map, any format and orientation that is read here.
    names : JSON, the meaning of its values (`atlas_read.read_atlas`).
    wide : HU of every tissue and phase anywhere between unenhanced and bright, stronger textures, noise and blur: for
        training. Otherwise HU follow `kinetics`.
    warp : strength of the random shape; 1 is the full range, 0 the map as it is.
    cache : folder where the map's body model is kept; the user's data folder by default.
    """

    atlas: Path = field(default=Path())
    names: Path = field(default=Path())
    wide: bool = False
    warp: float = 1.0
    cache: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warp <= 1.5:
            raise UserError(f"The phantom's warp is {self.warp}; give 0 (the map as it is) to 1.5.")
