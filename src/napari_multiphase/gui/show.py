"""What the session holds, as layers: scans when a study opens, results when a model has spoken. Additions are spread
over several turns of the event loop, so that the window keeps drawing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_multiphase.gui.layers import (
    add_confidence,
    add_image,
    add_labels,
    hidden_colormap,
    hide,
    layers_of,
    ours,
    writable,
)
from napari_multiphase.gui.private import warm_labels
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.volume import Grid, Phase

if TYPE_CHECKING:
    from napari.layers import Labels

TURN_MS = 15
"""Rest between two layer additions."""


class Show:
    """Keeps the viewer's layers in step with the session. One per viewer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._warmed = False
        session.bridge.changed.connect(self._on_change)

    def _on_change(self, topic: str) -> None:
        if topic == "study":
            self._show_study()
        elif topic == "prediction":
            self._show_prediction()
        elif topic == "hidden":
            self._apply_hidden()

    # --- scans ---------------------------------------------------------------------------------------------------

    def _show_study(self) -> None:
        session, study = self._session, self._session.study
        assert study is not None
        viewer = session.viewer
        self._put_away(study.id)
        window_hu = current_window(session)
        work: list[Callable[[], object]] = []
        for phase in study.phases:
            volume = study.volumes[phase]
            mine = {"kind": "ct", "phase": str(phase), "study": study.id}
            name = f"{session.title} {phase}"
            work.append(lambda v=volume, n=name, m=mine: add_image(viewer, v, n, window_hu, **m))  # type: ignore[misc]
        work.append(self._settle)
        session.bridge.in_turns(work, TURN_MS)

    def _put_away(self, study_id: str) -> None:
        """Hide what belongs to other cases; scans of this study are replaced, its results stay where they are."""
        viewer = self._session.viewer
        for layer in layers_of(viewer):
            if ours(layer).get("study") == study_id and ours(layer).get("kind") == "ct":
                viewer.layers.remove(layer)
            elif ours(layer).get("study") != study_id:
                layer.visible = False

    def _settle(self) -> None:
        """Show the fused phase in front, the other beneath it and hidden; look at the middle."""
        session, study = self._session, self._session.study
        if study is None:
            return
        viewer = session.viewer
        for layer in layers_of(viewer, kind="ct", study=study.id):
            layer.visible = ours(layer)["phase"] == study.fused_phase
        grid = study.volumes[study.fused_phase].grid
        middle = tuple(o + s * (n // 2) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))
        viewer.dims.set_point(range(3), middle)
        viewer.reset_view()
        if not self._warmed:
            self._warmed = True
            session.bridge.later(TURN_MS, lambda: warm_labels(viewer))
        session.bridge.changed.emit("shown")

    # --- results -------------------------------------------------------------------------------------------------

    def _show_prediction(self) -> None:
        session, run, study = self._session, self._session.run, self._session.study
        if run is None or study is None:
            return
        viewer, prediction = session.viewer, run.prediction
        hide([*layers_of(viewer, kind="labels"), *layers_of(viewer, kind="confidence")])
        work: list[Callable[[], object]] = []

        def labels(data: Any, grid: Grid, phase: str, visible: bool) -> None:
            mine = {"kind": "labels", "phase": phase, "study": study.id, "run": run.number}
            layer = add_labels(viewer, writable(data), grid, f"{session.title} {phase} labels", **mine)
            layer.visible = visible
            self._watch(layer)

        def confidence(data: Any, grid: Grid, phase: str, visible: bool) -> None:
            mine = {"kind": "confidence", "phase": phase, "study": study.id, "run": run.number}
            layer = add_confidence(viewer, writable(data), grid, f"{session.title} {phase} confidence", **mine)
            layer.visible = visible

        for phase, result in prediction.phases.items():
            grid = study.volumes[Phase(phase)].grid
            if "labels" in run.outputs:
                work.append(lambda r=result, g=grid, p=phase: labels(r.labels, g, str(p), False))  # type: ignore[misc]
            if "confidence" in run.outputs:
                work.append(lambda r=result, g=grid, p=phase: confidence(r.confidence, g, str(p), False))  # type: ignore[misc]
        if "fused" in run.outputs:
            fused_grid = prediction.fused_grid
            work.append(lambda: labels(prediction.fused_labels, fused_grid, "fused", True))
            if "confidence" in run.outputs:
                work.append(lambda: confidence(prediction.fused_confidence, fused_grid, "fused", True))
        work.append(self._apply_hidden)
        work.append(lambda: session.bridge.changed.emit("shown"))
        session.bridge.in_turns(work, TURN_MS)

    def _watch(self, layer: Labels) -> None:
        """Notice the user's own painting: what was painted is never re-fused away."""
        layer.events.paint.connect(lambda _event, m=layer.metadata["multiphase"]: m.update(edited=True))

    def _apply_hidden(self) -> None:
        colormap = hidden_colormap(self._session.hidden)
        for layer in layers_of(self._session.viewer, kind="labels"):
            layer.colormap = colormap
