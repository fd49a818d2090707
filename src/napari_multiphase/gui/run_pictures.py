"""Pictures of held-out slices that the trainer writes: the newest while it learns, before and after at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPixmap, QResizeEvent
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import heading, wrapped

_GAP_PX = 4
"""Between the panels of a trainer's picture: scan, reference, prediction."""
_MOST_PX = 190


def panels_of(path: Path) -> list[QPixmap]:
    """Scan, reference and prediction of a preview; empty where it cannot be read."""
    whole = QPixmap(str(path))
    width = (whole.width() - 2 * _GAP_PX) // 3
    if width <= 0:
        return []
    return [whole.copy(number * (width + _GAP_PX), 0, width, whole.height()) for number in range(3)]


class Picture(QWidget):
    """A pixmap as wide as there is room, in its own proportions."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.pixmap = QPixmap()
        self.setToolTip(tip)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def set_pixmap(self, pixmap: QPixmap) -> None:
        """Replace the picture."""
        self.pixmap = pixmap
        self._fit()
        self.update()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """The height follows the width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.setFixedHeight(self.heightForWidth(max(1, self.width())))

    def heightForWidth(self, width: int) -> int:
        """In the picture's proportions."""
        if self.pixmap.isNull():
            return 10
        return min(_MOST_PX, round(width * self.pixmap.height() / self.pixmap.width()))

    def sizeHint(self) -> QSize:
        """As in a dock's column."""
        return QSize(150, self.heightForWidth(150))

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """The picture in the middle."""
        if self.pixmap.isNull():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        size = self.pixmap.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        left, top = (self.width() - size.width()) / 2, (self.height() - size.height()) / 2
        target = QRectF(left, top, size.width(), size.height())
        painter.drawPixmap(target, self.pixmap, QRectF(self.pixmap.rect()))


class RunPictures(QWidget):
    """While a run learns: reference and newest prediction; at its end: scan, reference, before, after."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.caption = heading("Held-out case"), wrapped(faint=True)
        self.pictures: dict[str, Picture] = {}
        self.titles: dict[str, QLabel] = {}
        self.shown: tuple[Path, ...] = ()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        for number, (name, tip) in enumerate(_PANELS.items()):
            line, column = divmod(number, 2)
            self.titles[name], self.pictures[name] = QLabel(name), Picture(tip)
            grid.addWidget(self.titles[name], 2 * line, column)
            grid.addWidget(self.pictures[name], 2 * line + 1, column)
            grid.setColumnStretch(column, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.title)
        layout.addLayout(grid)
        layout.addWidget(self.caption)
        self.hide()

    def show_previews(self, previews: Sequence[Path], *, ended: bool) -> None:
        """The pictures of a run, in the order of their steps."""
        wanted = (previews[0], previews[-1]) if ended and len(previews) > 1 else tuple(previews[-1:])
        if wanted == self.shown:
            return
        both = [panels_of(path) for path in wanted]
        if not all(both) or not both:
            self.hide()
            return
        self.shown = wanted
        first, last = both[0], both[-1]
        shown = {"scan": last[0], "reference": last[1], "before": first[2], "after": last[2]}
        for name, pixmap in shown.items():
            there = name != "before" or len(both) == 2
            for part in (self.titles[name], self.pictures[name]):
                part.setVisible(there)
            self.pictures[name].set_pixmap(pixmap)
        steps = [int(path.stem) for path in wanted]
        self.titles["after"].setText("after" if ended else f"at step {steps[-1]:,}")
        self.titles["before"].setText("before" if steps[0] == 0 else f"at step {steps[0]:,}")
        self.caption.setText("The slice with the most structures; nobody learned from this case.")
        self.show()


_PANELS = {
    "scan": "A slice of a case that was held out",
    "reference": "What a person labelled there; grey: nobody looked at it",
    "before": "What the model found there before",
    "after": "What it finds there now",
}
