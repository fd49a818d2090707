"""What a registration is judged by, as a small table: before, and now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_multiphase.gui.dock_parts import fade

_COMPARED = (
    ("Correlation", "ncc", "{:.3f}", "Of the two scans inside the body; 1 is alike, contrast medium keeps it below"),
    ("Mutual information", "mi", "{:.2f}", "Nats; higher is more alike, whatever the contrast"),
    ("Bone surfaces", "bone_mm", "{:.1f} mm", "Mean distance of the vertebrae's surface to the other scan's bone"),
    ("Bodies overlap", "body_dice", "{:.3f}", "Share of the venous body that meets the arterial one"),
)
_ALONE = (
    ("Moved as a whole", "{translation_mm:.1f} mm, {rotation_deg:.1f}°", "Of the middle of the body, and the turn"),
    ("Moved beyond that", "{moved_mean_mm:.1f} mm, at most {moved_max_mm:.0f}", "Mean over the body, and the largest"),
    ("Smallest Jacobian", "{jacobian_min:.2f}", "Change of volume of a voxel; 0 or less is a fold"),
    ("Folded", "{folded_share:.2%}", "Share of the body in which the map turns inside out"),
    ("There and back", "{inverse_mean_mm:.2f} mm", "Mean distance by which the inverse misses where it set out"),
)


class FiguresTable(QWidget):
    """Rows of figures; hidden without a registration."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        self.rows: dict[str, tuple[str, ...]] = {}

    def show_quality(self, quality: Mapping[str, Any]) -> None:
        """Replace what is shown by the figures of a transform; those that are not there have no row."""
        while (item := self._grid.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        self.rows = {}
        compared = [row for row in _COMPARED if f"{row[1]}_after" in quality]
        self.setVisible(bool(compared))
        if compared:
            self._add("", ("before", "now"), "", quiet=True)
        for name, key, form, tip in compared:
            self._add(name, tuple(form.format(quality[f"{key}_{when}"]) for when in ("before", "after")), tip)
        labels = quality.get("labels") or ()
        if labels:
            means = (sum(row[f"dice_{when}"] for row in labels) / len(labels) for when in ("before", "after"))
            lines = [f"{row['name']} {row['dice_before']:.2f}, {row['dice_after']:.2f}" for row in labels]
            tip = "Mean Dice of the structures found in both scans, before and now:\n" + "\n".join(lines)
            self._add("Structures overlap", tuple(f"{mean:.3f}" for mean in means), tip)
        for name, form, tip in _ALONE:
            try:
                self._add(name, (form.format(**quality),), tip)
            except KeyError:
                continue

    def _add(self, name: str, values: tuple[str, ...], tip: str, *, quiet: bool = False) -> None:
        line = len(self.rows)
        self.rows[name] = values
        title = QLabel(name)
        title.setToolTip(tip)
        self._grid.addWidget(title, line, 0)
        for column, value in enumerate(values, start=1):
            cell = QLabel(value)
            cell.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            cell.setToolTip(tip)
            if quiet:
                fade(cell)
            span = 2 if len(values) == 1 else 1
            self._grid.addWidget(cell, line, column, 1, span)
