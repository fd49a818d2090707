"""Which model, and its card: what it learned from, which structures, how good, under which licence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QFrame, QVBoxLayout, QWidget

from napari_multiphase.errors import UserError
from napari_multiphase.gui.dock_parts import row, toggle, wrapped
from napari_multiphase.gui.model_card import PHANTOMS_ONLY, card_html
from napari_multiphase.gui.model_sharing import ModelSharing
from napari_multiphase.gui.remember import known_models, recall, remember
from napari_multiphase.gui.session import Session

if TYPE_CHECKING:
    from napari_multiphase.model import Model, ModelCard


class ModelPicker(QWidget):
    """Chooser, one-paragraph summary, and the whole card behind *Card*.

    Parameters
    ----------
    use : gets the model that is chosen; by default it becomes the session's.
    key : under which the choice is remembered.
    tip : what the model is for.
    only : which models are listed, with `unfit`, the sentence for one that is added and not listed.
    eager : look for models now; else when `look` is called.
    """

    def __init__(
        self,
        session: Session,
        use: Callable[[Model], object] | None = None,
        *,
        key: str = "model",
        tip: str = "The model that segments",
        only: Callable[[ModelCard], bool] | None = None,
        unfit: str = "",
        eager: bool = True,
    ) -> None:
        super().__init__()
        self._session = session
        self._use_it, self._key, self._only, self._unfit = use or self._into_session, key, only, unfit
        self._models: list[Model] = []
        self._looked = False
        self._asked: Path | None = None
        self.chooser = QComboBox()
        self.chooser.setToolTip(tip)
        self.chooser.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.chooser.setMinimumContentsLength(12)
        self.card_button = toggle("Card", "What this model is: training data, structures, figures, licence")
        self.sharing = ModelSharing(session, self, self.add_folder, lambda: self.model)
        self.summary = wrapped()
        self.note = wrapped(PHANTOMS_ONLY)
        self.note.setObjectName("multiphase_note")
        self.note.setStyleSheet("#multiphase_note { color: #e0a030; font-weight: bold; }")
        self.card = QFrame()
        self._card_layout = QVBoxLayout(self.card)
        self._card_layout.setContentsMargins(8, 4, 8, 4)
        self._card_text = wrapped()
        self._card_layout.addWidget(self._card_text)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.chooser, self.card_button, self.sharing.button, stretch=0))
        for part in (self.note, self.summary, self.card):
            layout.addWidget(part)
        self.card_button.toggled.connect(self.card.setVisible)
        self.chooser.activated.connect(lambda index: self._use(index))
        for part in (self.note, self.card):
            part.hide()
        self.summary.setText("Looking for models...")
        if eager:
            self.look()

    # --- finding (not on the window's thread: weights are hashed) ------------------------------------------------

    def look(self) -> None:
        """Look for models, once."""
        if not self._looked:
            self._looked = True
            threading.Thread(target=self._find, daemon=True, name="multiphase models").start()

    def _find(self) -> None:
        from napari_multiphase.io.models import read_model

        found: list[Model] = []
        errors: list[str] = []
        for folder in known_models():
            try:
                found.append(read_model(folder))
            except UserError as error:
                errors.append(str(error))
        if self._only is not None:
            fit = [model for model in found if self._only(model.card)]
            errors = [f"{m.card.name}: {self._unfit}" for m in found if m not in fit and m.folder == self._asked]
            found = fit
        self._session.bridge.post(lambda: self._found(found, errors))

    def _found(self, models: list[Model], errors: list[str]) -> None:
        self._models = models
        self.chooser.clear()
        for model in models:
            self.chooser.addItem(model.card.name, str(model.folder))
            self.chooser.setItemData(self.chooser.count() - 1, str(model.folder), 3)
        self.chooser.setEnabled(bool(models))
        chosen = max(0, self.chooser.findData(recall(self._key, "")))
        if models:
            self.chooser.setCurrentIndex(chosen)
            self._show(models[chosen])
        else:
            self.summary.setText("There is no such model yet: use 'More' to add one.")
        for error in errors:
            self._session.tell_error("model", error, "")

    @property
    def model(self) -> Model | None:
        """The chosen one."""
        index = self.chooser.currentIndex()
        return self._models[index] if 0 <= index < len(self._models) else None

    def add_folder(self, folder: Path) -> None:
        """Put the user's own model on top and use it."""
        remember("last_model_folder", str(folder.parent))
        remember("model_folders", [str(folder), *(f for f in recall("model_folders", []) if f != str(folder))][:20])
        remember(self._key, str(folder))
        self._asked, self._looked = folder.resolve(), False
        self.look()

    def choose(self, name: str) -> bool:
        """Use the model of this name; False where it is not listed."""
        index = self.chooser.findText(name)
        if index >= 0:
            self.chooser.setCurrentIndex(index)
            self._use(index)
        return index >= 0

    # --- showing -------------------------------------------------------------------------------------------------

    def _use(self, index: int) -> None:
        remember(self._key, str(self._models[index].folder))
        self._show(self._models[index])

    def _show(self, model: Model) -> None:
        card = model.card
        self.summary.setText(card.summary)
        self.note.setVisible(card.phantoms_only)
        self._card_text.setText(card_html(card))
        self._use_it(model)

    def _into_session(self, model: Model) -> None:
        self._session.model = model
        self._session.bridge.changed.emit("model")
