"""PCN: Phase Collaborative Network for two-phase segmentation (PAPER 000).

Implements here, with the multi-class 3-D segmentor that the paper leaves open to replacement:

* Sec. 3, per-phase segmentors f_A and f_V -> ``PcnSegmentors``
* Sec. 1.4 of the specification, fused prediction at the level of probabilities -> ``imaging.fusion``

Symbols: X_A, X_V are images (B, 1, D, H, W) of the arterial and venous phase, clipped to ``window_hu`` and mapped to
[-1, 1]; f_A(X_A), f_V(X_V) are logits (B, K, D, H, W).

Deviations: one multi-class residual 3-D U-Net per phase instead of the binary RSTN per target (the paper leaves the
segmentation module open); cross-entropy plus soft Dice instead of soft Dice alone (24 exclusive classes); the
translation modules G_AV, G_VA and the collaborative objective of Eq. 4 are not part of this file yet.
What the paper leaves open and what we took: both segmentors start from one that has seen both phases (the ``shared``
stage).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_multiphase.config import PcnConfig, RunConfig, method_config
from napari_multiphase.io.weights import read_weights
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss
from napari_multiphase.methods.base import Method, Stage
from napari_multiphase.model import Model
from napari_multiphase.nets.unet3d import UNet3D
from napari_multiphase.volume import Phase

# --- network -------------------------------------------------------------------------------------------------------


class PcnSegmentors(nn.ModuleDict):
    """f_A and f_V: ``{"arterial": UNet3D, "venous": UNet3D}``, each with its own weights."""

    def __init__(self, config: PcnConfig, classes: int) -> None:
        super().__init__({phase.value: UNet3D(config.segmentor, classes) for phase in Phase})


@dataclass(frozen=True)
class PcnSegmentor:
    """A trained PCN, ready to be run over tiles."""

    model: Model
    nets: PcnSegmentors
    divisor: int

    def logits(self, phase: Phase, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w); every side a multiple of `divisor`."""
        return self.nets[phase.value](x)


def load(model: Model, device: torch.device) -> PcnSegmentor:
    """The network of a model folder on `device`, in evaluation mode; UserError where weights and card disagree."""
    config: PcnConfig = method_config("pcn", model.card.config)
    with torch.device("meta"):
        nets = PcnSegmentors(config, classes=len(model.card.labels))
    expected = {name: tuple(p.shape) for name, p in nets.state_dict().items()}
    weights = read_weights(model, expected)
    nets.load_state_dict({name: torch.from_numpy(w).float() for name, w in weights.items()}, assign=True)
    return PcnSegmentor(model, nets.to(device).eval().requires_grad_(False), config.segmentor.divisor)


# --- objective -----------------------------------------------------------------------------------------------------


class PcnObjective(nn.Module):
    """What is optimised in each stage: L_seg(f(X), Y) of the phase's own segmentor, lambda = 1 in Eq. 4."""

    def __init__(self, config: PcnConfig, classes: int) -> None:
        super().__init__()
        self.nets = PcnSegmentors(config, classes)
        self.seg_loss = DiceCrossEntropyLoss()

    def terms(self, stage: Stage, phase: Phase, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Named loss terms for images x (B, 1, D, H, W) and channel indices y (B, D, H, W)."""
        return self.seg_loss(self.nets[stage.module or phase.value](x), y)

    def trainable(self, stage: Stage) -> Iterable[nn.Parameter]:
        """The parameters that `stage` trains; all others stay as they are."""
        return self.nets[stage.module].parameters()

    def begin(self, stage: Stage) -> None:
        """The venous segmentor starts from where the shared stage left the common one."""
        if stage.name == "arterial":
            self.nets["venous"].load_state_dict(self.nets["arterial"].state_dict())


# --- stages --------------------------------------------------------------------------------------------------------


def stages(run: RunConfig) -> Iterator[Stage]:
    """The common start, then each phase's own segmentor."""
    yield Stage("shared", run.shared_steps, tuple(Phase), module="arterial", learning_rate=1.0)
    for phase in Phase:
        yield Stage(phase.value, run.phase_steps, (phase,), module=phase.value, learning_rate=0.4)


def build(run: RunConfig) -> PcnObjective:
    """The objective of a training run, freshly initialised."""
    return PcnObjective(method_config("pcn", run.method_config), classes=len(run.labels))


METHOD = Method("pcn", load=load, build=build, stages=stages)
