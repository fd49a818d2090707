"""*Save figure*: the panes as they are, with legend, scale bars and all a reader needs to know, as PNG or PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from qtpy.QtCore import QMarginsF, QRectF, QSize, QSizeF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QPageLayout, QPageSize, QPainter, QPdfWriter, QPen

from napari_multiphase.gui.comparison import Comparison
from napari_multiphase.gui.one_view import MODES, Mix, mixed
from napari_multiphase.gui.pane import place_in_words
from napari_multiphase.gui.pane_paint import AMBER, draw_missing, draw_slice, draw_words
from napari_multiphase.gui.planes import Frame
from napari_multiphase.gui.scene import Scene
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.labels import name_of

_GAP, _LINE, _FONT_PX = 8.0, 20.0, 13
_SCALE = 2.0
"""Pixels of a figure for each of the screen's."""
_PDF_DPI = 96
_INK = QColor(20, 20, 20)
_DISCLAIMER = "Made with napari-multiphase: research software, not a medical device."


@dataclass(frozen=True)
class Part:
    """One pane of the figure: what it shows (None with the reason), which part of it, and its rectangle."""

    scene: Scene | None
    missing: str
    frame: Frame
    rect: QRectF


def save_figure(path: Path, page: Page) -> Path:
    """Write a figure; the ending of `path` says whether as PNG (twice the screen's pixels) or PDF.

    An unknown ending gets ".png". May be called on any thread: half a second of drawing and packing.

    Raises
    ------
    UserError, OSError : where it cannot be written, in words.
    """
    if path.suffix.lower() not in (".png", ".pdf"):
        path = path.with_name(path.name + ".png")
    with atomic_path(path) as unfinished:
        if path.suffix.lower() == ".pdf":
            _write_pdf(unfinished, page)
        else:
            _write_png(unfinished, page)
    return path


def _write_png(path: Path, page: Page) -> None:
    image = QImage(round(page.width * _SCALE), round(page.height * _SCALE), QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.white)
    painter = QPainter(image)
    painter.scale(_SCALE, _SCALE)
    page.draw(painter)
    painter.end()
    if not image.save(str(path), "PNG"):
        raise OSError(f"{path.name}: the picture could not be written there")


def _write_pdf(path: Path, page: Page) -> None:
    writer = QPdfWriter(str(path))
    writer.setResolution(_PDF_DPI)
    writer.setTitle(page.title)
    points = QSizeF(page.width, page.height) * (72 / _PDF_DPI)
    size = QPageSize(points, QPageSize.Unit.Point, "figure", QPageSize.SizeMatchPolicy.ExactMatch)
    writer.setPageLayout(QPageLayout(size, QPageLayout.Orientation.Portrait, QMarginsF(0, 0, 0, 0)))
    painter = QPainter(writer)
    if not painter.isActive():
        raise OSError(f"{path.name}: the PDF could not be written there")
    page.draw(painter)
    painter.end()


class Page:
    """A figure as it was when asked for, in units of screen pixels: title, panes, legend, notes.

    `pane_px` is the (height, width) a pane has on the screen.
    """

    def __init__(self, comparison: Comparison, mix: Mix, pane_px: tuple[int, int]) -> None:
        self.comparison, self.mix = comparison, replace(mix)
        self._contours = comparison.contours
        height, width = float(pane_px[0]), float(pane_px[1])
        views = comparison.shown if mix.mode == "panes" else comparison.views[: 2 if mix.mode == "flicker" else 1]
        across = 2 if len(views) == 4 else len(views)
        self.parts = []
        for number, view in enumerate(views):
            line, column = divmod(number, across)
            rect = QRectF(_GAP + column * (width + _GAP), _LINE + 2 * _GAP + line * (height + _GAP), width, height)
            single = mix.mode in ("panes", "flicker")
            scene = comparison.scene(view) if single else mixed(comparison, mix, (height, width))
            frame = comparison.frame(view, (height, width))
            self.parts.append(Part(scene, comparison.content(view).missing, frame, rect))
        lines = -(-len(views) // across)
        self.width = across * width + (across + 1) * _GAP
        self._below = _LINE + 2 * _GAP + lines * (height + _GAP)
        self._font = QFont("sans-serif")
        self._font.setPixelSize(_FONT_PX)
        self.title = self._title()
        self.notes = self._notes()
        self._swatches = self._legend()
        self._places = self._flow([name for name, _ in self._swatches])
        rows = 1 + max((line for line, _ in self._places), default=-1)
        self.height = self._below + (rows + len(self.notes)) * _LINE + _GAP

    def _title(self) -> str:
        name = self.comparison.session.title
        how = MODES[self.mix.mode].lower()
        return f"{name}, {self.comparison.orientation}, {how}" if name else f"{self.comparison.orientation}, {how}"

    def _scenes(self) -> Sequence[Scene]:
        return [part.scene for part in self.parts if part.scene is not None]

    def _notes(self) -> list[str]:
        study, notes = self.comparison.session.study, []
        scenes = self._scenes()
        if study is not None and study.transform is not None and len(study.phases) == 2:
            moved = self.comparison.moved or self.comparison.overlaid
            how = f"through the transform ({study.transform.method})"
            notes.append(f"Phases matched {how}" + ("." if moved else "; each scan is shown on its own grid."))
        elif study is not None and len(study.phases) == 2:
            notes.append("The phases are not registered: each lies where its scanner put it.")
        if any(scene.confidence is not None for scene in scenes):
            notes.append("Confidence: transparent where the model is sure, orange to red where it is not.")
        if any(scene.synthetic for scene in scenes):
            notes.append("SYNTHETIC marks images that a model made: they are no scans.")
        return [*notes, _DISCLAIMER]

    def _legend(self) -> list[tuple[str, QColor]]:
        """Name and colour of each structure that is seen in a pane."""
        found: dict[int, QColor] = {}
        for scene in self._scenes():
            if scene.labels is None or scene.colours is None:
                continue
            for label in np.unique(scene.labels).tolist():
                colour = scene.colours[min(label, len(scene.colours) - 1)]
                if label and colour[3]:
                    found.setdefault(label, QColor(*(int(c) for c in colour[:3])))
        return [(name_of(label), colour) for label, colour in sorted(found.items(), key=lambda item: item[0])]

    def _flow(self, names: list[str]) -> list[tuple[int, float]]:
        """Line and x of each legend entry, broken where the width ends."""
        metrics, places, line, x = QFontMetricsF(self._font), [], 0, _GAP
        for name in names:
            needed = 18 + metrics.horizontalAdvance(name) + 16
            if x + needed > self.width and x > _GAP:
                line, x = line + 1, _GAP
            places.append((line, x))
            x += needed
        return places

    def draw(self, painter: QPainter) -> None:
        """Everything."""
        painter.setFont(self._font)
        painter.fillRect(QRectF(0, 0, self.width, self.height), QColor(255, 255, 255))
        painter.setPen(_INK)
        start = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        painter.drawText(QRectF(_GAP, _GAP, self.width - 2 * _GAP, _LINE), start, self.title)
        for part in self.parts:
            self._draw_part(painter, part)
        painter.setFont(self._font)
        for (name, colour), (line, x) in zip(self._swatches, self._places, strict=True):
            y = self._below + line * _LINE
            painter.fillRect(QRectF(x, y + 4, 12, 12), colour)
            painter.setPen(_INK)
            painter.drawText(QRectF(x + 18, y, self.width, _LINE), start, name)
        y = self.height - _GAP - len(self.notes) * _LINE
        for number, note in enumerate(self.notes):
            painter.setPen(_INK)
            painter.drawText(QRectF(_GAP, y + number * _LINE, self.width - 2 * _GAP, _LINE), start, note)

    def _flat(self, scene: Scene, frame: Frame, rect: QRectF) -> QImage:
        """Slice and overlays as one opaque picture: Qt packs it into a PDF as JPEG, many times faster than the
        layers with their transparency, and packing keeps the window waiting."""
        size = QSize(round(rect.width() * _SCALE), round(rect.height() * _SCALE))
        image = QImage(size, QImage.Format.Format_RGB32)
        painter = QPainter(image)
        painter.scale(_SCALE, _SCALE)
        whole, line_px = QRectF(0, 0, rect.width(), rect.height()), round(1.5 * _SCALE)
        draw_slice(painter, whole, scene, frame, contours=self._contours, ratio=_SCALE, line_px=line_px)
        painter.end()
        return image

    def _draw_part(self, painter: QPainter, part: Part) -> None:
        rect, scene, frame = part.rect, part.scene, part.frame
        if scene is None:
            draw_missing(painter, rect, part.missing)
            return
        painter.drawImage(rect, self._flat(scene, frame, rect))
        if self.mix.mode == "swipe":
            painter.setPen(QPen(AMBER, 1))
            x, y = rect.x() + self.mix.share * rect.width(), rect.y() + self.mix.share * rect.height()
            if self.mix.line == "vertical":
                painter.drawLine(round(x), round(rect.top()), round(x), round(rect.bottom()))
            else:
                painter.drawLine(round(rect.left()), round(y), round(rect.right()), round(y))
        painter.save()
        painter.setFont(self._font)
        draw_words(painter, rect, scene, frame, place=place_in_words(scene))
        painter.restore()
