"""PCN's networks, and how they are run: two branches for each phase, translation (PAPER 000, Sec. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_multiphase.config import PcnConfig, Traits, TranslatorTraits
from napari_multiphase.config.pcn import SLICES
from napari_multiphase.errors import UserError
from napari_multiphase.methods.pcn.rstn import Rstn
from napari_multiphase.nets.instance_norm import InstanceNorm, norms_of
from napari_multiphase.nets.stacks import stacks
from napari_multiphase.nets.translators import ResnetGenerator, UNetGenerator3D
from napari_multiphase.nets.unet3d import UNet3D
from napari_multiphase.volume import Phase

SURE = 1e-7
"""Probabilities are kept this far from 0 and 1, where they have a logarithm."""
BOTH = "both"

# --- networks ------------------------------------------------------------------------------------------------------


class PcnSegmentors(nn.ModuleDict):
    """f_A and f_V: ``{"arterial": ..., "venous": ...}``, each with its own weights; ``{"both": ...}`` if phases mix."""

    def __init__(self, config: PcnConfig, classes: int) -> None:
        if config.form == "rstn" and classes != 2:
            raise UserError(
                f"PCN's form rstn segments one target and was given {classes - 1}: give two labels, background and the "
                "target (0, 6), or form unet3d"
            )
        names = [BOTH] if config.mixed else [phase.value for phase in Phase]
        super().__init__(
            {name: Rstn(config.rstn) if config.form == "rstn" else UNet3D(config.segmentor, classes) for name in names}
        )

    def of(self, phase: Phase) -> nn.Module:
        """The segmentor of `phase`."""
        return self[self.name_of(phase)]

    def name_of(self, phase: Phase) -> str:
        """Its name here."""
        return BOTH if BOTH in self else phase.value


class PcnNets(PcnSegmentors):
    """The segmentors and, with translation, G_AV as ``to_venous`` and G_VA as ``to_arterial``."""

    def __init__(self, config: PcnConfig, classes: int) -> None:
        super().__init__(config, classes)
        if config.translation is not None:
            for phase in Phase:
                self[translator_name(phase)] = (
                    ResnetGenerator(config.translation.resnet)
                    if config.form == "rstn"
                    else UNetGenerator3D(config.translation.unet)
                )

    def translator(self, to: Phase) -> nn.Module:
        """The generator of phase `to`; only with translation."""
        return self[translator_name(to)]

    def translated(self, to: Phase, x: Tensor) -> Tensor:
        """Images of the other phase in [-1, 1] -> of phase `to`: (B, 3, H, W) in form "rstn", else (B, 1, D, H, W)."""
        return self.translator(to)(x)


def translator_name(to: Phase) -> str:
    """By its output's phase."""
    return f"to_{to.value}"


def unit(x: Tensor) -> Tensor:
    """[-1, 1], which translators write, -> [0, 1], which RSTN reads."""
    return (x + 1) / 2


# --- segmenting ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PcnSegmentor:
    """A trained PCN, ready to be run over tiles. Member 0 is f of the phase on the real image, member 1 the other
    phase's f on the synthetic image made from it."""

    config: PcnConfig
    nets: PcnNets

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """Form "unet3d": (B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w).

        Form "rstn": (B, 3, d + 4, h, w), the image and the last round's probability and mask -> (B, 2, d, h, w), what
        the fine network says.
        """
        net = self._net(phase, member)
        if not isinstance(net, Rstn):
            return net(self._seen(phase, member, x))
        images, p, masks = (stacks(x[:, channel], SLICES) for channel in range(3))
        out = torch.zeros_like(images, dtype=torch.float32)
        for n, mask in enumerate(masks):  # one by one: each has its own box, and whole slices are large
            box = net.testing_box(mask > 0.5)
            if box is not None:
                u = unit(self._seen(phase, member, images[n : n + 1]))
                out[n] = net.fine_logits(net.weighted(u, p[n : n + 1]), [box])[0].sigmoid()
        return _log_mean(out, len(x))

    def coarse_logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """Form "rstn": (B, 1, d + 4, h, w) in [-1, 1] -> (B, 2, d, h, w), what the coarse network says."""
        net, images = self._net(phase, member), stacks(x[:, 0], SLICES)
        assert isinstance(net, Rstn)
        seen = (unit(self._seen(phase, member, images[n : n + 1])) for n in range(len(images)))
        return _log_mean(torch.cat([net.coarse(u).float().sigmoid() for u in seen]), len(x))

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """Both branches' mean probabilities, the real one's weight being `branch_weight`."""
        if len(means) == 1:
            return means[0]
        return torch.lerp(means[1], means[0], self.config.branch_weight)

    def _net(self, phase: Phase, member: int) -> nn.Module:
        return self.nets.of(phase.other if member else phase)

    def _seen(self, phase: Phase, member: int, x: Tensor) -> Tensor:
        return self.nets.translated(phase.other, x) if member else x


def _log_mean(p: Tensor, batch: int) -> Tensor:
    """Probabilities of stacks (B (d + 2), 3, h, w) -> log-probabilities (B, 2, d, h, w) of the d slices that lie in
    three stacks each, of their means."""
    p = p.unflatten(0, (batch, -1))
    depth, last = p.shape[1] - SLICES + 1, SLICES - 1
    planes = [p[:, last - c : last - c + depth, c] for c in range(SLICES)]
    mean = torch.stack(planes).mean(0).clamp(SURE, 1 - SURE)
    return torch.stack([torch.log1p(-mean), mean.log()], dim=1)


# --- translating ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PcnTranslator:
    """PCN's generators, ready to be run over tiles."""

    config: PcnConfig
    nets: PcnNets

    @property
    def traits(self) -> TranslatorTraits:
        """As of the settings."""
        traits = self.config.translator_traits
        assert traits is not None
        return traits

    def translate(self, to: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> the same; in form "rstn" the middle slice of each stack."""
        if self.config.form == "unet3d":
            return self.nets.translated(to, x)
        images = stacks(F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")[:, 0], SLICES)
        middles = [self.nets.translated(to, one[None])[:, SLICES // 2] for one in images]
        return torch.cat(middles).unflatten(0, (len(x), -1))[:, None]

    def norms(self, to: Phase) -> Sequence[InstanceNorm]:
        """In form "unet3d" those of the generator, in the order in which they run."""
        if self.config.form == "rstn":
            return ()
        return norms_of(self.nets.translator(to))
