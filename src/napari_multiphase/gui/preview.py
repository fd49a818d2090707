"""The slice on screen as a model would translate it, beside the real one: asked for while scrolling, newest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_multiphase.events import Event
from napari_multiphase.gui.dock_parts import row
from napari_multiphase.gui.session import Session
from napari_multiphase.jobs.protocol import URGENT

PAUSE_MS = 40
"""Requests that come within this time of each other are one."""
HEIGHT_PX = 132


class PreviewFeed:
    """One request at a time; while it runs, only the newest of those that came meanwhile is kept.

    `on_shown` gets what the job returned and the seconds since it was asked for, `on_failed` a sentence.
    """

    def __init__(
        self, session: Session, on_shown: Callable[[dict[str, Any], float], object], on_failed: Callable[[str], object]
    ) -> None:
        self._session, self._on_shown, self._on_failed = session, on_shown, on_failed
        self._wanted: tuple[Any, dict[str, Any], float] | None = None
        self._running: Any = None
        self._waiting = False
        self.shown: Any = None

    @property
    def busy(self) -> bool:
        """Whether a slice is on its way."""
        return self._running is not None or self._wanted is not None

    def want(self, key: Any, params: dict[str, Any]) -> None:
        """Show this slice; `key` tells requests apart, one that is shown or on its way is not asked for again."""
        if key == (self._running or self.shown):
            self._wanted = None
            return
        if self._wanted is not None and key == self._wanted[0]:
            return
        self._wanted = key, params, time.perf_counter()
        if not self._waiting and self._running is None:
            self._waiting = True
            self._session.bridge.later(PAUSE_MS, self._send)

    def forget(self) -> None:
        """Nothing is wanted any more, and what is on its way is not shown."""
        self._wanted = self.shown = None
        if self._running is not None:
            self._running = ("stale", self._running)

    def _send(self) -> None:
        self._waiting = False
        if self._wanted is None or self._running is not None:
            return
        (key, params, asked), self._wanted = self._wanted, None
        self._running = key
        session = self._session

        def on_event(event: Event) -> None:
            if event.kind == "done":
                # Copied here, on the reader's thread, so that the files of each slice can go at once.
                found = {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in handle.result.items()}
                handle.release()
                session.bridge.post(lambda: self._arrived(key, asked, found, ""))
            elif event.kind == "failed":
                sentence = "" if event.data.get("cancelled") else event.message
                session.bridge.post(lambda: self._arrived(key, asked, None, sentence))

        study_id = session.study.id if session.study else ""
        handle = session.client.submit(
            "preview_translation", params, study_id=study_id, revision=session.revision, priority=URGENT,
            on_event=on_event,
        )  # fmt: skip

    def _arrived(self, key: Any, asked: float, found: dict[str, Any] | None, sentence: str) -> None:
        fresh, self._running = self._running == key, None
        if fresh and found is not None:
            self.shown = key
            self._on_shown(found, time.perf_counter() - asked)
        elif fresh:
            self._on_failed(sentence)
        if self._wanted is not None:
            self._send()


class Picture(QWidget):
    """One slice in grey, in true proportions, on black; `mark` is written over it."""

    def __init__(self) -> None:
        super().__init__()
        self._image: QImage | None = None
        self._proportion = 1.0
        self.mark = ""
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_hu(self, hu: NDArray[Any] | None, window_hu: tuple[float, float], spacing_mm: Any, mark: str = "") -> None:
        """Show a slice (h, w) in HU through a window, or nothing."""
        self._image, self.mark = None, mark
        if hu is not None and hu.size:
            low, high = window_hu
            grey = np.clip((hu.astype(np.float32) - low) * (255 / max(high - low, 1e-3)), 0, 255).astype(np.uint8)
            height, width = grey.shape
            self._image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8).copy()
            self._proportion = (width * spacing_mm[1]) / (height * spacing_mm[0])
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the slice as large as fits."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("black"))
        if self._image is not None:
            width = min(self.width(), self.height() * self._proportion)
            height = width / self._proportion
            place = QRectF((self.width() - width) / 2, (self.height() - height) / 2, width, height)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(place, self._image)
        if self.mark:
            font = painter.font()
            font.setBold(True)
            font.setPointSizeF(0.8 * font.pointSizeF())
            painter.setFont(font)
            painter.setPen(QColor(255, 209, 89))
            painter.drawText(self.rect().adjusted(4, 2, -4, -2), Qt.AlignmentFlag.AlignTop, self.mark)
        painter.end()


class SlicePair(QWidget):
    """The real slice at the left, the synthetic one at the right, a title under each."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.made = Picture(), Picture()
        self.real_title, self.made_title = QLabel(), QLabel()
        for title in (self.real_title, self.made_title):
            title.setAlignment(Qt.AlignmentFlag.AlignCenter)
            title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for pair in ((self.real, self.made), (self.real_title, self.made_title)):
            both = row(*pair)
            both.setStretch(0, 1)
            both.setStretch(1, 1)
            layout.addLayout(both)

    def show_slices(self, found: dict[str, Any], source: str, to: str, window_hu: tuple[float, float]) -> None:
        """What the job returned; where there is no real scan of phase `to`, the source is shown in its place."""
        real, spacing = found["real"], found["spacing_mm"]
        self.real.show_hu(found["source"] if real is None else real, window_hu, spacing)
        self.real_title.setText(f"real {source if real is None else to}")
        self.made.show_hu(found["synthetic"], window_hu, spacing, "SYNTHETIC")
        self.made_title.setText(f"synthetic {to}")

    def clear(self) -> None:
        """Show nothing."""
        for picture in (self.real, self.made):
            picture.show_hu(None, (0, 1), None)
        for title in (self.real_title, self.made_title):
            title.setText("")
