"""How close a synthetic image comes to the real scan: a small table, each figure with its unit and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

_ROWS = {
    "mae_hu": ("MAE (HU)", 1, "Mean absolute difference in Hounsfield units, inside the body. 0 is the same image."),
    "psnr_db": ("PSNR (dB)", 1, "Peak signal-to-noise ratio over {low:g} to {high:g} HU, a range of {range:g} HU. "
                "Higher is closer."),
    "ssim": ("SSIM", 3, "Structural similarity in each slice (Gaussian window of 11 x 11 voxels, {low:g} to {high:g} "
             "HU), mean inside the body. 1 is the same image."),
}  # fmt: skip
_S_SCORE = (
    "Mean Dice of what the model {judge} finds in the synthetic image against the labels of the scan it was made from "
    "({labels}). 1: every structure is still where it was.{own}"
)


class Figures(QWidget):
    """MAE, PSNR and SSIM of the synthetic image and of the untranslated scan; the S-score where it is known."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self.cells: dict[tuple[str, str], QLabel] = {}

    def show_figures(self, figures: Mapping[str, Any], source: str, to: str, labels: str) -> None:
        """Replace the table; `labels` says whose labels the S-score used."""
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self.cells = {}
        low, high = figures["window_hu"]
        words = {"low": low, "high": high, "range": figures["data_range_hu"]}
        plain = f"The {source} scan as it is, not translated, against the real {to} scan: what doing nothing gives."
        self._put(0, "", "head", "", "")
        self._put(0, "synthetic", "head", "synthetic", f"The synthetic {to} image against the real {to} scan")
        self._put(0, "untranslated", "head", "not translated", plain)
        for line, (key, (title, digits, tip)) in enumerate(_ROWS.items(), start=1):
            told = tip.format(**words)
            self._put(line, "", key, title, told)
            for column in ("synthetic", "untranslated"):
                self._put(line, column, key, number(figures[column][key], digits), told)
        judged = figures.get("s_score")
        if judged is not None:
            own = "" if judged["independent"] else " The same model translated: it judges its own work."
            told = _S_SCORE.format(judge=judged["judge"], labels=labels, own=own)
            self._put(len(_ROWS) + 1, "", "s_score", "S-score (Dice)", told)
            self._put(len(_ROWS) + 1, "synthetic", "s_score", number(judged["s_score"], 3), told)

    def _put(self, line: int, column: str, key: str, text: str, tip: str) -> None:
        label = QLabel(text)
        label.setToolTip(tip)
        place = ("", "synthetic", "untranslated").index(column)
        if place:
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            label.setMinimumWidth(80)
        self._grid.addWidget(label, line, place)
        self.cells[key, column] = label


def number(value: float | None, digits: int) -> str:
    """A figure for a person; "-" where it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"
