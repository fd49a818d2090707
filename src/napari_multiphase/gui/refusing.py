"""The slider's work: the slice in view is fused anew at once, the whole volume in the worker when the slider rests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.layers import layers_of, ours, writable
from napari_multiphase.gui.session import Run, Session
from napari_multiphase.imaging.fusion import carry, fuse
from napari_multiphase.study import PhaseTransform, Prediction, Study, TwoBest
from napari_multiphase.volume import Grid, Phase

if TYPE_CHECKING:
    from napari.layers import Layer


def can_mix(run: Run | None) -> bool:
    """Whether two phases were segmented apart, so that their share in the fused result can be chosen."""
    return run is not None and len(run.prediction.phases) == 2 and not run.prediction.one_map


def plane_grid(grid: Grid, axis: int, index: int) -> Grid:
    """The part of `grid` that is one voxel thick along `axis`, at `index`."""
    return grid.part(axis, index, index + 1)


def _plane(best: TwoBest, axis: int, index: int) -> TwoBest:
    cut: list[Any] = [slice(None)] * 3
    cut[axis] = slice(index, index + 1)
    key = tuple(cut)
    return TwoBest(best.first[key], best.second[key], best.p_first[key], best.p_second[key])


def fuse_plane(
    prediction: Prediction, study: Study, axis: int, index: int, weight: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and confidence of one plane of the fused grid, one voxel thick along `axis`."""
    best = {phase: result.two_best for phase, result in prediction.phases.items()}
    whole, other = best[Phase.VENOUS], best[Phase.ARTERIAL]
    assert whole is not None and other is not None
    venous = _plane(whole, axis, index)
    through = (study.transform or PhaseTransform.identity()).into(Phase.ARTERIAL)
    to_grid = plane_grid(prediction.fused_grid, axis, index)
    arterial_grid = study.volumes[Phase.ARTERIAL].grid
    arterial = carry(other, arterial_grid, to_grid, through)
    return fuse(arterial, venous, weight)


class Refusing:
    """Follows the slider for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: float | None = None
        self._study: Study | None = None
        session.bridge.changed.connect(self._on_change)

    def _on_change(self, topic: str) -> None:
        session, before = self._session, self._study
        if topic == "prediction":
            # The study as it was when the model ran: its transform is the one that was fused with.
            self._study = session.study
        elif topic == "transform" and session.run is not None and before is not None:
            self._study = session.study  # registered anew: the same results, fused through what is in use now
            self.rest(session.phase_weight)

    def _layers(self, run: Run) -> list[Layer]:
        return layers_of(self._session.viewer, run=run.number, phase="fused")

    def move(self, weight: float) -> None:
        """Fuse the slice in view with `weight` and show it."""
        session, run, study = self._session, self._session.run, self._study
        session.set_weight(weight)
        if run is None or study is None or not can_mix(run):
            return
        viewer = session.viewer
        if viewer.dims.ndisplay != 2 or viewer.dims.ndim != 3:
            return
        axis = int(viewer.dims.not_displayed[0])
        grid = run.prediction.fused_grid
        index = round((viewer.dims.point[axis] - grid.origin_mm[axis]) / grid.spacing_mm[axis])
        if not 0 <= index < grid.shape[axis]:
            return
        labels, confidence = fuse_plane(run.prediction, study, axis, index, weight)
        cut: list[Any] = [slice(None)] * 3
        cut[axis] = slice(index, index + 1)
        for layer in self._layers(run):
            if not ours(layer).get("edited"):
                layer.data[tuple(cut)] = labels if ours(layer)["kind"] == "labels" else confidence
                layer.refresh()

    def rest(self, weight: float) -> None:
        """Fuse the volume with `weight`, in the worker; only the newest request counts."""
        run, study = self._session.run, self._study
        if run is None or study is None or not can_mix(run):
            return
        self._pending = weight
        params = {"prediction": run.prediction, "study": study, "phase_weight": weight}
        self._session.quietly("fuse", params, lambda result: self._fused(run, weight, result), priority=5)

    def _fused(self, run: Run, weight: float, prediction: Prediction | None) -> None:
        if prediction is None or run is not self._session.run or weight != self._pending:
            return
        run.prediction = prediction
        for layer in self._layers(run):
            if not ours(layer).get("edited"):
                labels = ours(layer)["kind"] == "labels"
                layer.data = writable(prediction.fused_labels if labels else prediction.fused_confidence)
        self._session.bridge.changed.emit("refused")
