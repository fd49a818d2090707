"""The Study dock: open, see which scan is which phase and why, whether they fit, register."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QGridLayout, QLabel, QMenu, QPushButton, QWidget

from napari_multiphase.gui.case_list import CaseList
from napari_multiphase.gui.dock_parts import (
    Dock,
    allow,
    button,
    dropped_paths,
    heading,
    row,
    wrapped,
)
from napari_multiphase.gui.figures_table import FiguresTable
from napari_multiphase.gui.findings import FindingList
from napari_multiphase.gui.io import SAMPLE_URI
from napari_multiphase.gui.job_parts import JobParts
from napari_multiphase.gui.registering import RegisterBox
from napari_multiphase.gui.remember import recall, recent, remember
from napari_multiphase.gui.scan_list import ScanList
from napari_multiphase.gui.session import Session, get_session
from napari_multiphase.gui.window_presets import WindowPresets
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    import napari

_TASKS = ("look", "pair", "register", "aligned")
_FILES = "CT scans (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.dcm *.zip);;All files (*)"


class StudyDock(Dock):
    """From files to a study."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session: Session = get_session(napari_viewer)
        self.setAcceptDrops(True)
        self._build_opening()
        self._build_study()
        self.cases = CaseList(self.session)
        self.body.addWidget(self.cases)
        self.body.addStretch(1)
        jobs = JobParts(self, self.session, _TASKS)
        self.error, self.progress = jobs.error, jobs.progress
        self.register = RegisterBox(self.session)
        for part in (self.error, self.progress, self.register):
            self.footer.addWidget(part)
        self.session.bridge.changed.connect(self._on_change)
        for topic in ("scans", "study", "busy"):
            self._on_change(topic)

    # --- building ------------------------------------------------------------------------------------------------

    def _build_opening(self) -> None:
        self.open_folder = button(
            "Open folder...", self._ask_folder, "Open a DICOM folder or a folder of images (Ctrl+Shift+D)"
        )
        self.open_folder.setShortcut("Ctrl+Shift+D")
        self.open_files = button(
            "Open files...", self._ask_files, "Open one or two scans: NIfTI, NRRD, MetaImage or a DICOM zip"
        )
        self.open_recent = QPushButton("Recent")
        self.open_recent.setToolTip("Open what was opened lately")
        menu = QMenu(self.open_recent)
        menu.aboutToShow.connect(lambda: self._fill_recent(menu))
        self.open_recent.setMenu(menu)
        self.body.addLayout(row(self.open_folder, self.open_files, self.open_recent, stretch=0))
        self.empty = wrapped(
            "Open the two scans of one patient: a DICOM folder that holds both series, or two image files. "
            "They can also be dropped here or on the canvas."
        )
        self.open_sample = button(
            "Open the sample", self._open_sample, "A small two-phase abdomen (a phantom) that comes with the package"
        )
        self.body.addWidget(self.empty)
        self.body.addWidget(self.open_sample)

    def _build_study(self) -> None:
        self.filled = QWidget()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self.choosers: dict[Phase, QComboBox] = {}
        for line, phase in enumerate(Phase):
            chooser = QComboBox()
            chooser.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            chooser.setMinimumContentsLength(8)
            chooser.setToolTip(f"The scan to use as the {phase} phase")
            chooser.activated.connect(lambda _index, p=phase: self._chosen(p))
            label = QLabel(f"{phase.capitalize()}")
            label.setBuddy(chooser)
            grid.addWidget(label, line, 0)
            grid.addWidget(chooser, line, 1)
            self.choosers[phase] = chooser
        self.swap = button("Swap", self.session.swap, "Exchange arterial and venous")
        grid.addWidget(self.swap, 0, 2, 2, 1)
        self.scan_list = ScanList()
        self.findings = FindingList()
        self.presets = WindowPresets(self.session)
        self.figures, self.figures_title = FiguresTable(), heading("Registration")
        self.parts: list[QWidget] = [heading("Phases"), self.filled, self.presets, heading("Fit"), self.findings]
        self.parts += [self.figures_title, self.figures, heading("Scans found"), self.scan_list]
        self.filled.setLayout(grid)
        for part in self.parts:
            self.body.addWidget(part)

    # --- what the user does --------------------------------------------------------------------------------------

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a folder of scans", recall("last_folder", ""))
        if chosen:
            remember("last_folder", chosen)
            self.session.open_paths([Path(chosen)])

    def _ask_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Open scans", recall("last_folder", ""), _FILES)
        if chosen:
            remember("last_folder", str(Path(chosen[0]).parent))
            self.session.open_paths([Path(name) for name in chosen])

    def _open_sample(self) -> None:
        self.session.viewer.open(SAMPLE_URI, plugin="napari-multiphase")

    def _fill_recent(self, menu: QMenu) -> None:
        menu.clear()
        entries = recent()
        for paths in entries:
            label = " + ".join(path.name for path in paths[:3])
            action = QAction(label, menu)
            action.setToolTip("\n".join(str(path) for path in paths))
            action.triggered.connect(lambda _checked=False, p=paths: self.session.open_paths(p))
            menu.addAction(action)
        if not entries:
            nothing = QAction("Nothing was opened yet", menu)
            nothing.setEnabled(False)
            menu.addAction(nothing)

    def _chosen(self, phase: Phase) -> None:
        self.session.choose(phase, self.choosers[phase].currentData())

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files and folders."""
        if event is not None and dropped_paths(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open what was dropped, together."""
        if event is not None and (paths := dropped_paths(event.mimeData())):
            event.acceptProposedAction()
            self.session.open_paths(paths)

    # --- what the session says -----------------------------------------------------------------------------------

    def _on_change(self, topic: str) -> None:
        if topic == "busy":
            self._on_busy()
        elif topic in ("scans", "study"):
            self._fill()
        elif topic == "transform":
            self._fill_figures()
        elif topic == "registered":  # once the new rows have their places
            self.session.bridge.later(100, lambda: self.scroll_to(self.figures_title))

    def _on_busy(self) -> None:
        job = self.session.job
        busy = f"'{job.title}' is running" if job else ""
        allow(self.open_sample, busy, "A small two-phase abdomen (a phantom) that comes with the package")
        for chooser in self.choosers.values():
            chooser.setEnabled(not busy)
        both = "" if len(self.session.chosen) == 2 else "Needs a scan for each phase"
        allow(self.swap, busy or both, "Exchange arterial and venous")

    def _fill(self) -> None:
        session = self.session
        self.empty.setVisible(not session.scans)
        self.open_sample.setVisible(not session.scans)
        for part in self.parts:
            part.setVisible(bool(session.scans))
        for phase, chooser in self.choosers.items():
            chooser.clear()
            chooser.addItem("none", None)
            for scan in session.scans:
                if scan.usable:
                    chooser.addItem(scan.title, scan.key)
                    chooser.setItemData(chooser.count() - 1, scan.title, Qt.ItemDataRole.ToolTipRole)
            chooser.setCurrentIndex(max(0, chooser.findData(session.chosen.get(phase))))
            chooser.setToolTip(f"The scan to use as the {phase} phase: {chooser.currentText()}")
        self.scan_list.show_scans(session.scans, session.chosen)
        self.findings.show_findings(session.study.findings if session.study else ())
        self._fill_figures()
        self._on_busy()

    def _fill_figures(self) -> None:
        study = self.session.study
        transform = study.transform if study else None
        self.figures.show_quality(transform.quality if transform else {})
        self.figures_title.setVisible(bool(self.figures.rows))
        if transform is not None:
            self.figures_title.setToolTip(str(transform.quality.get("sentence") or ""))
