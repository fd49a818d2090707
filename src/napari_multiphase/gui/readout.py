"""The status bar under the cursor: HU of both phases, the structure and how sure the model is."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_multiphase.gui.layers import ours
from napari_multiphase.gui.session import Session
from napari_multiphase.imaging.fusion import confidence_map
from napari_multiphase.labels import name_of
from napari_multiphase.volume import Grid, Phase

_MARK = "  |  "


def voxel_at(grid: Grid, point_mm: Any) -> tuple[int, int, int] | None:
    """The voxel of `grid` that contains an LPS point (z, y, x) mm, or None outside."""
    index = [round((p - o) / s) for p, o, s in zip(point_mm, grid.origin_mm, grid.spacing_mm, strict=True)]
    if all(0 <= i < n for i, n in zip(index, grid.shape, strict=True)):
        return index[0], index[1], index[2]
    return None


def read_at(session: Session, point_mm: Any) -> str:
    """What is at a world point (z, y, x) mm: ``"arterial 180 HU, venous 112 HU, liver, confidence 0.97"``."""
    study = session.study
    if study is None:
        return ""
    words = []
    for phase in study.phases:
        volume = study.volumes[phase]
        index = voxel_at(volume.grid, carried(session, phase, point_mm))
        if index is not None:
            words.append(f"{phase} {float(volume.data[index]):.0f} HU")
    return ", ".join([*words, *_structure_at(session, point_mm)])


def carried(session: Session, phase: Phase, point_mm: Any) -> Any:
    """`point_mm` of the venous scan as a point of `phase`'s scan."""
    study = session.study
    if study is None or phase is study.fused_phase or study.transform is None:
        return point_mm
    z, y, x = point_mm
    ((x, y, z),) = study.transform.map(np.array([[x, y, z]], float), phase)
    return z, y, x


def _structure_at(session: Session, point_mm: Any) -> list[str]:
    """The label and confidence of the fused result, or of the topmost label layer that is shown."""
    for layer in reversed(list(session.viewer.layers)):
        mine = ours(layer)
        if mine.get("kind") != "labels" or not layer.visible:
            continue
        grid = Grid.from_dict(mine["grid"])
        index = voxel_at(grid, point_mm)
        if index is None:
            return []
        label = int(layer.data[index])
        found = [name_of(label) if label else "no structure"]
        confidence = _confidence_of(session, mine)
        if confidence is not None and label:
            found.append(f"confidence {float(confidence_map(confidence[index])):.2f}")
        return found
    return []


def _confidence_of(session: Session, mine: dict[str, Any]) -> Any:
    run = session.run
    if run is None or mine.get("run") != run.number:
        return None
    if mine.get("phase") == "fused":
        return run.prediction.fused_confidence
    return run.prediction.phases[Phase(mine["phase"])].confidence


class Readout:
    """Appends `read_at` to what napari writes into the status bar."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._writing = False
        session.viewer.events.status.connect(self._extend)

    def _extend(self, _event: Any = None) -> None:
        if self._writing or self._session.study is None:
            return
        viewer = self._session.viewer
        point = viewer.cursor.position
        if len(point) != 3 or viewer.dims.ndisplay != 2:
            return
        text = read_at(self._session, point)
        status = viewer.status
        if not text:
            return
        self._writing = True
        try:
            if isinstance(status, dict):
                if _MARK in status["coordinates"]:
                    return  # napari says a change made within its own event once more, when that event is over
                viewer.status = {**status, "coordinates": f"{status['coordinates']}{_MARK}{text}"}
            elif _MARK not in status:
                viewer.status = f"{status}{_MARK}{text}"
        finally:
            self._writing = False
