"""Losses of networks that compete: least-squares GAN, cycle consistency, and the history that a discriminator sees.

Implements:

* PAPER 000, Eq. 2, and PAPER 003, the adversarial term d -> ``discriminator_loss``, ``generator_loss``
* the same, the cycle term -> ``cycle_loss``
* Shrivastava et al. 2017, a history of generated images -> ``ImagePool``

Symbols: scores D(x) of any shape, real images wanted at 1, generated ones at 0; images (B, C, *sides).

Neither paper prints the adversarial term's form; as in CycleGAN (Zhu et al. 2017) it is LSGAN's (Mao et al. 2017), the
discriminator's half as heavy, and the L1 norms of the cycle are means, which their weight of 10 presumes. Means span
all processes and are taken in float32 under mixed precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_multiphase.losses.reduce import gathered, global_mean


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """1/2 [mean (D(x) - 1)^2 + mean D(x~)^2]; x~ is detached by the caller."""
    return (_mean_square(real_scores, 1) + _mean_square(fake_scores, 0)) / 2


def generator_loss(fake_scores: Tensor) -> Tensor:
    """mean (D(x~) - 1)^2."""
    return _mean_square(fake_scores, 1)


def cycle_loss(reconstructed: Tensor, original: Tensor) -> Tensor:
    """mean |G(G(x)) - x|, both in [-1, 1]."""
    return global_mean((_wide(reconstructed) - _wide(original)).abs())


def _mean_square(scores: Tensor, wanted: float) -> Tensor:
    return global_mean((_wide(scores) - wanted).square())


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x


class ImagePool(nn.Module):
    """The last `size` generated images, of fixed shape, so that a discriminator does not forget what it has seen.

    Until `size` images are stored, each image is stored and given back. Then a coin decides for each image: it is given
    back as it is, or one that is stored is given back in its place and the image stored instead.

    Every process holds the same history: images and the items' own choices are gathered, and all are taken in the order
    of the whole batch. So it does not matter how a batch is divided, and a checkpoint needs one process's buffers.

    Parameters
    ----------
    size : images; 50 in both papers' predecessor.
    shape : (C, *sides) of an image.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, images: Tensor, draws: Iterator[torch.Generator]) -> Tensor:
        """`images` (B, C, *sides) of this process -> as many, detached; `draws` is a generator per image
        (``methods.base.Batch.draws``)."""
        size, stored = len(self.images), int(self.count)
        choices = torch.stack([torch.rand(2, generator=draw) for _, draw in zip(images, draws, strict=True)])
        whole, first = gathered(images.to(self.images))
        coins, places = gathered(choices.to(images.device))[0].cpu().T.tolist()
        given = whole.clone()
        for item, (coin, place) in enumerate(zip(coins, places, strict=True)):
            if stored < size:
                self.images[stored] = whole[item]
                stored += 1
            elif coin < 0.5:
                index = int(place * size)
                given[item] = self.images[index]
                self.images[index] = whole[item]
        self.count.fill_(stored)
        return given[first : first + len(images)].to(images.dtype)
