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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from napari_multiphase.config import PcnConfig, RunConfig, Traits, method_config
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss
from napari_multiphase.methods.base import Batch, Draw, Method, Objective, Stage, Turn
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

    config: PcnConfig
    nets: nn.Module

    @property
    def traits(self) -> Traits:
        """As of the settings."""
        return self.config.traits

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        """(B, 1, d, h, w) in [-1, 1] -> (B, K, d, h, w)."""
        return self.nets[phase.value](x)  # type: ignore[index]

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        """The only member's means."""
        return means[0]


# --- objective -----------------------------------------------------------------------------------------------------


class PcnObjective(Objective):
    """What is optimised in each stage: L_seg(f(X), Y) of the phase's own segmentor, lambda = 1 in Eq. 4."""

    def __init__(self, config: PcnConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.nets = PcnSegmentors(config, classes)
        self.seg_loss = DiceCrossEntropyLoss()

    # --- stages ---

    def stages(self) -> Sequence[Stage]:
        """The common start, then each phase's own segmentor."""
        own = replace_lr(self.config, self.config.phase_lr_factor)
        return [
            _stage("shared", self.config.shared_steps, self.config, tuple(Phase), "arterial"),
            *(_stage(phase.value, self.config.phase_steps, own, (phase,), phase.value) for phase in Phase),
        ]

    def begin(self, stage: Stage, draw: Callable[[int], Batch]) -> None:
        """The venous segmentor starts from where the shared stage left the common one."""
        if stage.name == "arterial" and self.config.shared_steps:
            self.nets["venous"].load_state_dict(self.nets["arterial"].state_dict())  # type: ignore[index]

    def terms(self, stage: Stage, turn: Turn, batch: Batch) -> dict[str, Tensor]:
        """L_seg of the segmentor that trains, cross-entropy and soft Dice apart."""
        segmentor = "arterial" if stage.name == "shared" else stage.name
        return self.seg_loss(self.nets[segmentor](batch.x[batch.phase]), batch.y[batch.phase])  # type: ignore[index]


def replace_lr(config: PcnConfig, factor: float) -> PcnConfig:
    """`config` with the learning rate times `factor`."""
    optimiser = config.optimiser.model_copy(update={"lr": config.optimiser.lr * factor})
    return config.model_copy(update={"optimiser": optimiser})


def _stage(name: str, steps: int, config: PcnConfig, phases: tuple[Phase, ...], segmentor: str) -> Stage:
    turn = Turn("segmentor", (f"nets.{segmentor}",), config.optimiser)
    return Stage(name, steps, (turn,), Draw("single", phases, augment=config.augment))


def objective(run: RunConfig) -> PcnObjective:
    """The objective of a training run, freshly initialised."""
    return PcnObjective(method_config("pcn", run.method_config), classes=len(run.labels))


def _summary(config: PcnConfig) -> str:
    return "PCN's segmentors, one 3-D U-Net per phase, fused by the phase weight. No translation branch."


METHOD = Method("pcn", nets=PcnSegmentors, segmentor=PcnSegmentor, objective=objective, summary=_summary)
