"""What the Translate dock asks for and gets: a synthetic image, its figures against the real scan, the S-score, files.

Draws nothing but layers. Every job goes through the session; what comes back for another study is left aside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_multiphase.gui.private import apart
from napari_multiphase.gui.remember import preference
from napari_multiphase.gui.session import Run, Session
from napari_multiphase.gui.show import TURN_MS
from napari_multiphase.gui.synthetic_layers import difference_steps, synthetic_steps
from napari_multiphase.model import Model
from napari_multiphase.study import Study, Translation
from napari_multiphase.volume import Phase

PREDICTION = "prediction"
Labels = Path | str | None
"""Which labels the figures use: those of the newest prediction (`PREDICTION`), of a file, or none."""


@dataclass
class Result:
    """One synthetic image of this study; `stale` says why its figures are not of what is open now."""

    number: int
    translation: Translation
    figures: dict[str, Any] | None = None
    labels_words: str = ""
    stale: str = ""


class Translating:
    """The newest synthetic image of each phase. `on_changed` is called whenever a result is there or changed."""

    def __init__(self, session: Session, on_changed: Callable[[], object]) -> None:
        self._session, self._on_changed = session, on_changed
        self._count = 0
        self.results: dict[Phase, Result] = {}

    def options(self) -> Any:
        """What was chosen in napari's preferences; the rest is the model's."""
        from napari_multiphase.config import TranslateOptions

        return TranslateOptions(device=preference("segment", "device", "auto"))

    def forget(self) -> None:
        """Another study is open."""
        self.results.clear()

    def outdated(self, why: str) -> None:
        """Figures that are there are no longer of what is open."""
        for result in self.results.values():
            if result.figures is not None:
                result.stale = why

    # --- translating ---------------------------------------------------------------------------------------------

    def translate(self, to: Phase, model: Model, labels: Labels) -> None:
        """Translate the volume; then, where the real scan is there, measure."""
        params = {"study": self._session.study, "to": to, "model": model, "options": self.options()}
        self._session.ask("translate", f"Translating to {to}", params, lambda made: self._translated(made, labels))

    def _translated(self, translation: Translation, labels: Labels) -> None:
        session, study = self._session, self._session.study
        if study is None or translation.study_id != study.id:
            return
        self._count += 1
        result = Result(self._count, translation)
        self.results[translation.to] = result
        self._on_changed()

        steps = synthetic_steps(session, study, translation, result.number)
        said = partial(session.bridge.changed.emit, "translated")
        self._show([*steps, said, lambda: self._measure_first(result, labels)])

    def _show(self, steps: list[Callable[[], object]]) -> None:
        """Layers come in turns of the event loop of their own, so that the window keeps drawing."""
        viewer = self._session.viewer
        self._session.bridge.in_turns([part for step in steps for part in apart(viewer, step)], TURN_MS)

    def _measure_first(self, result: Result, labels: Labels) -> None:
        if self._session.job is None and self._belongs(result):
            self.measure(result.translation.to, labels)

    def _belongs(self, result: Result) -> bool:
        study = self._session.study
        return study is not None and result is self.results.get(result.translation.to)

    # --- measuring -----------------------------------------------------------------------------------------------

    def measure(self, to: Phase, labels: Labels) -> None:
        """Figures against the real scan; a pair that nobody registered is registered first."""
        session, result = self._session, self.results.get(to)
        if result is None or session.study is None or to not in session.study.volumes:
            return
        if session.unregistered:
            session.register(then=lambda: self._compare(result, labels))
        else:
            self._compare(result, labels)

    def _compare(self, result: Result, labels: Labels) -> None:
        session, translation = self._session, result.translation
        run = self._run()
        maps: dict[Phase, Any] = {}
        words = ""
        if isinstance(labels, Path):
            maps, words = {translation.source: labels}, f"{labels.name}"
        elif labels == PREDICTION and run is not None:
            maps = {phase: found.labels for phase, found in run.prediction.phases.items()}
            words = f"what {run.prediction.model_name} found"
        params = {"study": session.study, "translation": translation, "labels": maps}
        title = f"Comparing with the real {translation.to} scan"
        session.ask(
            "compare_translation", title, params, lambda told: self._compared(result, told, words, maps, run)
        )  # fmt: skip

    def _compared(self, result: Result, told: Any, words: str, maps: dict[Phase, Any], run: Run | None) -> None:
        session, study = self._session, self._session.study
        if study is None or not self._belongs(result):
            return
        result.figures, difference = told
        result.labels_words, result.stale = words, ""
        steps = difference_steps(session, study, result.translation, result.number, difference)
        labels = maps.get(result.translation.source)
        if labels is not None:
            steps.append(lambda: self._judge(result, study, labels, run))
        self._show([self._on_changed, *steps])

    def _judge(self, result: Result, study: Study, labels: Any, run: Run | None) -> None:
        """The model of the labels judges where it can, the default one otherwise."""
        if self._session.job is not None or not self._belongs(result):
            return
        able = run is not None and not run.prediction.one_map and result.translation.to in run.prediction.phases
        judge = run.model if run is not None and able else None
        params = {"study": study, "translation": result.translation, "labels": labels, "judge": judge}
        self._session.ask(
            "judge_translation", "Measuring the S-score", params, lambda judged: self._judged(result, judged)
        )  # fmt: skip

    def _judged(self, result: Result, judged: dict[str, Any]) -> None:
        if result.figures is not None and self._belongs(result):
            result.figures = {**result.figures, "s_score": judged}
            self._on_changed()

    def _run(self) -> Run | None:
        """The newest prediction of this study."""
        session = self._session
        same = session.run is not None and session.study is not None
        return session.run if same and session.run.prediction.study_id == session.study.id else None  # type: ignore[union-attr]

    @property
    def predicted_by(self) -> str:
        """The model of the newest prediction; empty without one."""
        run = self._run()
        return run.prediction.model_name if run is not None else ""

    # --- files ---------------------------------------------------------------------------------------------------

    def save(self, to: Phase, folder: Path) -> None:
        """Write the image and its report, figures included, into `folder`, in the worker."""
        session, result = self._session, self.results[to]
        translation = result.translation
        if result.figures is not None and not result.stale:
            translation = replace(translation, report={**translation.report, "compared": result.figures})
        params = {"translation": translation, "study": session.study, "out": folder}
        session.ask("save_translation", f"Saving into {folder.name}", params, lambda paths: _saved(folder, paths))


def _saved(folder: Path, paths: list[Path]) -> None:
    from napari.utils.notifications import show_info

    show_info(f"Saved {' and '.join(path.name for path in paths)} into {folder}.")
