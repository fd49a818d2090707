"""Instance normalisation whose statistics may be those of a whole volume while the network sees a part of it.

y = (x - mean) / sqrt(variance + eps) per item and channel, without affine parameters, as the generators of CycleGAN
have it (Ulyanov et al. 2016). Tile by tile that would give every tile a brightness of its own. `Moments` therefore
gathers a layer's count, mean and squares over the parts that tiles own, and `InstanceNorm.use` normalises by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Part = tuple[tuple[int, int, int], ...]
"""Per axis after the channel (start, stop, size): voxels start to stop of the `size` that the network was given."""


class Gathered(Exception):
    """A layer took what it was asked for: the rest of the forward pass need not run."""


class Moments:
    """Count, mean and variance (biased) per channel of values that come part by part; merged in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros(0, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """All values of (B, C, ...), items alike (the merging is that of Chan, Golub and LeVeque 1983)."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = x.float() if x.dtype.itemsize < 4 else x
        variance, mean = (t.cpu().double() for t in torch.var_mean(wide, axes, correction=0))
        count = x.numel() // x.shape[1]
        if not self.count:
            self.count, self.mean, self._squares = count, mean, variance * count
            return
        total = self.count + count
        apart = mean - self.mean
        self._squares = self._squares + variance * count + apart * apart * (self.count * count / total)
        self.mean, self.count = self.mean + apart * (count / total), total

    @property
    def variance(self) -> Tensor:
        """(C,) float64, divided by the count."""
        return self._squares / self.count


class InstanceNorm(nn.Module):
    """(B, C, ...) -> the same shape; equal to torch's ``InstanceNorm2d`` and ``InstanceNorm3d`` without affine.

    Has no parameters and no buffers. Each layer must run once in a forward pass.

    Raises
    ------
    ValueError : the input has one value per channel, which has no variance.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self._given: Moments | None = None
        self._gather: tuple[Moments, Part] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._gather is not None:
            moments, part = self._gather
            moments.add(x[_index(part, x.shape[2:])])
            raise Gathered
        if self._given is None:
            return F.instance_norm(x, eps=self.eps)
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        mean, variance = (t.to(x.device, kind) for t in (self._given.mean, self._given.variance))
        return F.batch_norm(x, mean, variance, eps=self.eps)

    @contextmanager
    def gathering(self, moments: Moments, part: Part) -> Iterator[None]:
        """Within: `forward` adds to `moments` what it is given of `part`, then raises `Gathered`, which ends here."""
        self._gather = moments, part
        try:
            yield
        except Gathered:
            pass
        finally:
            self._gather = None

    def use(self, moments: Moments | None) -> None:
        """Normalise by these statistics from now on; None: by the input's own again."""
        self._given = moments

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"


def norms_of(net: nn.Module) -> list[InstanceNorm]:
    """The instance normalisations in a network."""
    return [layer for layer in net.modules() if isinstance(layer, InstanceNorm)]


def _index(part: Part, shape: torch.Size) -> tuple[slice, ...]:
    """Where `part` of the input lies on (B, C, *shape), a map that strides have made smaller."""
    inside = (slice(a * n // of, b * n // of) for (a, b, of), n in zip(part, shape, strict=True))
    return slice(None), slice(None), *inside
