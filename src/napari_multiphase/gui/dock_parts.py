"""What every dock is made of: a scrolling body over a fixed footer, wrapped text, a progress row, an error in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QMimeData, QSize, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QFrame,
    QGraphicsOpacityEffect,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

DOCK_WIDTH = 340
"""Preferred width in logical pixels; a dock is at most 360 px wide."""


def wrapped(text: str = "", *, faint: bool = False, bold: bool = False) -> QLabel:
    """A label that breaks lines instead of widening the dock, and whose text can be selected."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setMinimumWidth(40)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    if bold:
        font = label.font()
        font.setBold(True)
        label.setFont(font)
    if faint:
        fade(label)
    return label


def fade(widget: QWidget) -> None:
    """Make a widget's text quieter than its surroundings in either theme."""
    effect = QGraphicsOpacityEffect(widget)
    effect.setOpacity(0.7)
    widget.setGraphicsEffect(effect)


def heading(text: str) -> QLabel:
    """The title of a section."""
    label = QLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    label.setContentsMargins(0, 6, 0, 0)
    return label


def button(text: str, on_click: Callable[[], object], tip: str) -> QPushButton:
    """A push button with one verb and a tooltip."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda _checked=False: on_click())
    return made


def toggle(text: str, tip: str) -> QPushButton:
    """A small button that stays down until pressed again."""
    made = QPushButton(text)
    made.setCheckable(True)
    made.setToolTip(tip)
    return made


def allow(widget: QWidget, reason_not: str, tip: str) -> None:
    """Enable a control, or disable it with the reason as its tooltip."""
    widget.setEnabled(not reason_not)
    widget.setToolTip(reason_not or tip)


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; the one at index `stretch` takes the room that is left."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return layout


def dropped_paths(mime: QMimeData | None) -> list[Path]:
    """The local files and folders of a drop."""
    urls = mime.urls() if mime is not None else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]


class Body(QWidget):
    """What a dock or a dialog scrolls: as high as its text needs at the width there is, not at the narrowest one."""

    def minimumSizeHint(self) -> QSize:
        """Leaves the height to `heightForWidth` where any text wraps; else it would be squeezed."""
        hint, layout = super().minimumSizeHint(), self.layout()
        return QSize(hint.width(), 0) if layout is not None and layout.hasHeightForWidth() else hint


class Dock(QWidget):
    """A body that scrolls up and down only, over a footer that is always in sight."""

    def __init__(self) -> None:
        super().__init__()
        self.body = QVBoxLayout()
        self.body.setContentsMargins(8, 4, 8, 4)
        self.body.setSpacing(6)
        inner = Body()
        inner.setLayout(self.body)
        inner.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        self.scroll_area = scroll
        self.footer = QVBoxLayout()
        self.footer.setContentsMargins(8, 4, 8, 8)
        self.footer.setSpacing(6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(scroll, 1)
        layout.addLayout(self.footer)
        self.setMinimumWidth(DOCK_WIDTH - 30)
        self.setMaximumWidth(360)

    def scroll_to(self, widget: QWidget) -> None:
        """Bring `widget` to the top of what is seen of the body."""
        bar = self.scroll_area.verticalScrollBar()
        if bar is not None:
            bar.setValue(widget.y())

    def sizeHint(self) -> QSize:
        """The preferred size: as narrow as the text allows."""
        hint = super().sizeHint()
        hint.setWidth(DOCK_WIDTH)
        return hint


class ProgressRow(QWidget):
    """What is running, how far and how long still, with Cancel beside it. Hidden while nothing runs."""

    def __init__(self, on_cancel: Callable[[], object]) -> None:
        super().__init__()
        self._on_cancel = on_cancel
        self.text = wrapped()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(10)
        self.cancel = button("Cancel", self._cancel, "Stop this job; nothing is kept of it (Esc)")
        self.cancel.setShortcut("Esc")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addLayout(row(self.bar, self.cancel, stretch=0))
        self.hide()

    def start(self, text: str) -> None:
        """Show the row for a new job."""
        self.text.setText(text)
        self.bar.setRange(0, 0)
        self.cancel.setEnabled(True)
        self.show()

    def step(self, text: str, fraction: float | None, remaining_s: float | None) -> None:
        """Say what is being done now."""
        self.text.setText(text + (f", {spell_seconds(remaining_s)}" if remaining_s is not None else ""))
        if fraction is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * min(max(fraction, 0.0), 1.0)))

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.text.setText("Stopping...")
        self._on_cancel()

    def stop(self) -> None:
        """The job is over."""
        self.hide()


def spell_seconds(seconds: float) -> str:
    """``"about 12 s"``, ``"about 3 min"``."""
    if seconds < 100:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class ErrorBox(QFrame):
    """One sentence about what went wrong, with the log behind *Details* and a report to copy. Hidden until needed."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("multiphase_error")
        self.setStyleSheet("#multiphase_error { border: 1px solid #c0504d; border-radius: 4px; }")
        self.sentence = wrapped()
        self.details = toggle("Details", "Show the log of this job")
        self.copy = button("Copy report", self._copy, "Copy the sentence and the log, to send to someone who can help")
        self.close_button = button("Dismiss", self.hide, "Put this message away")
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumHeight(140)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.log.hide()
        self.details.toggled.connect(self.log.setVisible)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addWidget(self.sentence)
        buttons = row(self.details, self.copy, self.close_button)
        buttons.addStretch(1)
        layout.addLayout(buttons)
        layout.addWidget(self.log)
        self.hide()

    def tell(self, sentence: str, log: str) -> None:
        """Show a failure."""
        self.sentence.setText(sentence)
        self.log.setPlainText(log or "No further details.")
        self.details.setChecked(False)
        self.show()

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(f"{self.sentence.text()}\n\n{self.log.toPlainText()}")
