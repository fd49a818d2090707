"""Models from elsewhere and for others: a card that is shown before its model is trusted, and the way out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QFileDialog, QFrame, QLabel, QMenu, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import Body, button, row, wrapped
from napari_multiphase.gui.model_card import PHANTOMS_ONLY, card_html
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.session import Session

if TYPE_CHECKING:
    from napari_multiphase.model import Model

MODEL_TASKS = ("look_at_model", "add_model", "export_model")
"""Jobs whose progress and failures the docks with a picker tell."""
_WIDTH, _HEIGHT = 460, 480
_BUTTON_WIDTH = 64
"""Room for the arrow of its menu."""
_NO_MODEL = "There is no model to export yet"
_EXPORT_TIP = "Write the chosen model as one zip: card, weights, checksums"


class Offer(QDialog):
    """The card of a model that lies in a folder or a zip, and the question whether to add it.

    Parameters
    ----------
    seen : what the job ``look_at_model`` found.
    """

    def __init__(self, parent: QWidget | None, seen: Mapping[str, Any]) -> None:
        super().__init__(parent)
        self.model: Model = seen["model"]
        self.replaces = bool(seen["replaces"])
        card = self.model.card
        self.setWindowTitle("Add a model")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        layout = QVBoxLayout(self)
        title = QLabel(card.name)
        title.setTextFormat(Qt.TextFormat.PlainText)
        title.setWordWrap(True)
        title.setStyleSheet("font-size: 17px; font-weight: bold;")
        layout.addWidget(title)
        if card.phantoms_only:
            note = wrapped(PHANTOMS_ONLY, bold=True)
            note.setStyleSheet("color: #e0a030;")
            layout.addWidget(note)
        more = [
            ("Weights", f"{seen['bytes'] / 1e6:.1f} MB, verified"),
            ("Checksum", f"sha256 {card.weights_sha256[:16]}..."),
            ("From", str(self.model.folder)),
        ]
        self.text = wrapped(card_html(card, more, summary=True))
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        body = Body()
        inside = QVBoxLayout(body)
        inside.setContentsMargins(0, 0, 6, 0)
        inside.addWidget(self.text)
        inside.addStretch(1)
        scroll.setWidget(body)
        layout.addWidget(scroll, 1)
        if self.replaces:
            layout.addWidget(wrapped("You have a model of this name already: this one would take its place."))
        self.add = button("Replace" if self.replaces else "Add", self.accept, "Copy this model to yours and choose it")
        self.cancel = button("Cancel", self.reject, "Leave it where it is; nothing is copied")
        self.cancel.setDefault(True)
        buttons = row(self.add, self.cancel)
        buttons.insertStretch(0, 1)
        layout.addLayout(buttons)
        self.resize(_WIDTH, _HEIGHT)


class ModelSharing:
    """The menu beside a picker: add a model from a zip or a folder, export the one that is chosen.

    Parameters
    ----------
    parent : whose window the dialogs belong to.
    use : gets the folder of a model that was added.
    chosen : the model that would be exported.
    """

    def __init__(
        self, session: Session, parent: QWidget, use: Callable[[Path], object], chosen: Callable[[], Model | None]
    ) -> None:
        self._session, self._parent, self._use, self._chosen = session, parent, use, chosen
        self.offer: Offer | None = None
        self.button = QPushButton("More")
        self.button.setToolTip("Add a model, or export this one")
        self.button.setMinimumWidth(_BUTTON_WIDTH)
        menu = QMenu(self.button)
        menu.setToolTipsVisible(True)
        self.add_zip = menu.addAction("Add a model from a zip...", self._ask_zip)
        self.add_folder = menu.addAction("Add a model from a folder...", self._ask_folder)
        menu.addSeparator()
        self.export = menu.addAction("Export this model...", self._ask_export)
        menu.aboutToShow.connect(self._on_menu)
        self.button.setMenu(menu)

    def _on_menu(self) -> None:
        job = self._session.job
        busy = f"'{job.title}' is running" if job else ""
        for action, reason, tip in (
            (self.add_zip, busy, "Its card is shown before anything is copied"),
            (self.add_folder, busy, "Its card is shown before anything is copied"),
            (self.export, busy or ("" if self._chosen() else _NO_MODEL), _EXPORT_TIP),
        ):
            if action is not None:
                action.setEnabled(not reason)
                action.setToolTip(reason or tip)

    # --- adding --------------------------------------------------------------------------------------------------

    def _ask_zip(self) -> None:
        start = recall("last_model_folder", "")
        chosen, _ = QFileDialog.getOpenFileName(self._parent, "Add a model", start, "Models (*.zip)")
        if chosen:
            self.look_at(Path(chosen))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self._parent, "Add a model", recall("last_model_folder", ""))
        if chosen:
            self.look_at(Path(chosen))

    def look_at(self, source: Path) -> None:
        """Verify the model in a folder or zip, apart from the window, and show its card."""
        remember("last_model_folder", str(source.parent))
        self._session.ask(
            "look_at_model", f"Looking into {source.name}", {"source": source}, self._seen, where="parser"
        )

    def _seen(self, seen: Mapping[str, Any]) -> None:
        self.offer = offer = Offer(self._parent.window(), seen)
        offer.accepted.connect(lambda: self._add(offer.model, offer.replaces))
        offer.open()

    def _add(self, model: Model, replace: bool) -> None:
        params = {"source": model.folder, "replace": replace}
        title = f"Adding {model.card.name}"
        self._session.ask("add_model", title, params, lambda added: self._use(added.folder), where="parser")

    # --- exporting -----------------------------------------------------------------------------------------------

    def _ask_export(self) -> None:
        model = self._chosen()
        if model is None:
            return
        if path := ask_zip(self._parent, model.folder.name):
            self.export_to(path)

    def export_to(self, path: Path) -> None:
        """Write the chosen model into the zip `path`, in the worker."""
        export(self._session, "export_model", {"model": self._chosen()}, path)


def ask_zip(parent: QWidget, name: str) -> Path | None:
    """Where a model called `name` is to be written; None where the user thinks better of it."""
    start = Path(recall("last_model_folder", "")) / f"{name}.zip"
    chosen, _ = QFileDialog.getSaveFileName(parent, "Export the model", str(start), "Models (*.zip)")
    return Path(chosen if chosen.lower().endswith(".zip") else f"{chosen}.zip") if chosen else None


def export(session: Session, task: str, params: Mapping[str, Any], path: Path) -> None:
    """Let the worker's job `task` write a model into the zip `path`, and say that it is there."""
    from napari.utils.notifications import show_info

    def written(path: Path) -> None:
        show_info(f"The model is in {path}, {path.stat().st_size / 1e6:.1f} MB.")

    remember("last_model_folder", str(path.parent))
    session.ask(task, f"Writing {path.name}", {**params, "out": path}, written)
