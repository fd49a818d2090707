"""What a voxel's surroundings look like, whatever the contrast: self-similarity (MIND-SSC).

Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
MICCAI 2013. Contrast medium changes how bright an artery is, not where its neighbourhood is alike and where it is not.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

CHANNELS = 12
CLIP_HU = (-1000.0, 300.0)
"""Vessels of the lung and bowel gas count; bone, metal and bright vessels do not drown the rest."""
NOISE_HU = 5.0
_DIAGONALS = tuple((i, j, sign) for i, j in ((0, 1), (0, 2), (1, 2)) for sign in (1, -1))
"""Axes i and j, and the sign of the step along j: the six ways from a face neighbour to another, but for the sense."""


def describe(hu: Tensor) -> Tensor:
    """MIND-SSC (12, D, H, W) of CT (D, H, W) in HU: clipped, and blind to differences far below the noise."""
    return self_similarity(hu.clamp(*CLIP_HU), noise=NOISE_HU)


def self_similarity(image: Tensor, noise: float = 0.0) -> Tensor:
    """MIND-SSC of `image` (D, H, W): (12, D, H, W) in (0, 1].

    Channel c compares two of the six face neighbours that are not opposite each other: D_c is the mean squared
    difference of the 3 x 3 x 3 patches around them, and the channel is exp(-(D_c - min D) / V), V the mean of all
    D_c at that voxel, at least `noise` squared (in the image's unit).
    """
    padded = functional.pad(image[None, None], [3] * 6, mode="replicate")[0, 0]
    out = image.new_empty((CHANNELS, *image.shape))
    for number, (i, j, sign) in enumerate(_DIAGONALS):
        # From the neighbour at -1 along i to the one at +sign along j; the same step leads from -sign along j to +1
        # along i, so two channels are two shifts of one array. What `roll` brings round stays in the margin.
        patches = _patches(padded - padded.roll((-1, -sign), (i, j)))
        _shifted(patches, i, -1, out[2 * number])
        _shifted(patches, j, -sign, out[2 * number + 1])
    spread = out.mean(dim=0).clamp_min(max(noise**2, 1e-6))
    return out.sub_(out.amin(dim=0)).div_(-spread).exp_()


def _patches(difference: Tensor) -> Tensor:
    """Mean of the squares in the 3 x 3 x 3 voxels around each voxel but the outermost."""
    out = difference**2
    for axis in range(3):
        count = out.shape[axis] - 2
        out = out.narrow(axis, 0, count) + out.narrow(axis, 1, count) + out.narrow(axis, 2, count)
    return out.div_(27.0)


def _shifted(patches: Tensor, axis: int, step: int, out: Tensor) -> None:
    """Into `out` (D, H, W): `patches`, two voxels wider on each side, one `step` further along `axis`."""
    for k, count in enumerate(out.shape):
        patches = patches.narrow(k, 2 + (step if k == axis else 0), count)
    out.copy_(patches)
