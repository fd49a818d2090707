"""The scans that were found: a small picture, what the scan is, and which phase it was taken for and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import wrapped
from napari_multiphase.gui.roles import FoundScan, describe, explain
from napari_multiphase.volume import Phase

THUMBNAIL_PX = 60


def pixmap_of(grey: NDArray[np.uint8]) -> QPixmap:
    """An (h, w) grey picture, fitted into the thumbnail's square."""
    pixels = np.ascontiguousarray(grey)
    height, width = pixels.shape
    image = QImage(pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()
    keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return QPixmap.fromImage(image.scaled(THUMBNAIL_PX, THUMBNAIL_PX, keep, smooth))


class ScanCard(QFrame):
    """One scan."""

    def __init__(self, scan: FoundScan, role: Phase | None) -> None:
        super().__init__()
        self.setObjectName("multiphase_scan")
        border = "palette(highlight)" if role else "palette(midlight)"
        self.setStyleSheet(f"#multiphase_scan {{ border: 1px solid {border}; border-radius: 4px; }}")
        self.picture = QLabel()
        self.picture.setFixedSize(THUMBNAIL_PX, THUMBNAIL_PX)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setStyleSheet("background: black; color: #888;")
        if scan.thumbnail is not None:
            self.picture.setPixmap(pixmap_of(scan.thumbnail))
        else:
            self.picture.setText("no\npicture")
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(wrapped(scan.title, bold=True))
        words.addWidget(wrapped(describe(scan), faint=True))
        words.addWidget(wrapped(explain(scan)))
        for remark in scan.remarks:
            words.addWidget(wrapped(remark, faint=True))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(words, 1)


class ScanList(QWidget):
    """All scans, the chosen ones first."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self.cards: list[ScanCard] = []

    def show_scans(self, scans: Sequence[FoundScan], chosen: Mapping[Phase, str]) -> None:
        """Fill the list."""
        for card in self.cards:
            self._layout.removeWidget(card)
            card.deleteLater()
        roles = {key: phase for phase, key in chosen.items()}
        ordered = sorted(scans, key=lambda scan: (scan.key not in roles, str(roles.get(scan.key, ""))))
        self.cards = [ScanCard(scan, roles.get(scan.key)) for scan in ordered]
        for card in self.cards:
            self._layout.addWidget(card)
