"""The Translate dock: one phase made from the other, slice by slice while scrolling, then the whole volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QButtonGroup, QFileDialog, QPushButton

from napari_multiphase.gui.dock_parts import allow, button, heading, row, toggle, wrapped
from napari_multiphase.gui.job_parts import JobParts
from napari_multiphase.gui.model_picker import ModelPicker
from napari_multiphase.gui.model_sharing import MODEL_TASKS
from napari_multiphase.gui.preview_box import PreviewBox
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.results import plan_in_words
from napari_multiphase.gui.seen_dock import SeenDock
from napari_multiphase.gui.session import get_session
from napari_multiphase.gui.translating import Translating
from napari_multiphase.gui.translation_results import TranslationResults
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    import napari

    from napari_multiphase.model import Model, ModelCard

_TRANSLATE_TIP = "Make the whole synthetic image, as a new layer (Ctrl+Shift+L)"
_SAVE_TIP = "Write the image and a report to a folder, on exactly the grid of the scan it was made from"
_SHOWN = ("register", "translate", "compare_translation", "judge_translation", "save_translation", *MODEL_TASKS)
"""Jobs whose progress and failures this dock tells."""
_UNFIT = "this model does not translate between the phases; choose one that does, such as csgan-phantom"


def _translates(card: ModelCard) -> bool:
    from napari_multiphase.io.models import translates

    return translates(card)


class TranslateDock(SeenDock):
    """From one phase to the other."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(get_session(napari_viewer))
        self.model: Model | None = None
        self.translating = Translating(self.session, self._arrived)
        self._build()
        self.body.addStretch(1)
        jobs = JobParts(self, self.session, _SHOWN, failures=("model",))
        self.error, self.progress = jobs.error, jobs.progress
        self.translate = button("Translate volume", self._translate, _TRANSLATE_TIP)
        self.translate.setShortcut("Ctrl+Shift+L")
        self.save = button("Save image...", self._ask_save, _SAVE_TIP)
        self.footer.addWidget(self.error)
        self.footer.addWidget(self.progress)
        self.footer.addLayout(row(self.translate, self.save, stretch=0))
        self.session.bridge.changed.connect(self._on_change)
        self._on_change("study")

    def _build(self) -> None:
        self.empty = wrapped("Open a study first: one of its scans is translated into the other phase here.")
        self.go_open = button("Open a study", self._show_study_dock, "Go to the Study dock")
        self.body.addWidget(self.empty)
        self.body.addWidget(self.go_open)
        self.body.addWidget(heading("Direction"))
        self.directions: dict[Phase, QPushButton] = {}
        group = QButtonGroup(self)
        for to in reversed(Phase):
            choice = toggle(f"{to.other.capitalize()} to {to}", "")
            choice.clicked.connect(lambda _checked=False: self._turned())
            group.addButton(choice)
            self.directions[to] = choice
        self.body.addLayout(row(*self.directions.values()))
        self.body.addWidget(heading("Model"))
        self.picker = ModelPicker(
            self.session, self._use, key="translator", tip="The model that translates", only=_translates,
            unfit=_UNFIT, eager=False,
        )  # fmt: skip
        self.body.addWidget(self.picker)
        self.preview = PreviewBox(self.session, self.translating.options, self.translating.results.get)
        self.body.addWidget(self.preview)
        self.plan_title, self.plan = heading("Whole volume"), wrapped()
        self.body.addWidget(self.plan_title)
        self.body.addWidget(self.plan)
        self.results = TranslationResults(self.session, self.translating, lambda: self.to)
        self.body.addWidget(self.results)

    # --- what the user does --------------------------------------------------------------------------------------

    @property
    def to(self) -> Phase:
        """The phase that is made."""
        return next((to for to, choice in self.directions.items() if choice.isChecked()), Phase.VENOUS)

    def _turned(self) -> None:
        self._ask_plan()
        self.preview.use(self.to, self.model)
        self._fill_results()

    def _use(self, model: Model) -> None:
        self.model = model
        self._turned()

    def _translate(self) -> None:
        assert self.model is not None
        self.translating.translate(self.to, self.model, self.results.chosen_labels())

    def _ask_save(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Save the image into a folder", recall("last_out", ""))
        if chosen:
            remember("last_out", chosen)
            self.translating.save(self.to, Path(chosen))

    def _show_study_dock(self) -> None:
        from napari_multiphase.gui.workbench import open_workbench

        open_workbench(self.session.viewer)

    def seen(self) -> None:
        """Only a dock that is seen looks for models and follows the scrolling."""
        self.picker.look()
        self.preview.ask()

    def in_front(self, front: bool) -> None:
        """Nobody follows a preview behind another tab."""
        self.preview.seen = front
        if not front:
            self.preview.feed.forget()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Nobody looks."""
        super().hideEvent(event)
        self.preview.feed.forget()

    # --- what the session says -----------------------------------------------------------------------------------

    def _on_change(self, topic: str) -> None:
        if topic == "study":
            self.translating.forget()
            self.preview.clear()
            self.results.forget()
            self._choose_direction()
            self._turned()
        if topic == "transform":
            self.translating.outdated("The scans were aligned anew since: measure again.")
        if topic == "prediction":
            self.translating.outdated("There are new labels: measure again to use them.")
            self.results.fill_labels()
        if topic in ("transform", "prediction"):
            self._fill_results()
        if topic in ("transform", "shown"):
            self.preview.ask()
        if topic == "busy":
            self._on_busy()

    def _choose_direction(self) -> None:
        study = self.session.study
        for widget in (self.empty, self.go_open):
            widget.setVisible(study is None)
        for part in (self.preview, self.plan_title, self.plan):
            part.setVisible(study is not None)
        missing = [to for to in self.directions if study is not None and to.other not in study.volumes]
        for to, choice in self.directions.items():
            reason = f"The {to.other} scan is missing: open it in the Study dock" if to in missing else ""
            allow(choice, reason, f"Make a synthetic {to} image from the {to.other} scan")
        if self.to in missing or not self.directions[self.to].isChecked():
            self.directions[self.to.other if self.to in missing else self.to].setChecked(True)

    def _ask_plan(self) -> None:
        session, to = self.session, self.to
        if session.study is None or self.model is None:
            self.plan.setText("")
            return
        params = {"study": session.study, "to": to, "model": self.model, "options": self.translating.options()}
        asked = (session.revision, to, self.model)
        self.plan.setText("Working out a plan...")
        session.quietly("plan_translation", params, lambda plan: self._planned(plan, asked))

    def _planned(self, plan: Any, asked: Any) -> None:
        if asked == (self.session.revision, self.to, self.model):
            self.plan.setText(plan_in_words(plan) if plan else "No plan could be made; Translate volume will say why.")

    def _on_busy(self) -> None:
        session, job = self.session, self.session.job
        busy = f"'{job.title}' is running" if job else ""
        reason = busy or ("" if session.study else "Open a study first")
        allow(self.translate, reason or ("" if self.model else "Choose a model first"), _TRANSLATE_TIP)
        self.save.setVisible(self.to in self.translating.results)
        allow(self.save, busy, _SAVE_TIP)
        self.results.on_busy(busy)

    def _arrived(self) -> None:
        """A result is there, or there is more of it."""
        self.preview.tell()
        self._fill_results()
        self.session.bridge.later(50, lambda: self.scroll_to(self.results))

    def _fill_results(self) -> None:
        self.results.fill()
        self._on_busy()
