"""What a pane of the Compare dock can show: the layers of the study by what they are, and why one is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.layers import layers_of, ours
from napari_multiphase.gui.session import Session
from napari_multiphase.volume import Grid, Phase

if TYPE_CHECKING:
    from napari.layers import Labels, Layer

OVERLAYS = {"none": "No labels", "own": "Labels of each phase", "fused": "Fused labels"}


@dataclass(frozen=True)
class Content:
    """One entry of a pane's picker.

    Attributes
    ----------
    key, title : what is remembered, and what the user reads.
    image : the layer drawn in grey; with `minus`, what is drawn is the difference of the two in HU.
    labels : the label layer that is the content itself, drawn over `image`.
    synthetic : whether a model made the image.
    missing : why there is nothing to see, in a sentence with what to do; empty where there is something.
    """

    key: str
    title: str
    image: Layer | None = None
    minus: Layer | None = None
    labels: Labels | None = None
    synthetic: bool = False
    missing: str = ""

    @property
    def layers(self) -> list[Layer]:
        """The layers it is made of."""
        return [layer for layer in (self.image, self.minus, self.labels) if layer is not None]


def grid_of(layer: Layer) -> Grid | None:
    """The grid a 3-D layer's array lies on; None where the panes cannot show it (turned, sheared, not 3-D, colour)."""
    data, matrix = layer.data, getattr(layer, "affine", None)
    if getattr(layer, "multiscale", False) or getattr(layer, "rgb", False) or getattr(data, "ndim", 0) != 3:
        return None
    if layer.ndim != 3 or (matrix is not None and not np.allclose(matrix.affine_matrix, np.eye(4))):
        return None
    if not np.allclose(layer.rotate, np.eye(3)) or np.any(layer.shear) or np.any(layer.scale <= 0):
        return None
    (sz, sy, sx), (oz, oy, ox) = (map(float, values) for values in (layer.scale, layer.translate))
    return Grid(data.shape, (sz, sy, sx), (oz, oy, ox))


def synthetic_phase(layer: Layer) -> Phase | None:
    """The phase that a synthetic image shows; None for everything else."""
    if ours(layer).get("kind") != "synthetic" and "synthetic" not in layer.name:
        return None
    return next((phase for phase in Phase if f"synthetic {phase}" in layer.name), None)


def space_of(session: Session, layer: Layer) -> Phase:
    """The scan in whose space a layer lies; the fused result's where nothing says so."""
    study, mine = session.study, ours(layer)
    assert study is not None
    made = synthetic_phase(layer)
    if made is not None and len(study.phases) == 2:
        return made.other  # a synthetic image lies where the scan lies that it was made from
    if mine.get("kind") in ("ct", "labels", "confidence") and mine.get("phase") in study.volumes:
        return Phase(mine["phase"])
    return study.fused_phase


def contents(session: Session) -> dict[str, Content]:
    """Every entry of the pickers by key: the fixed ones first, then what else the viewer holds."""
    study = session.study
    if study is None:
        return {}
    made: list[Content] = []
    scans = {phase: _scan(session, phase) for phase in Phase}
    synthetic = {phase: _synthetic(session, phase) for phase in Phase}
    made += [scans[phase] for phase in Phase] + [synthetic[phase] for phase in Phase]
    made.append(_difference(scans[Phase.ARTERIAL], scans[Phase.VENOUS], "difference"))
    made += [_difference(scans[p], synthetic[p], f"difference {p}") for p in Phase if not synthetic[p].missing]
    made += [_labels(session, phase, scans) for phase in (*Phase, "fused")]
    used = {id(layer) for content in made for layer in content.layers}
    for layer in reversed(list(session.viewer.layers)):
        if id(layer) not in used and _kind(layer) in ("image", "labels"):
            made.append(_other(session, layer, scans))
    return {content.key: content for content in made}


def _newest(session: Session, **wanted: Any) -> Layer | None:
    """The topmost layer of this kind that belongs to the study."""
    assert session.study is not None
    found = layers_of(session.viewer, study=session.study.id, **wanted)
    return found[-1] if found else None


def _scan(session: Session, phase: Phase) -> Content:
    layer, study = _newest(session, kind="ct", phase=phase), session.study
    if layer is None:
        why = f"There is no {phase} scan in this study: choose one in the Study dock."
        if study is not None and phase in study.volumes:
            why = f"The layer of the {phase} scan was removed: open the study again."
        return Content(str(phase), str(phase), missing=why)
    synthetic = study is not None and phase in study.volumes and study.volumes[phase].source.synthetic
    return Content(str(phase), str(phase), layer, synthetic=synthetic)


def _synthetic(session: Session, phase: Phase) -> Content:
    key = f"synthetic {phase}"
    for layer in reversed(list(session.viewer.layers)):
        if synthetic_phase(layer) is phase and _kind(layer) == "image" and _belongs(session, layer):
            return Content(key, key, layer, synthetic=True)
    return Content(key, key, missing=f"There is no {key} image yet: make one in the Translate dock.")


def _belongs(session: Session, layer: Layer) -> bool:
    return session.study is not None and ours(layer).get("study", session.study.id) == session.study.id


def _difference(first: Content, second: Content, key: str) -> Content:
    title = f"{first.title} minus {second.title}"
    if first.missing or second.missing:
        return Content(key, title, missing=first.missing or second.missing)
    return Content(key, title, first.image, second.image, synthetic=first.synthetic or second.synthetic)


def _labels(session: Session, phase: str, scans: dict[Phase, Content]) -> Content:
    key, layer = f"{phase} labels", _newest(session, kind="labels", phase=str(phase))
    if layer is None:
        return Content(key, key, missing=f"There are no {key} yet: make them in the Segment dock.")
    beneath = scans[space_of(session, layer)]
    return Content(key, key, beneath.image, labels=layer, synthetic=beneath.synthetic)


def _other(session: Session, layer: Layer, scans: dict[Phase, Content]) -> Content:
    content = Content(f"layer {layer.name}", layer.name, missing="")
    if grid_of(layer) is None:
        return replace(content, missing="This layer is turned, sheared or not three-dimensional: panes cannot show it.")
    if _kind(layer) == "labels":
        beneath = scans[space_of(session, layer)]
        return replace(content, image=beneath.image, labels=layer, synthetic=beneath.synthetic)
    return replace(content, image=layer, synthetic=synthetic_phase(layer) is not None)


def _kind(layer: Layer) -> str:
    """ "image", "labels" or another of napari's layer types."""
    return type(layer).__name__.lower()


def overlays(session: Session, content: Content, which: str) -> tuple[Layer | None, Layer | None]:
    """The label and the confidence layer to lay over a pane: those of its own phase ("own") or the fused ones; the
    fused ones too where its phase has none."""
    if content.labels is not None:
        mine = ours(content.labels)
        same = {"run": mine["run"], "phase": mine["phase"]} if "run" in mine else {"phase": "none"}
        return content.labels, _newest(session, kind="confidence", **same)
    phases = ["fused"]
    if which == "own" and content.image is not None:
        phases.insert(0, str(space_of(session, content.image)))
    found = [(p, _newest(session, kind="labels", phase=p)) for p in phases]
    phase, labels = next(((p, layer) for p, layer in found if layer is not None), ("fused", None))
    return (None if which == "none" else labels), _newest(session, kind="confidence", phase=phase)


def colours_of(layer: Layer) -> NDArray[np.uint8]:
    """(256, 4) RGBA of a label layer's ids 0 to 255, hidden structures transparent."""
    rgba = np.array(layer.colormap.map(np.arange(256, dtype=np.uint8)), np.float32).reshape(256, 4)
    rgba[0] = 0
    return (rgba * 255 + 0.5).astype(np.uint8)
