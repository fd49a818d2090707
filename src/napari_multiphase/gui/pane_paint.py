"""Drawing a pane: the slice, what lies over it, and the words a reader needs. The window and the figures share it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen

from napari_multiphase.gui.blend import edges, seen
from napari_multiphase.gui.layers import LABELS_OPACITY, confidence_rgba
from napari_multiphase.gui.marks import letters, upright
from napari_multiphase.gui.planes import Frame
from napari_multiphase.gui.scene import Scene

AMBER, WHITE, WARNING = QColor(255, 209, 89), QColor(240, 240, 240), QColor(255, 120, 90)
_SHADE = QColor(0, 0, 0, 130)
_FONT_PX, _MARGIN_PX = 13, 6
_BARS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_CENTRE = int(Qt.AlignmentFlag.AlignCenter)
_TOP, _BOTTOM = int(Qt.AlignmentFlag.AlignTop), int(Qt.AlignmentFlag.AlignBottom)
_LEFT, _RIGHT = int(Qt.AlignmentFlag.AlignLeft), int(Qt.AlignmentFlag.AlignRight)
_MIDDLE, _ACROSS = int(Qt.AlignmentFlag.AlignVCenter), int(Qt.AlignmentFlag.AlignHCenter)


def as_image(pixels: NDArray[np.uint8]) -> QImage:
    """(h, w) grey or (h, w, 3) RGB as a Qt image with memory of its own."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    if pixels.ndim == 3:
        return QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
    return QImage(pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()


def bar_mm(frame: Frame) -> int:
    """Length of the scale bar: the longest round one within a quarter of the width."""
    room = frame.size_px[1] * frame.mm_per_px / 4
    return max((length for length in _BARS_MM if length <= room), default=_BARS_MM[0])


def draw_slice(
    painter: QPainter, rect: QRectF, scene: Scene, frame: Frame, *, contours: bool, ratio: float, line_px: int = 1
) -> None:
    """The slice with labels and confidence, within `rect`, which `frame` describes.

    `ratio` is the number of device pixels per unit of `rect`, `line_px` the width of contours in device pixels.
    """
    painter.save()
    painter.setClipRect(rect)
    painter.fillRect(rect, QColor(0, 0, 0))
    x, y, width, height = frame.rectangle(scene.plane)
    picture = scene.picture[::-1] if frame.head_up else scene.picture
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, True)
    painter.drawImage(QRectF(rect.x() + x, rect.y() + y, width, height), as_image(picture))
    rows, columns = frame.voxels(scene.plane, ratio)
    contours = contours and not scene.filled
    for image in _over(scene, rows, columns, contours, line_px):
        painter.drawImage(rect, image)
    painter.restore()


def _over(scene: Scene, rows: Any, columns: Any, contours: bool, line_px: int) -> list[QImage]:
    """Pictures of the pane's size: confidence below, labels above it."""
    made = []
    if scene.confidence is not None:
        shown = seen(scene.confidence, rows, columns)
        shown[rows < 0] = 255
        shown[:, columns < 0] = 255
        made.append(_indexed(shown, (confidence_rgba() * 255 + 0.5).astype(np.uint8)))
    if scene.labels is not None and scene.colours is not None:
        ids = seen(scene.labels, rows, columns)
        ids = np.minimum(ids, 255).astype(np.uint8)
        colours = scene.colours
        if contours:
            ids *= edges(ids, line_px)
        else:
            colours = colours.copy()
            colours[:, 3] = np.rint(colours[:, 3] * LABELS_OPACITY)
        made.append(_indexed(ids, colours))
    return made


def _indexed(values: NDArray[np.uint8], rgba: NDArray[np.uint8]) -> QImage:
    """(h, w) as an image whose value n has the colour in row n of `rgba` (256, 4)."""
    values = np.ascontiguousarray(values)
    height, width = values.shape
    image = QImage(values.tobytes(), width, height, width, QImage.Format.Format_Indexed8).copy()
    r, g, b, a = rgba.astype(np.uint32).T
    image.setColorTable(((a << 24) | (r << 16) | (g << 8) | b).tolist())
    return image


def draw_words(painter: QPainter, rect: QRectF, scene: Scene, frame: Frame, *, place: str, scale: float = 1.0) -> None:
    """Titles, SYNTHETIC, window, orientation letters and scale bar; `place` is said at the lower left."""
    font = QFont(painter.font())
    font.setPixelSize(max(6, round(_FONT_PX * scale)))
    painter.setFont(font)
    gap = _MARGIN_PX * scale
    inner = rect.adjusted(gap, gap, -gap, -gap)
    title = "  |  ".join(_capital(text) for text in scene.titles)
    used = say(painter, inner, _TOP | _LEFT, title, WHITE)
    below = inner.adjusted(0, used.height() + 2 * scale, 0, 0)
    say(painter, below, _TOP | _LEFT, scene.window, QColor(190, 190, 190))
    if scene.synthetic:
        say(painter, inner, _TOP | _RIGHT, "SYNTHETIC", WARNING)
    say(painter, inner, _BOTTOM | _LEFT, place, QColor(190, 190, 190))
    line = QFontMetricsF(font).height() + 2 * scale
    inner = inner.adjusted(0, 2 * line, 0, -line)  # between the words above and below, however narrow the pane
    marks = letters(scene.plane.shown, upright(scene.plane.shown))
    for border, align in (("top", _TOP | _ACROSS), ("bottom", _BOTTOM | _ACROSS), ("left", _LEFT | _MIDDLE),
                          ("right", _RIGHT | _MIDDLE)):  # fmt: skip
        say(painter, inner, align, marks[border], AMBER)
    _draw_bar(painter, inner, frame, scale)


def _draw_bar(painter: QPainter, inner: QRectF, frame: Frame, scale: float) -> None:
    length_mm = bar_mm(frame)
    length = length_mm / frame.mm_per_px
    text = QFontMetricsF(painter.font()).height()
    right, y = inner.right(), inner.bottom() - 2 * scale
    painter.setPen(QPen(WHITE, 2 * scale))
    painter.drawLine(QPointF(right - length, y), QPointF(right, y))
    box = QRectF(right - max(length, 200 * scale), y - text - 4 * scale, max(length, 200 * scale), text + 1)
    say(painter, box, _BOTTOM | _RIGHT, f"{length_mm} mm", WHITE)


def say(painter: QPainter, box: QRectF, align: int, text: str, colour: QColor) -> QRectF:
    """Write on a dark patch, so that it can be read on bright tissue; the rectangle that was used."""
    if not text:
        return QRectF()
    used = painter.boundingRect(box, align, text)
    painter.fillRect(used.adjusted(-2, 0, 2, 0), _SHADE)
    painter.setPen(colour)
    painter.drawText(box, align, text)
    return used


def draw_cursor(painter: QPainter, rect: QRectF, x: float, y: float, *, here: bool) -> None:
    """The linked cursor at a position of the pane: a cross with a free middle, broken where off the slice."""
    pen = QPen(AMBER, 1.0)
    if not here:
        pen.setStyle(Qt.PenStyle.DashLine)
    painter.setPen(pen)
    x, y = rect.x() + x, rect.y() + y
    for near, far in ((5, 18),):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawLine(QPointF(x + dx * near, y + dy * near), QPointF(x + dx * far, y + dy * far))


def draw_missing(painter: QPainter, rect: QRectF, sentence: str) -> None:
    """Why there is nothing to see."""
    painter.fillRect(rect, QColor(0, 0, 0))
    painter.setPen(QColor(200, 200, 200))
    inner = rect.adjusted(24, 24, -24, -24)
    painter.drawText(inner, _CENTRE | int(Qt.TextFlag.TextWordWrap), sentence)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
