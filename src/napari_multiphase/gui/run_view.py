"""One run as it goes and as it ended: state, progress, curves, pictures, and what changed for each structure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import fade, heading, spell_seconds, wrapped
from napari_multiphase.gui.run_chart import LOSS_COLOURS, Line, RunChart
from napari_multiphase.gui.run_pictures import RunPictures
from napari_multiphase.jobs.following import Points, RunState
from napari_multiphase.labels import IDS_BY_NAME, STRUCTURES

_STATES = {
    "ready": "Not started yet",
    "starting": "Starting",
    "preparing": "Preparing the cases",
    "training": "Training",
    "validating": "Looking at held-out cases",
    "stopped": "Stopped and saved: Resume goes on exactly where it was",
    "finished": "Finished",
    "failed": "Failed",
    "lost": "Ended before it was done",
}
_MEAN = "mean"
_BETTER = 0.005
"""Smaller differences of Dice are not coloured."""
_MOST_WARNINGS = 6


def split_lines(train: Sequence[str], held: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Who is learned from and who is held out, as two lists."""
    sides = (("To learn from", train), ("Held out", held))
    lines = [f"<b>{name} ({len(ids)}):</b> {_plain(', '.join(ids)) or 'none'}" for name, ids in sides]
    return "<br>".join([*lines, *map(_plain, notes)])


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def dice_changes(dice: Mapping[str, Points]) -> tuple[int, int, dict[str, tuple[float | None, float | None]]]:
    """(first step, last step, by structure the Dice at both; None where it was not judged), the mean last."""
    steps = sorted({step for points in dice.values() for step, _ in points})
    if not steps:
        return 0, 0, {}
    order = [*(name for name in dice if name != _MEAN), *([_MEAN] if _MEAN in dice else [])]
    at = {name: dict(dice[name]) for name in order}
    return steps[0], steps[-1], {name: (at[name].get(steps[0]), at[name].get(steps[-1])) for name in order}


class ChangesTable(QWidget):
    """Dice per structure: before, after, difference."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        self.rows: dict[str, tuple[str, str, str]] = {}
        self._shown: Any = None
        self.hide()

    def show_changes(self, dice: Mapping[str, Points], measured: str = "") -> None:
        """Replace the rows; hidden with fewer than two looks. `measured`: where, if not everywhere."""
        changes = dice_changes(dice)
        if changes == self._shown:
            return
        self._shown = changes
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        first, last, by_name = changes
        self.rows = {}
        self.setVisible(first < last)
        if first >= last:
            return
        title = f"Dice, {measured or 'held out'}"
        self._line(0, title, ("before" if first == 0 else f"step {first:,}", "after", "change"))
        for number, (name, (before, after)) in enumerate(by_name.items(), start=1):
            known = before is not None and after is not None
            change = after - before if before is not None and after is not None else math.nan
            words = (_dice(before), _dice(after), f"{change:+.3f}" if known else "")
            self.rows[name] = words
            self._line(number, name, words, "" if not known or abs(change) < _BETTER else _colour(change > 0))

    def _line(self, line: int, name: str, words: tuple[str, str, str], colour: str = "") -> None:
        for column, text in enumerate((name, *words)):
            cell = QLabel(text)
            cell.setToolTip(f"{name}: Dice of the held-out cases; 1 is perfect")
            if column:
                cell.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if line == 0:
                fade(cell)
            if column == 3 and colour:
                cell.setStyleSheet(f"color: {colour}; font-weight: bold")
            self._grid.addWidget(cell, line, column)


def _dice(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _colour(better: bool) -> str:
    return "#3fa860" if better else "#d9534f"


class RunView(QWidget):
    """What is known of one run; the dock's buttons are around it."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.doing = wrapped(bold=True), wrapped()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(10)
        self.split = wrapped(faint=True)
        self.losses = RunChart("Losses", "Means over the last steps, of the patches that are learned from")
        self.dice = RunChart("Dice per structure", "Of the held-out cases (dashed): 1 is perfect", (0.0, 1.0))
        self.changes_title, self.changes = heading("What changed"), ChangesTable()
        self.pictures = RunPictures()
        self.warnings = wrapped(faint=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        for part in (
            self.state, self.bar, self.doing, self.changes_title, self.changes, self.pictures, self.losses, self.dice,
            self.split, self.warnings,
        ):  # fmt: skip
            layout.addWidget(part)

    def show_run(self, folder: Path, now: RunState) -> None:
        """The run as it is now."""
        words = "Stopping: the current step ends, then it is saved" if now.stopping else _STATES[now.state]
        if now.state == "finished" and not now.dice:
            words += ": nothing was held out, so there is no before and after to compare"
        self.state.setText(f"{folder.name}: {words[0].lower()}{words[1:]}" if now.working else words)
        self._show_progress(now)
        ended = now.state == "finished"
        split = _split_of(folder)
        self.changes.show_changes(now.dice if ended else {}, split.get("measured", ""))
        self.changes_title.setVisible(self.changes.isVisibleTo(self))
        self.pictures.show_previews(now.previews, ended=ended)
        newest = max((points[-1][0] for points in now.losses.values()), default=0)
        losses = [(name, points) for name, points in now.losses.items() if points[-1][0] == newest]  # of this stage
        colours = cycle(LOSS_COLOURS)
        self.losses.show_lines([Line(name, next(colours), points) for name, points in losses])
        self.dice.show_lines([Line(name, _structure_colour(name), points, True) for name, points in now.dice.items()])
        self.split.setText(split_lines(split["train"], split["validation"], split["notes"]) if split else "")
        self.split.setVisible(bool(self.split.text()))
        notes = [note for note in dict.fromkeys(now.warnings) if note not in self.split.text()]
        self.warnings.setText("\n".join(f"Note: {note}" for note in notes[-_MOST_WARNINGS:]))
        self.warnings.setVisible(bool(notes))

    def _show_progress(self, now: RunState) -> None:
        self.bar.setVisible(now.working or (now.state == "stopped" and now.fraction is not None))
        if now.fraction is None or now.state == "starting":
            self.bar.setRange(0, 0 if now.working else 1)
        else:
            self.bar.setRange(0, 1000)
            self.bar.setValue(round(1000 * now.fraction))
        left = now.left_s()
        words = now.message + (f", {spell_seconds(left)} left" if left and now.working else "")
        self.doing.setText(words if now.working else "")
        self.doing.setVisible(bool(self.doing.text()))

    def forget(self) -> None:
        """Another run is shown next."""
        self.pictures.shown = ()
        self.show_run(Path(), RunState())


def _split_of(folder: Path) -> dict[str, Any]:
    """What ``split.json`` says; nothing where it is not there or damaged."""
    try:
        values = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        return {**values, **{name: [str(part) for part in values[name]] for name in ("train", "validation", "notes")}}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _structure_colour(name: str) -> str:
    if name not in IDS_BY_NAME:
        return "#888888"
    return "#{:02x}{:02x}{:02x}".format(*STRUCTURES[IDS_BY_NAME[name]].colour)
