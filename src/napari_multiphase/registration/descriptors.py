"""What a voxel's surroundings look like, whatever the contrast: self-similarity (MIND-SSC).

Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
MICCAI 2013. Contrast medium changes how bright an artery is, not where its neighbourhood is alike and where it is not.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS = 12
CLIP_HU = (-200.0, 300.0)
NOISE_HU = 12.0
_FACES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
_PAIRS = tuple((a, b) for a, b in combinations(_FACES, 2) if sum((i - j) ** 2 for i, j in zip(a, b, strict=True)) == 2)


def describe(hu: Tensor) -> Tensor:
    """MIND-SSC (12, D, H, W) of CT (D, H, W) in HU: clipped, and blind to differences far below the noise."""
    return self_similarity(hu.clamp(*CLIP_HU), noise=NOISE_HU)


def self_similarity(image: Tensor, noise: float = 0.0) -> Tensor:
    """MIND-SSC of `image` (D, H, W): (12, D, H, W) in (0, 1].

    Channel c compares two of the six face neighbours that are not opposite each other: D_c is the mean squared
    difference of the 3 x 3 x 3 patches around them, and the channel is exp(-(D_c - min D) / V), V the mean of all
    D_c at that voxel, at least `noise` squared (in the image's unit).
    """
    distances = torch.stack([_patches(_shifted(image, a) - _shifted(image, b)) for a, b in _PAIRS])
    spread = distances.mean(dim=0).clamp_min(max(noise**2, 1e-6))
    return torch.exp(-(distances - distances.amin(dim=0)) / spread)


def _patches(difference: Tensor) -> Tensor:
    """Mean of the squares in the 3 x 3 x 3 voxels around each voxel, edge values beyond the ends."""
    padded = functional.pad(difference[None, None] ** 2, [1] * 6, mode="replicate")
    return functional.avg_pool3d(padded, 3, stride=1)[0, 0]


def _shifted(image: Tensor, step: tuple[int, ...]) -> Tensor:
    padded = functional.pad(image[None, None], [1] * 6, mode="replicate")[0, 0]
    for axis, s in enumerate(step):
        padded = padded.narrow(axis, 1 + s, image.shape[axis])
    return padded
