"""What is done with a run beside training it: its model used or exported, its command copied, its folder shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import QPushButton, QWidget

from napari_multiphase.gui.dock_parts import allow, button
from napari_multiphase.gui.model_sharing import ask_zip, export
from napari_multiphase.gui.session import Session
from napari_multiphase.jobs import training
from napari_multiphase.training.run_folder import MODEL_FOLDER

if TYPE_CHECKING:
    from napari_multiphase.model import Model

USE_TASKS = ("use_model", "export_run")
_USE_TIP = "Put it among your models, first in the Segment dock"
_EXPORT_TIP = "Write the model as one zip: card, weights, checksums"
_FOLDER_TIP = "Curves, settings, report, checkpoints, model"


class RunUses:
    """The buttons of one run; the dock arranges them.

    Parameters
    ----------
    parent : whose window the dialogs belong to.
    folder : says which run.
    """

    def __init__(self, session: Session, parent: QWidget, folder: Callable[[], Path | None]) -> None:
        self._session, self._parent, self._folder = session, parent, folder
        self.use: QPushButton = button("Use this model", self._use, _USE_TIP)
        self.export: QPushButton = button("Export...", self._ask_export, _EXPORT_TIP)
        self.open_folder: QPushButton = button("Open run folder", self._open_folder, _FOLDER_TIP)

    def permit(self, finished: bool, busy: str) -> None:
        """Show what fits a run that is finished or not, while the job `busy` is running."""
        self.open_folder.setVisible(self._folder() is not None)
        for part, tip in ((self.use, _USE_TIP), (self.export, _EXPORT_TIP)):
            part.setVisible(finished)
            allow(part, busy, tip)

    def _run(self) -> Path:
        folder = self._folder()
        assert folder is not None
        return folder

    def _use(self) -> None:
        params = {"folder": self._run() / MODEL_FOLDER}
        self._session.ask("use_model", "Adding the model", params, self._added)

    def _added(self, model: Model) -> None:
        from napari.utils.notifications import show_info

        from napari_multiphase.gui.workbench import bring_forward, open_workbench

        segment = open_workbench(self._session.viewer)["Segment"]
        segment.picker.add_folder(model.folder)  # type: ignore[attr-defined]
        bring_forward(segment)
        show_info(f"'{model.card.name}' is first in the list of models now, and chosen.")

    def _ask_export(self) -> None:
        if path := ask_zip(self._parent, self._run().name):
            self.export_to(path)

    def export_to(self, path: Path) -> None:
        """Write the run's model into the zip `path`, in the worker."""
        export(self._session, "export_run", {"folder": self._run() / MODEL_FOLDER}, path)

    def copy_command(self) -> None:
        """Put the run's command into the clipboard."""
        from napari.utils.notifications import show_info

        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(training.command_text(self._run()))
            show_info("The command is in the clipboard.")

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._run())))
