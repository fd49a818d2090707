"""The tumour network (PAPER 002, Sec. 3.1): streams, fusion with feedback, decoder, classifier, URIM."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_multiphase.config import UrimConfig
from napari_multiphase.methods.urim.encoders import Stream, conv_bn_relu, stream
from napari_multiphase.methods.urim.fusion import level_fusion, to_size
from napari_multiphase.methods.urim.inpainting import Urim

TUMOUR_CLASSES = 2


class Results(NamedTuple):
    """Logits (B, 2, H, W) of the liver without and with tumour; `final` is `initial` where nothing is inpainted."""

    initial: Tensor
    final: Tensor


class Streams(nn.Module):
    """Venous and arterial stacks (B, slices, H, W) -> the decoders' inputs: a list of B2 to B5 per decoder.

    With "sam", F^(m) = (F + F_aggr) / 2 goes into the next block of each stream; the other fusions leave the streams
    to themselves.
    """

    def __init__(self, config: UrimConfig) -> None:
        super().__init__()
        self.config = config
        joint = config.fusion == "ilf"
        alone = joint or config.fusion == "sp" or config.share_weights
        names = ("both",) if alone else ("venous", "arterial")
        in_channels = config.slices * (2 if joint else 1)
        self.streams = nn.ModuleDict({name: stream(config.encoder, in_channels) for name in names})
        per_level = config.fusion in ("mp", "mw", "pa", "sam")
        channels = config.encoder.channels if per_level else ()
        self.fusions = nn.ModuleList(level_fusion(config, width) for width in channels)

    def forward(self, venous: Tensor, arterial: Tensor) -> list[list[Tensor]]:
        match self.config.fusion:
            case "sp":
                return [self._alone("both", venous)]
            case "ilf":
                return [self._alone("both", torch.cat([venous, arterial], dim=1))]
            case "dlf":
                return [self._alone("venous", venous), self._alone("arterial", arterial)]
            case _:
                return [self._fused(venous, arterial)]

    def _stream(self, name: str) -> Stream:
        return self.streams[name if name in self.streams else "both"]  # type: ignore[return-value]

    def _alone(self, name: str, x: Tensor) -> list[Tensor]:
        features = []
        for block in self._stream(name).blocks():
            x = block(x)
            features.append(x)
        return features[1:]

    def _fused(self, venous: Tensor, arterial: Tensor) -> list[Tensor]:
        stem_venous, *venous_blocks = self._stream("venous").blocks()
        stem_arterial, *arterial_blocks = self._stream("arterial").blocks()
        venous, arterial = stem_venous(venous), stem_arterial(arterial)
        out = []
        for for_venous, for_arterial, fuse in zip(venous_blocks, arterial_blocks, self.fusions, strict=True):
            venous, arterial = for_venous(venous), for_arterial(arterial)
            aggregated = fuse(venous, arterial)
            out.append(aggregated)
            if self.config.fusion == "sam" and self.config.feedback:
                venous, arterial = feedback(venous, aggregated), feedback(arterial, aggregated)
        return out


def feedback(features: Tensor, aggregated: Tensor) -> Tensor:
    """F^(m) = (F + F_aggr) / 2."""
    return (features + aggregated) / 2


class Decoder(nn.Module):
    """Four levels (B, C_m, h_m, w_m) -> decision features (B, width, h_1, w_1) at the finest level's size."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv_bn_relu(c, width) for c in channels)
        self.merge = conv_bn_relu(len(channels) * width, width)

    def forward(self, levels: list[Tensor]) -> Tensor:
        size = levels[0].shape[2:]
        reduced = [to_size(r(level), size) for r, level in zip(self.reduce, levels, strict=True)]
        return self.merge(torch.cat(reduced, dim=1))


class TumourNet(nn.Module):
    """Masked stacks in [0, 1] of both phases (B, slices, H, W) -> `Results` for the centre slice."""

    def __init__(self, config: UrimConfig) -> None:
        super().__init__()
        self.config = config
        self.streams = Streams(config)
        decoders = 2 if config.fusion == "dlf" else 1
        self.decoders = nn.ModuleList(Decoder(config.encoder.channels, config.decoder) for _ in range(decoders))
        width = decoders * config.decoder
        self.classifier = nn.Conv2d(width, TUMOUR_CLASSES, 1)
        self.urim = Urim(width, TUMOUR_CLASSES, config.lc_convs, config.detach_conf) if config.inpainting else None

    def forward(self, venous: Tensor, arterial: Tensor) -> Results:
        size = venous.shape[2:]
        inputs = zip(self.decoders, self.streams(venous, arterial), strict=True)
        features = torch.cat([decoder(levels) for decoder, levels in inputs], dim=1)
        features = to_size(features, tuple(n // self.config.decision_stride for n in size))
        initial = self.classifier(features)
        final = initial if self.urim is None else self.urim(features, initial)
        return Results(to_size(initial, size), to_size(final, size))
