"""*Export study...*: what goes out and how, then one zip, written in the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDialog, QFileDialog, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import allow, button, row, wrapped
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.session import Session

TASK = "share_study"
_TIP = "Write labels, names, states, transform and a report with pictures as one zip for somebody else"
_WHAT = (
    "Labels as they are now, with names, colours and states; how the phases lie to each other; the model and its "
    "notes; and a report with pictures that opens in any browser. The scans stay here."
)
_LEAVE_OUT_TIP = (
    "Paths, names of files, and what DICOM says of patient and visit; the UIDs of a DICOM SEG's images stay"
)
_UNSAVED, _WAIT_MS, _MOST_WAITS = ("unsaved", "saving"), 200, 50
"""Corrections are saved within seconds; an export waits for them."""


class ExportDialog(QDialog):
    """Which form the labels take, and whether the patient is named."""

    def __init__(self, parent: QWidget | None, dicom: bool) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export study")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        layout = QVBoxLayout(self)
        words = wrapped(_WHAT)
        words.setMinimumHeight(words.heightForWidth(380))
        layout.addWidget(words)
        self.format = QComboBox()
        self.format.addItem("NIfTI, on the scans' own grids", "nifti")
        if dicom:
            self.format.addItem("DICOM SEG, on the scans' slices", "dicom-seg")
        self.format.setToolTip("" if dicom else "DICOM SEG needs scans that were opened from DICOM")
        label = QLabel("Labels as")
        label.setBuddy(self.format)
        layout.addLayout(row(label, self.format, stretch=1))
        self.nameless = QCheckBox("Leave out what names the patient")
        self.nameless.setToolTip(_LEAVE_OUT_TIP)
        self.nameless.setChecked(True)
        layout.addWidget(self.nameless)
        self.export = button("Export...", self.accept, "Choose where the zip goes")
        self.cancel = button("Cancel", self.reject, "Write nothing")
        buttons = row(self.export, self.cancel)
        buttons.insertStretch(0, 1)
        layout.addLayout(buttons)
        self.setMinimumWidth(400)


class StudySharing:
    """The button and what follows from it."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        self._session, self._parent = session, parent
        self.dialog: ExportDialog | None = None
        self.button = button("Export study...", self._ask, _TIP)
        self.button.hide()

    def refresh(self) -> None:
        """Show the button where there are labels; off while a job runs."""
        job = self._session.job
        self.button.setVisible(self._session.run is not None or self._corrected)
        allow(self.button, f"'{job.title}' is running" if job else "", _TIP)

    @property
    def _corrected(self) -> bool:
        return self._session.annotating.layer is not None

    def _ask(self) -> None:
        study = self._session.study
        assert study is not None
        dicom = all(volume.source.format == "dicom" for volume in study.volumes.values())
        self.dialog = dialog = ExportDialog(self._parent.window(), dicom)
        dialog.accepted.connect(lambda: self._ask_place(dialog.format.currentData(), not dialog.nameless.isChecked()))
        dialog.open()

    def _ask_place(self, format: str, identified: bool) -> None:
        assert self._session.study is not None
        name = self._session.title if identified else self._session.study.id
        start = Path(recall("last_out", "")) / f"{name or 'study'}.zip"
        chosen, _ = QFileDialog.getSaveFileName(self._parent, "Export the study", str(start), "Zip (*.zip)")
        if chosen:
            self.export_to(Path(chosen if chosen.lower().endswith(".zip") else f"{chosen}.zip"), format, identified)

    def export_to(self, path: Path, format: str = "nifti", identified: bool = False, waited: int = 0) -> None:
        """Write the open study into the zip `path`, in the worker, once the last strokes are saved."""
        session, annotating = self._session, self._session.annotating
        if annotating.layer is not None and annotating.save_state.kind in _UNSAVED and waited < _MOST_WAITS:
            session.bridge.later(_WAIT_MS, lambda: self.export_to(path, format, identified, waited + 1))
            return
        remember("last_out", str(path.parent))
        params: dict[str, Any] = {"out": path, "study": session.study, "folder": annotating.folder}
        params |= {"prediction": session.run.prediction if session.run else None}
        params |= {"format": format, "identified": identified}
        session.ask(TASK, f"Exporting into {path.name}", params, lambda _files: self._exported(path))

    def _exported(self, path: Path) -> None:
        from napari.utils.notifications import show_info

        show_info(f"The study is in {path}, {path.stat().st_size / 1e6:.1f} MB; open report.html in it with a browser.")
