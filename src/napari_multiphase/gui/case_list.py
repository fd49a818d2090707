"""All studies that are kept, in the Study dock: how far each is, how unsure the model was, and the next one to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QToolButton, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_multiphase.events import Event
from napari_multiphase.gui.dock_parts import allow, button, wrapped
from napari_multiphase.gui.remember import recall, recent, remember
from napari_multiphase.gui.session import Session
from napari_multiphase.labels import name_of

_COLUMNS = ("Case", "State", "Unsure", "Edited")
_TIPS = (
    "The patient, or the folder of the scans; double click opens it",
    "Predicted, corrected, or complete where every structure is",
    "1 - mean confidence of the newest prediction's structures",
    "When the study was last changed",
)
_NEXT_TIP = "Open the next case that is not complete, the most uncertain ones first"
_ROWS_SHOWN = 6
_REFRESH_MS = 1500


class CaseList(QWidget):
    """A section that folds away; its list is read by a process of its own, and only while it is unfolded."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._asked = self._stale = False
        self.rows: list[Mapping[str, Any]] = []
        self.fold = QToolButton()
        self.fold.setText("Cases")
        self.fold.setToolTip("All studies that are kept on this computer")
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        font = self.fold.font()
        font.setBold(True)
        self.fold.setFont(font)
        self.empty = wrapped("No case is kept yet: scans appear here once segmented, registered or corrected.")
        self.table = QTreeWidget()
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        self.table.setHeaderLabels(list(_COLUMNS))
        for column, tip in enumerate(_TIPS):
            self.table.headerItem().setToolTip(column, tip)  # type: ignore[union-attr]
        header = self.table.header()
        assert header is not None
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.itemActivated.connect(lambda item, _column: self.open_row(self.table.indexOfTopLevelItem(item)))
        self.next = button("Next case", self.open_next, _NEXT_TIP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.fold, self.empty, self.table, self.next):
            layout.addWidget(part)
        self.fold.toggled.connect(self._folded)
        session.bridge.changed.connect(self._on_change)
        self.fold.setChecked(bool(recall("cases_unfolded", False)))
        self._folded(self.fold.isChecked())

    # --- what the user does --------------------------------------------------------------------------------------

    def open_row(self, index: int) -> None:
        """Open the study of a row."""
        if 0 <= index < len(self.rows) and self._session.job is None:
            self._session.open_paths([Path(self.rows[index]["folder"])])

    def open_next(self) -> None:
        """Open the next case that is not complete, in the order of uncertainty, from the one that is open."""
        found = next_case(self.rows, self._current())
        if found is not None:
            self.open_row(self.rows.index(found))

    def _folded(self, unfolded: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        remember("cases_unfolded", unfolded)
        self._fill()
        self._ask()

    # --- what the session says -----------------------------------------------------------------------------------

    def _on_change(self, topic: str) -> None:
        if topic in ("recalled", "predictions", "kept", "annotation", "states") or (
            topic == "saved" and self._session.annotating.save_state.kind == "saved"
        ):
            self._session.bridge.later(_REFRESH_MS, self._ask)
        elif topic in ("study", "busy"):
            self._mark()

    def _ask(self) -> None:
        """Have the list read anew; one reading at a time."""
        if not self.fold.isChecked():
            return
        if self._asked:
            self._stale = True
            return
        self._asked, self._stale = True, False
        also = [entry[0] for entry in recent() if len(entry) == 1 and (entry[0] / "study.json").is_file()]

        def on_event(event: Event) -> None:
            if event.kind in ("done", "failed"):
                result = handle.result
                self._session.bridge.post(lambda: self._hear(result))

        handle = self._session.client.submit("cases", {"also": also}, where="parser", on_event=on_event)

    def _hear(self, rows: Sequence[Mapping[str, Any]] | None) -> None:
        self._asked = False
        if rows is not None:
            self.rows = list(rows)
            self._fill()
        if self._stale:
            self._ask()

    def _current(self) -> str:
        study = self._session.study
        return study.id if study is not None else ""

    def _fill(self) -> None:
        unfolded = self.fold.isChecked()
        self.empty.setVisible(unfolded and not self.rows)
        self.table.setVisible(unfolded and bool(self.rows))
        self.next.setVisible(unfolded and bool(self.rows))
        self.table.clear()
        for row in self.rows:
            item = QTreeWidgetItem([row["title"], _state(row), _percent(row["uncertainty"]), ago(row["edited"])])
            item.setTextAlignment(2, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column in range(len(_COLUMNS)):
                item.setToolTip(column, explain_case(row))
            self.table.addTopLevelItem(item)
        shown = min(max(len(self.rows), 2), _ROWS_SHOWN)
        row_px = max(self.table.sizeHintForRow(0), self.fontMetrics().height() + 4)
        self.table.setFixedHeight(row_px * shown + self.table.header().sizeHint().height() + 6)  # type: ignore[union-attr]
        self._mark()

    def _mark(self) -> None:
        """The open case in bold; *Next case* says why it cannot."""
        current = self._current()
        for index, row in enumerate(self.rows):
            item = self.table.topLevelItem(index)
            if item is not None:
                font = item.font(0)
                font.setBold(row["id"] == current)
                item.setFont(0, font)
        job = self._session.job
        reason = f"'{job.title}' is running" if job else ""
        reason = reason or ("" if next_case(self.rows, current) else "Every other case is complete")
        allow(self.next, reason, _NEXT_TIP)


def next_case(rows: Sequence[Mapping[str, Any]], current: str) -> Mapping[str, Any] | None:
    """The case after `current` (an id) that is not complete, most uncertain first, from the start again at the end."""
    ordered = sorted(rows, key=lambda row: -1.0 if row["uncertainty"] is None else -1.0 - row["uncertainty"])
    at = next((n for n, row in enumerate(ordered) if row["id"] == current), -1)
    following = [*ordered[at + 1 :], *ordered[: max(at, 0)]]
    return next((row for row in following if row["state"] != "complete" and not row["problem"]), None)


def explain_case(row: Mapping[str, Any]) -> str:
    """What a row cannot show: the structures by state, the model, the problem, the folder."""
    lines = [row["problem"]] if row["problem"] else []
    for phase, states in row["states"].items():
        for state in ("complete", "corrected"):
            names = [name_of(int(label)) for label, found in states.items() if found == state]
            if names:
                lines.append(f"{phase}, {state}: {', '.join(names)}")
    if row["model"]:
        lines.append(f"predicted by {row['model']}")
    return "\n".join([*lines, str(row["folder"])])


def ago(edited: str) -> str:
    """An ISO time as a person says it: "3 min ago", "14:05", "12 Mar"."""
    try:
        then = datetime.fromisoformat(edited).astimezone()
    except ValueError:
        return ""
    now = datetime.now().astimezone()
    minutes = (now - then).total_seconds() / 60
    if minutes < 60:
        return f"{max(0, round(minutes))} min ago"
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then.day} {then:%b}"


def _state(row: Mapping[str, Any]) -> str:
    return "problem" if row["problem"] else str(row["state"])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
