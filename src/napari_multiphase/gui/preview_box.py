"""The preview: the slice on screen as the model would make it beside the real one, following the scrolling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import heading, row, toggle, wrapped
from napari_multiphase.gui.layers import layers_of
from napari_multiphase.gui.preview import PreviewFeed, SlicePair
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.results import as_sentence
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.translating import Result
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.model import Model
from napari_multiphase.volume import Phase


class PreviewBox(QWidget):
    """Follows the viewer's slice while it is seen.

    Parameters
    ----------
    options : what the jobs are given.
    result_of : the whole volume's result of a phase, or None: the preview says how far it is from it.

    Attributes
    ----------
    seen : whether its dock is in front; behind another tab Qt calls a widget visible too.
    """

    def __init__(
        self, session: Session, options: Callable[[], Any], result_of: Callable[[Phase], Result | None]
    ) -> None:
        super().__init__()
        self._session, self._options, self._result_of = session, options, result_of
        self._to = Phase.VENOUS
        self._model: Model | None = None
        self._found: dict[str, Any] = {}
        self.seen = True
        self.feed = PreviewFeed(session, self._show_preview, self._no_preview)
        self.live = toggle("Live", "Translate the slice on screen while you scroll")
        self.live.setChecked(not recall("no_live_preview", False))
        self.live.toggled.connect(self._toggle_live)
        self.slices, self.caption = SlicePair(), wrapped(faint=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row(heading("This slice"), QWidget(), self.live, stretch=1))
        layout.addWidget(self.slices)
        layout.addWidget(self.caption)
        self._follow()

    def _follow(self) -> None:
        """Ask for a preview with every slice that is scrolled to, as long as this box is there."""
        dims = self._session.viewer.dims

        def scrolled(_event: Any = None) -> None:
            self.ask()

        dims.events.point.connect(scrolled)
        self.destroyed.connect(lambda: dims.events.point.disconnect(scrolled))

    def use(self, to: Phase, model: Model | None) -> None:
        """Preview phase `to` by `model` from now on; what another one made is not shown for it, nor measured."""
        if to is not self._to or model != self._model:
            self.clear()
        self._to, self._model = to, model
        self.ask()

    def clear(self) -> None:
        """Another study is open."""
        self.feed.forget()
        self._found = {}
        self.slices.clear()
        self.caption.setText("")

    def ask(self) -> None:
        """Ask for the slice on screen, where there is someone to see it."""
        session, model, to = self._session, self._model, self._to
        study, dims = session.study, session.viewer.dims
        if study is None or to.other not in study.volumes:
            self.clear()
            return
        if model is None or not self.live.isChecked() or not (self.seen and self.isVisible()) or dims.ndim != 3:
            return
        grid = study.volumes[to.other].grid
        index = round((dims.point[0] - grid.origin_mm[0]) / grid.spacing_mm[0])
        if not 0 <= index < grid.shape[0]:
            self.caption.setText(f"The {to.other} scan does not reach this slice.")
            return
        params = {"study": study, "to": to, "model": model, "slice": index, "options": self._options()}
        self.feed.want((study.id, session.revision, to, model.card.weights_sha256, index), params)
        if self.feed.busy and self.feed.shown is None:
            self.caption.setText("Loading the model, then this slice...")

    def _show_preview(self, found: dict[str, Any], seconds: float) -> None:
        study, to = self._session.study, self._to
        if study is None or to.other not in study.volumes:
            return
        shown = layers_of(self._session.viewer, kind="ct", study=study.id)
        low, high = shown[-1].contrast_limits if shown else current_window(self._session)
        self.slices.show_slices(found, to.other, to, (low, high))
        self._found = found
        self.tell()
        self.caption.setToolTip(f"Shown {seconds:.1f} s after it was asked for")

    def tell(self) -> None:
        """Say which slice is shown, and how near it is to the whole volume."""
        study = self._session.study
        if self._found and study is not None and self._to.other in study.volumes:
            of = study.volumes[self._to.other].shape[0]
            self.caption.setText(f"Slice {self._found['index'] + 1} of {of}. {self._approximate(self._found)}")

    def _approximate(self, found: dict[str, Any]) -> str:
        """How near the preview is to the whole volume: measured, once that is there."""
        result = self._result_of(self._to)
        if result is not None and self._model is not None and result.translation.model_name == self._model.card.name:
            y0, y1, x0, x1 = found["box"]
            whole = result.translation.image[found["index"], y0:y1, x0:x1].astype(int)
            apart = abs(found["synthetic"].astype(int) - whole)
            return f"Differs from the whole volume by {apart.mean():.1f} HU on average, {apart.max()} HU at most."
        return "" if found["exact"] else "Approximate: only a slab of the scan was translated."

    def _no_preview(self, sentence: str) -> None:
        if sentence:
            self.caption.setText(as_sentence(f"No preview: {sentence}"))

    def _toggle_live(self, on: bool) -> None:
        remember("no_live_preview", not on)
        self.ask()
