"""One result for both phases, carried from the venous grid to the arterial one."""

from __future__ import annotations

from pathlib import Path

from napari_multiphase.events import Cancel
from napari_multiphase.imaging.fusion import carry_maps
from napari_multiphase.inference.inputs import transform_of
from napari_multiphase.inference.results import open_results
from napari_multiphase.study import PhasePrediction, Study
from napari_multiphase.volume import Phase

_CHUNK_VOX = 4_000_000


def carry_to_arterial(study: Study, venous: PhasePrediction, cancel: Cancel, scratch: Path | None) -> PhasePrediction:
    """Labels and confidence of `venous` at the arterial scan's voxels (nearest neighbour); the two best are not kept.

    Where the venous scan does not reach, the label is background with confidence 0.
    """
    through = transform_of(study).into(Phase.VENOUS)
    source, target = study.volumes[Phase.VENOUS].grid, study.volumes[Phase.ARTERIAL].grid
    maps = (venous.labels, venous.confidence)
    step = max(1, _CHUNK_VOX // (target.shape[1] * target.shape[2]))
    with open_results(target.shape, scratch, Phase.ARTERIAL.value, ("labels", "confidence")) as results:
        for start in range(0, target.shape[0], step):
            cancel.check()
            rows = slice(start, min(start + step, target.shape[0]))
            results.append(*carry_maps(maps, source, target, through, rows))
        labels, confidence = results.complete()
        return PhasePrediction(labels, confidence, None)
