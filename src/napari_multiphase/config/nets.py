"""Sizes of backbones that methods share."""

from __future__ import annotations

from pydantic import Field

from napari_multiphase.config.base import Settings


class UNet3DConfig(Settings):
    """A residual 3-D U-Net, see ``nets.unet3d``."""

    widths: tuple[int, ...] = Field(default=(16, 32, 56, 80, 88), min_length=2, max_length=7)
    """Channels per resolution, finest first; each step halves the grid. Ours."""
    in_channels: int = Field(default=1, ge=1)
    """Images stacked as input. Ours."""

    @property
    def divisor(self) -> int:
        """Every side of a tile must be a multiple of this."""
        return 2 ** (len(self.widths) - 1)
