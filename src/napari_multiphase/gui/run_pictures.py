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

    def __init__(self) -> None:
        super().__init__()
        self.pixmap = QPixmap()
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
        self.caption = wrapped(faint=True)
        self.titles: list[QLabel] = []
        self.pictures: list[Picture] = []
        self.shown: tuple[Path, ...] = ()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        for number in range(4):
            line, column = divmod(number, 2)
            self.titles.append(QLabel())
            self.pictures.append(Picture())
            grid.addWidget(self.titles[number], 2 * line, column)
            grid.addWidget(self.pictures[number], 2 * line + 1, column)
            grid.setColumnStretch(column, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(heading("Held-out case"))
        layout.addLayout(grid)
        layout.addWidget(self.caption)
        self.hide()

    def show_previews(self, previews: Sequence[Path], *, ended: bool) -> None:
        """The pictures of a run, in the order of their steps."""
        wanted = (previews[0], previews[-1]) if ended and len(previews) > 1 else tuple(previews[-1:])
        if wanted == self.shown:
            return
        panels = [panels_of(path) for path in wanted]
        if not panels or not all(panels):
            self.hide()
            return
        self.shown = wanted
        first, last = int(wanted[0].stem), int(wanted[-1].stem)
        scan, reference, newest = panels[-1]
        shown = [("reference", reference), (f"at step {last:,}", newest)]
        if len(panels) == 2:
            before = (f"at step {first:,}" if first else "before", panels[0][2])
            shown = [("scan", scan), ("reference", reference), before, ("after", newest)]
        for number, (title, picture) in enumerate(zip(self.titles, self.pictures, strict=True)):
            for part in (title, picture):
                part.setVisible(number < len(shown))
            if number < len(shown):
                title.setText(shown[number][0])
                picture.set_pixmap(shown[number][1])
                picture.setToolTip(_TIPS.get(shown[number][0], "What the model finds there at that step"))
        self.caption.setText("The slice with the most structures; nothing was learned from this case.")
        self.show()


_TIPS = {
    "scan": "A slice of a case that was held out",
    "reference": "What a person labelled there; grey: nobody looked at it",
    "before": "What the model found there before",
    "after": "What it finds there now",
}
