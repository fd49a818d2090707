"""The pair as one thing: what was opened, how the phases relate, and what a model said about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.field import DenseField, PointMap, map_points
from napari_multiphase.volume import Grid, Phase, Volume


@dataclass(frozen=True)
class PhaseGuess:
    """Which phase a scan shows. `confidence` in [0, 1]; `reason` in words ("aorta 479 HU, portal vein 110 HU")."""

    phase: Phase
    confidence: float
    reason: str
    measures_hu: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One line of the fit report: how serious it is, and the sentence the user reads."""

    level: Literal["good", "note", "warning", "bad"]
    text: str


@dataclass(frozen=True)
class PhaseTransform:
    """The map from points of the venous scan to points of the arterial one, and back, in LPS mm.

    Attributes
    ----------
    venous_to_arterial_mm : 4 x 4 on (x, y, z, 1): the whole map, or the rigid start of a dense one.
    method : "identity", "rigid", or how it was deformed ("mind", "demons").
    quality : figures by name (JSON types).
    to_arterial, to_venous : the whole map from venous to arterial points and its inverse where it is dense, else None.
    """

    venous_to_arterial_mm: NDArray[np.float64]
    method: str = "identity"
    quality: Mapping[str, Any] = field(default_factory=dict)
    to_arterial: DenseField | None = None
    to_venous: DenseField | None = None

    def __post_init__(self) -> None:
        if (self.to_arterial is None) != (self.to_venous is None):
            raise ValueError("a dense map needs its inverse")

    @staticmethod
    def identity() -> PhaseTransform:
        """Both scans lie in one frame of reference and nothing moved."""
        return PhaseTransform(np.eye(4))

    @property
    def dense(self) -> bool:
        """Whether organs may move each their own way."""
        return self.to_arterial is not None

    def into(self, phase: Phase) -> PointMap:
        """The map from the other scan's points to those of `phase`: what resamples `phase` onto the other's grid."""
        matrix = np.asarray(self.venous_to_arterial_mm, float)
        if phase is Phase.ARTERIAL:
            return matrix if self.to_arterial is None else self.to_arterial
        return np.linalg.inv(matrix) if self.to_venous is None else self.to_venous

    def map(self, points_mm: NDArray[np.floating[Any]], phase: Phase) -> NDArray[np.float64]:
        """(N, 3) LPS points (x, y, z) of the other scan in mm -> the same anatomy in the scan of `phase`."""
        return map_points(self.into(phase), points_mm)

    def to_dict(self) -> dict[str, Any]:
        """JSON form of everything but a dense map, which lies in files of its own; read back by `from_dict`."""
        matrix = np.asarray(self.venous_to_arterial_mm, float).tolist()
        return {"venous_to_arterial_mm": matrix, "method": self.method, "quality": dict(self.quality)}

    @staticmethod
    def from_dict(
        data: Mapping[str, Any], to_arterial: DenseField | None = None, to_venous: DenseField | None = None
    ) -> PhaseTransform:
        """The transform that `to_dict` described, with its dense maps."""
        matrix = np.asarray(data["venous_to_arterial_mm"], float)
        return PhaseTransform(matrix, data["method"], data["quality"], to_arterial, to_venous)


@dataclass(frozen=True)
class Study:
    """One patient's scans by phase, at least one of them.

    Attributes
    ----------
    id : short, stable for the same sources; results carry it, so they cannot land on another case.
    volumes : the scans by phase, each on its own canonical grid.
    guesses : why each scan was given its role; absent for a role the user chose.
    transform : between the phases; None until registered, or with one phase only.
    findings : the fit report, most serious first.
    """

    id: str
    volumes: Mapping[Phase, Volume]
    guesses: Mapping[Phase, PhaseGuess] = field(default_factory=dict)
    transform: PhaseTransform | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases present, arterial first."""
        return tuple(p for p in Phase if p in self.volumes)

    @property
    def fused_phase(self) -> Phase:
        """The phase on whose grid the fused result lies: venous, or the only one there is."""
        return Phase.VENOUS if Phase.VENOUS in self.volumes else self.phases[0]

    def with_transform(self, transform: PhaseTransform) -> Study:
        """The same study, registered."""
        return replace(self, transform=transform)


_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".zip", ".dcm")
_LONGEST = 24


def title_of(study: Study, inputs: Iterable[Path] = ()) -> str:
    """A short name for layers: the patient, or the folder that was opened or holds the files."""
    header = study.volumes[study.fused_phase].source.header
    patient = str(header.get("patient_id") or "").strip()
    if 0 < len(patient) <= _LONGEST:
        return patient
    paths = list(inputs)
    first = paths[0] if paths else study.volumes[study.fused_phase].source.path
    ending = next((e for e in _ENDINGS if first.name.lower().endswith(e)), "")
    name = first.parent.name if ending and ending != ".zip" else first.name.removesuffix(ending)
    return name.replace("sample_data", "sample")[:_LONGEST] or study.id


@dataclass(frozen=True)
class TwoBest:
    """The two most probable classes of every voxel: all that is kept for fusing.

    Each array is (D, H, W) uint8. `first`, `second` are label ids; `p_first`, `p_second` their probabilities times 255.
    What is dropped is at most the smaller of p_second and 1 - p_first - p_second per class.
    """

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    p_first: NDArray[np.uint8]
    p_second: NDArray[np.uint8]


@dataclass(frozen=True)
class PhasePrediction:
    """What a model says about one phase, on that phase's grid: labels and confidence (D, H, W) uint8, see `TwoBest`.

    `two_best` is None where the result was carried over from the other phase: it has nothing of its own to fuse.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    two_best: TwoBest | None


@dataclass(frozen=True)
class Prediction:
    """One run of a model over a study.

    Attributes
    ----------
    study_id, model_name : which study, which model.
    phases : the result of each phase.
    fused_labels, fused_confidence : (D, H, W) uint8 on `fused_grid`, that of the scan of phase `fused_on`.
    phase_weight : weight of the arterial phase in the fused result, in [0, 1].
    notes : what the user should know (one phase missing, rigid only, synthetic inputs), in sentences.
    report : plan, times, memory, volumes: JSON types, the body of report.json.
    """

    study_id: str
    model_name: str
    phases: Mapping[Phase, PhasePrediction]
    fused_labels: NDArray[np.uint8]
    fused_confidence: NDArray[np.uint8]
    fused_grid: Grid
    fused_on: Phase
    phase_weight: float = 0.5
    notes: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def one_map(self) -> bool:
        """Whether the model read both phases at once: its one result is also the fused one, whatever the weight."""
        return any(phase.two_best is None for phase in self.phases.values())


@dataclass(frozen=True)
class Translation:
    """A phase as a model makes it from the other one: a synthetic image, no scan.

    Attributes
    ----------
    study_id, model_name : which study, which model.
    source : the phase it was made from, on whose grid it lies.
    image : (D, H, W) int16 HU of phase ``source.other``; may be memory-mapped.
    notes : what the user should know, in sentences.
    report : plan, times, memory: JSON types, the body of its report.
    """

    study_id: str
    model_name: str
    source: Phase
    image: NDArray[np.int16]
    notes: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def to(self) -> Phase:
        """The phase that the image shows."""
        return self.source.other
