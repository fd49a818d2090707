"""Settings that several methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["auto", "cpu", "cuda", "mps"]


class Settings(BaseModel):
    """A frozen group of settings; an unknown field is an error, a field's docstring is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Rounds:
    """How a coarse result is refined (RSTN, PAPER 000).

    Attributes
    ----------
    most : rounds after the coarse one.
    stop_dice : of two masks in a row; from there on nothing changes much.
    least_part : connected parts of the mask below this share of the largest one are dropped.
    """

    most: int = 10
    stop_dice: float = 0.95
    least_part: float = 0.5


@dataclass(frozen=True)
class Traits:
    """What the engine must know of a method before any weight is loaded.

    Attributes
    ----------
    reads : "each": one phase at a time, input (B, 1, d, h, w). "pair": both phases on the venous grid, input
        (B, 2, d, h, w), arterial first; one result, carried to the arterial grid.
    divisor : (z, y, x); each side of a tile is a multiple of it. 1 along z: slices do not see each other (but for
        `context_vox`), and Segment runs a few whole ones at a time.
    context_vox : slices that the network needs beyond either end of a tile (1 for stacks of three slices).
    members : networks whose mean probabilities are blended apart and then combined (HPN's union of two models).
    region : the method first finds the region it works in (URIM's liver), with a network of its own; its mask is
        appended to the input as a last channel, and only tiles that meet it are run.
    standardise : inputs are standardised by the whole clipped scan's mean and standard deviation (HPN).
    rounds : one structure, found from coarse to fine (RSTN): the networks run again and again, and see the last round's
        probability and mask as two further channels.
    branch_weight : of the first member, which sees the scan; the second sees an image of the other phase made from it
        (PCN). 1 where there is no such branch.
    least_patch_vox : (z, y, x) of a training patch; discriminators judge no smaller ones.
    """

    reads: Literal["each", "pair"] = "each"
    divisor: tuple[int, int, int] = (16, 16, 16)
    context_vox: int = 0
    members: int = 1
    region: bool = False
    standardise: bool = False
    rounds: Rounds | None = None
    branch_weight: float = 1.0
    least_patch_vox: tuple[int, int, int] = (1, 1, 1)

    @property
    def synthetic(self) -> bool:
        """Whether a synthetic image is looked at as well."""
        return self.branch_weight < 1

    @property
    def in_volumes(self) -> bool:
        """Whether a tile is a volume that the networks see once, and not slices that do not see each other."""
        return self.divisor[0] > 1 and self.rounds is None

    @property
    def channels(self) -> int:
        """Of the networks' input, with what is appended to the images."""
        return (2 if self.reads == "pair" else 1) + self.region + 2 * (self.rounds is not None)


@dataclass(frozen=True)
class TranslatorTraits:
    """What Translate must know of a method's generators before any weight is loaded.

    Attributes
    ----------
    form : "volume": three-dimensional, run tile by tile; layers that normalise by instance do so by statistics of the
        whole volume. "slices": whole slices, a few at a time, each stack of slices normalised by itself.
    divisor : (z, y, x); each side of an input is a multiple of it. 1 along z for "slices".
    context_vox : (z, y, x) voxels around a tile's own part that decide what it becomes; they are cut off again.
    """

    form: Literal["volume", "slices"] = "volume"
    divisor: tuple[int, int, int] = (8, 8, 8)
    context_vox: tuple[int, int, int] = (0, 0, 0)


class OptimiserConfig(Settings):
    """One optimiser and its learning rate over a stage."""

    kind: Literal["sgd", "adam", "adamw"] = "adamw"
    """Which optimiser."""
    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam and AdamW only."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 for SGD and Adam, decoupled for AdamW."""
    schedule: Literal["constant", "poly", "steps", "one-cycle", "flat-linear"] = "one-cycle"
    """How `lr` runs over the steps of a stage: (1 - t)^power; a factor every `drop_every`; up over the first tenth and
    down along a cosine; flat for the first half, then linearly to 0."""
    power: float = 0.9
    """Of "poly"."""
    drop_every: int = Field(default=10_000, ge=1)
    """Steps between drops of "steps"."""
    drop_factor: float = Field(default=0.8, gt=0, le=1)
    """Factor of each drop of "steps"."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the gradient; 0 leaves it."""
    bias_factor: float = Field(default=1.0, gt=0)
    """Rate of biases over that of weights; other than 1, they are not decayed either (2 in Caffe's networks)."""


class AugmentConfig(Settings):
    """Random changes of a patch, alike for both phases and the labels where they move voxels."""

    share: float = Field(default=0.5, ge=0, le=1)
    """Share of patches that are rotated, scaled and shifted."""
    rotate_deg: tuple[float, float, float] = (12.0, 12.0, 12.0)
    """Largest angle about the z, y and x axis."""
    one_sided: bool = False
    """Angles from [0, largest] instead of [-largest, largest] (PaNN, as printed)."""
    scale: tuple[float, float] = (0.85, 1.18)
    """Smallest and largest factor, drawn per axis unless `isotropic`."""
    scales: tuple[float, ...] = ()
    """Draw the factor from these instead of from `scale` (PaNN's 0.75 to 1.75); in plane only for one-slice patches."""
    isotropic: bool = False
    """One factor for all axes."""
    shift_vox: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Largest shift along z, y, x."""
    gain: float = 0.1
    """HU are multiplied by 1 +- this, drawn per phase."""
    offset_hu: float = 20.0
    """HU are shifted by up to this, drawn per phase."""
    noise_hu: float = 10.0
    """Standard deviation of the half-normal draw of a patch's noise level."""
    blur_share: float = 0.3
    """Share of patches that are slightly blurred."""


NO_AUGMENT = AugmentConfig(share=0.0, gain=0.0, offset_hu=0.0, noise_hu=0.0, blur_share=0.0)
"""Patches as they are."""
