"""What the session holds, as layers: scans when a study opens, results when a model has spoken. Additions are spread
over several turns of the event loop, so that the window keeps drawing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_multiphase.gui.layers import (
    add_confidence,
    add_image,
    add_labels,
    confidence_colormap,
    hidden_colormap,
    layers_of,
    ours,
    writable,
)
from napari_multiphase.gui.marks import SyntheticMark
from napari_multiphase.gui.private import apart, warm_results
from napari_multiphase.gui.session import Run, Session
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

TURN_MS = 15
"""Rest between two layer additions."""


class Show:
    """Keeps the viewer's layers in step with the session. One per viewer."""

    def __init__(self, session: Session, mark: SyntheticMark) -> None:
        self._session, self._mark = session, mark
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
            mine = {"kind": "ct", "phase": str(phase), "study": study.id, "opened": self._opened()}
            name = f"{session.title} {phase}"
            work.append(lambda v=volume, n=name, m=mine: add_image(viewer, v, n, window_hu, **m))  # type: ignore[misc]
        work.append(self._settle)
        session.bridge.in_turns(work, TURN_MS)

    def _opened(self) -> list[str]:
        return [str(path) for path in self._session.inputs]

    def _put_away(self, study_id: str) -> None:
        """Hide what belongs to other cases; scans opened from the same paths are replaced, results never removed."""
        viewer = self._session.viewer
        for layer in layers_of(viewer):
            if ours(layer).get("kind") == "ct" and ours(layer).get("opened") == self._opened():
                viewer.layers.remove(layer)
            elif ours(layer).get("study") != study_id:
                layer.visible = False

    def _settle(self) -> None:
        """Show the fused phase in front, the other beneath it and hidden; look at the middle."""
        session, study = self._session, self._session.study
        if study is None:
            return
        viewer = session.viewer
        if viewer.canvas.background_color_override is None:
            viewer.canvas.background_color_override = "black"  # CT is read on black, in a light window too
        for layer in layers_of(viewer, kind="ct", study=study.id):
            layer.visible = ours(layer)["phase"] == study.fused_phase
        grid = study.volumes[study.fused_phase].grid
        middle = tuple(o + s * (n // 2) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))
        viewer.dims.set_point(range(3), middle)
        viewer.reset_view()
        if not self._warmed:
            self._warmed = True
            session.bridge.later(TURN_MS, self._warm)
        else:
            session.bridge.changed.emit("shown")

    def _warm(self) -> None:
        bridge = self._session.bridge
        away = warm_results(self._session.viewer, confidence_colormap())
        self._mark.warm()
        steps = [lambda: None, away, self._mark.update, lambda: bridge.changed.emit("shown")]
        bridge.in_turns(steps, 2 * TURN_MS)

    # --- results -------------------------------------------------------------------------------------------------

    def _show_prediction(self) -> None:
        session, run, study = self._session, self._session.run, self._session.study
        if run is None or study is None:
            return
        prediction = run.prediction
        older = [layer for kind in ("labels", "confidence") for layer in layers_of(session.viewer, kind=kind)]
        work: list[Callable[[], object]] = [
            lambda old=layer: setattr(old, "visible", False)  # type: ignore[misc]
            for layer in older
            if layer.visible
        ]
        for phase, result in prediction.phases.items():
            grid = study.volumes[Phase(phase)].grid
            work += self._additions(run, study, str(phase), grid, result.labels, result.confidence)
        fused = (prediction.fused_grid, prediction.fused_labels, prediction.fused_confidence)
        work += self._additions(run, study, "fused", *fused)
        work += [
            lambda: self._reveal(run, "labels"),
            lambda: self._reveal(run, "confidence"),
            lambda: self._select(run),
        ]
        work.append(lambda: session.bridge.changed.emit("shown"))
        session.bridge.in_turns([part for step in work for part in apart(session.viewer, step)], TURN_MS)

    def _additions(
        self, run: Run, study: Study, phase: str, grid: Grid, labels: Any, confidence: Any
    ) -> list[Callable[[], object]]:
        """One step per layer that was asked for."""
        viewer, title = self._session.viewer, self._session.title
        mine: dict[str, Any] = {"phase": phase, "study": study.id, "run": run.number}
        if phase in study.volumes:
            mine["source"] = study.volumes[Phase(phase)].source.to_dict()
        else:
            mine["source"] = study.volumes[study.fused_phase].source.to_dict()

        def add_label_layer() -> None:
            layer = add_labels(viewer, writable(labels), grid, f"{title} {phase} labels", kind="labels", **mine)
            self._watch(layer)
            if self._session.hidden:
                layer.colormap = hidden_colormap(self._session.hidden)

        def add_confidence_layer() -> None:
            name = f"{title} {phase} confidence"
            add_confidence(viewer, writable(confidence), grid, name, kind="confidence", **mine)

        steps: list[Callable[[], object]] = []
        if ("fused" if phase == "fused" else "labels") in run.outputs:
            steps.append(add_label_layer)
            if "confidence" in run.outputs:
                steps.append(add_confidence_layer)
        return steps

    def _results(self, run: Run, kind: str) -> list[Layer]:
        """The fused result's layer of this kind, or the last one where no fused result was asked for."""
        mine = layers_of(self._session.viewer, run=run.number, kind=kind)
        return [layer for layer in mine if ours(layer)["phase"] == "fused"] or mine[-1:]

    def _reveal(self, run: Run, kind: str) -> None:
        for layer in self._results(run, kind):
            layer.visible = True

    def _select(self, run: Run) -> None:
        for layer in self._results(run, "labels"):
            self._session.viewer.layers.selection.active = layer

    def _watch(self, layer: Labels) -> None:
        """Notice the user's own painting: what was painted is never re-fused away."""
        layer.events.paint.connect(lambda _event, m=layer.metadata["multiphase"]: m.update(edited=True))

    def _apply_hidden(self) -> None:
        colormap = hidden_colormap(self._session.hidden)
        for layer in layers_of(self._session.viewer, kind="labels"):
            layer.colormap = colormap
