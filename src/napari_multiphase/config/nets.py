"""Sizes of backbones that methods share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_multiphase.config.base import Settings

Stretch = tuple[float, Annotated[float, Field(gt=0)]]
"""(centre, factor): (x - centre) * factor of x in [-1, 1]; organs differ by a few hundredths of a wide window."""


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


class ResidualUNet3DConfig(Settings):
    """DLTK's residual 3-D U-Net, see ``nets.residual_unet3d``."""

    widths: tuple[int, ...] = Field(default=(16, 32, 64, 128), min_length=2, max_length=7)
    """Channels per resolution, finest first; each step halves the grid. DLTK's default."""
    norm: Literal["batch", "instance"] = "batch"
    """Normalisation; DLTK: batch. "instance" is ours."""
    final_norm: bool = False
    """Normalise and activate before the classifier as well, as He et al. 2016 do and DLTK does not: without it large
    learning rates diverge. Ours."""

    @property
    def divisor(self) -> int:
        """Every side of a tile must be a multiple of this."""
        return 2 ** (len(self.widths) - 1)


class Fcn8sConfig(Settings):
    """FCN-8s on VGG-16, see ``nets.fcn8s``."""

    width_mult: float = Field(default=1.0, gt=0, le=1)
    """Share of VGG-16's channels in every layer. Simonyan and Zisserman 2015: 1 (less is for tests)."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """After each of the two layers that were fully connected. Long et al. 2015."""


class DeepLabConfig(Settings):
    """DeepLabv3+, see ``nets.deeplab``."""

    encoder: Literal["resnet50", "resnet101"] = "resnet50"
    """PaNN compares both."""
    width: int = Field(default=64, ge=2)
    """Channels of the encoder's stem; all its levels shrink with it. Chen et al. 2018 (less is for tests)."""
    output_stride: Literal[8, 16, 32] = 16
    """Chen et al. 2018."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Of the atrous spatial pyramid. Chen et al. 2018."""
    channels: int = Field(default=256, ge=1)
    """Of pyramid and decoder. Chen et al. 2018."""
    low_channels: int = Field(default=48, ge=1)
    """Of the projected low-level features. Chen et al. 2018."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """After the pyramid. Ours: none."""


class ResnetGeneratorConfig(Settings):
    """CycleGAN's translator of slices, see ``nets.translators.ResnetGenerator``."""

    width: int = Field(default=64, ge=1)
    """Channels of the first convolution; doubled at each of two halvings. Zhu et al. 2017."""
    blocks: int = Field(default=9, ge=0)
    """Residual blocks at a quarter of the size. Zhu et al. 2017: nine from 256 x 256 on."""
    in_channels: int = Field(default=3, ge=1)
    """Neighbouring slices read. PAPER 000: as many as its segmentors read."""
    out_channels: int = Field(default=3, ge=1)
    """Slices written, the middle ones of those read. Ours: all."""
    norm: Literal["instance", "none"] = "instance"
    """"instance" without learned scale (Zhu et al. 2017); "none" needs no statistics of the whole slice. Ours."""
    residual: bool = False
    """The output is a change of the input, none at the start. Ours; the papers: false."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """(z, y, x); each side of its input is a multiple of this, and 8 at least."""
        return (1, 4, 4)

    @property
    def context_vox(self) -> tuple[int, int, int]:
        """(z, y, x) whole slices beyond a slice that it depends on, where overlapping stacks are averaged."""
        return ((self.in_channels - 1) // 2 + (self.out_channels - 1) // 2, 0, 0)


class UNetGenerator3DConfig(Settings):
    """The 3-D U-Net translator of PAPER 003, see ``nets.translators.UNetGenerator3D``."""

    widths: tuple[int, ...] = Field(default=(16, 32, 64, 128), min_length=2, max_length=6)
    """Channels per resolution, finest first: three halvings (PAPER 003); the widths are ours."""
    norm: Literal["instance", "none"] = "instance"
    """"instance" (PAPER 003); "none" needs no statistics of the whole volume, ours."""
    residual: bool = False
    """The output is a change of the input, none at the start. Ours; the paper: false."""
    stretch: Stretch = (0.0, 1.0)
    """Of the intensities that the first convolution sees. Ours; the paper: none."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """(z, y, x); each side of its input is a multiple of this."""
        return (2 ** (len(self.widths) - 1),) * 3

    @property
    def context_vox(self) -> tuple[int, int, int]:
        """(z, y, x) voxels beyond a voxel that it depends on: 61 a side for three halvings."""
        halvings, reach = len(self.widths) - 1, 0
        for _ in range(halvings):  # up: three convolutions, then each voxel is one of a pair
            reach = (reach + 3 + 1) // 2
        for _ in range(halvings):  # down: two convolutions, then one of stride 2
            reach = 2 * (reach + 2) + 1
        return (reach + 2,) * 3


class PatchGanConfig(Settings):
    """A discriminator that judges patches, see ``nets.patchgan``."""

    axes: Literal[2, 3] = 3
    """Slices or volumes."""
    in_channels: int = Field(default=1, ge=1)
    """Of the image that is judged."""
    width: int = Field(default=32, ge=1)
    """Channels of the first convolution, doubled by each further one up to eightfold. Ours in 3-D; in 2-D 64 (Isola et
    al. 2017)."""
    halvings: Literal[1, 2, 3] = 3
    """Convolutions of stride 2: each judgement sees 16, 34 or 70 voxels a side (Isola et al. 2017: 70)."""
    norm: Literal["instance", "none"] = "instance"
    """"instance" (Isola et al. 2017) takes out how bright a whole image is, which "none" leaves in. Ours."""
    stretch: Stretch = (0.0, 1.0)
    """Of the intensities that the first convolution sees. Ours; the papers: none."""
    structures: bool = False
    """Beside the image it sees where each structure of the labels lies, and the image there: it need not find an aorta
    before it can tell that it is too dark. Ours; the papers: false."""

    @property
    def shown(self) -> int:
        """Channels of what it is given: the image's and, with `structures`, one of labels."""
        return self.in_channels + self.structures

    @property
    def least(self) -> int:
        """Voxels that a side must have for one judgement: its convolutions of stride 1 take one off each."""
        return 3 * 2**self.halvings
