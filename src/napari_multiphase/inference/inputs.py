"""From a study to what the networks read: each phase by itself, or both on the venous phase's grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from napari_multiphase.config import Traits
from napari_multiphase.imaging.resample import resample
from napari_multiphase.imaging.windows import mean_and_std
from napari_multiphase.inference.plan import Prepared
from napari_multiphase.inference.scan import Scan
from napari_multiphase.io.images import is_synthetic
from napari_multiphase.model import ModelCard
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Grid, Phase


def network_images(study: Study, phase: Phase, grid: Grid, traits: Traits) -> tuple[NDArray[Any], ...]:
    """What is read for the result of `phase`, on `grid`: that scan, or the arterial one (moved) and the venous one."""
    read = tuple(Phase) if traits.reads == "pair" else (phase,)
    return tuple(_on_grid(study, p, phase, grid) for p in read)


def _on_grid(study: Study, phase: Phase, home: Phase, grid: Grid) -> NDArray[Any]:
    volume = study.volumes[phase]
    if phase is not home:  # the arterial scan, asked at venous points
        return resample(volume.data, volume.grid, grid, order=1, transform=transform_of(study).into(phase))
    return volume.data if grid == volume.grid else resample(volume.data, volume.grid, grid, order=1)


def transform_of(study: Study) -> PhaseTransform:
    """The study's, or the identity."""
    return study.transform or PhaseTransform.identity()


def make_scan(study: Study, phase: Phase, prepared: Prepared, card: ModelCard, traits: Traits) -> Scan:
    """The engine's input for the result of `phase`."""
    volume, grid = study.volumes[phase], prepared.plan.phases[phase].grid
    images = network_images(study, phase, grid, traits)
    stats = tuple(mean_and_std(image, card.window_hu) for image in images) if traits.standardise else ()
    body = prepared.bodies[phase]
    return Scan(phase.value, images, grid, volume.grid, body, card.window_hu, card.labels, stats, traits.context_vox)


def aligned_words(study: Study) -> str:
    """How the phases were brought together, for a person."""
    transform = transform_of(study)
    if transform.method == "identity":
        return "the phases were not registered: they are taken to lie in one space"
    if transform.dense:
        return f"aligned by a deformable transform ({transform.method})"
    return f"aligned by a {transform.method} transform: organs that deform do not match"


def fused_words(study: Study) -> str:
    """How results of both phases came to lie over each other, for a person."""
    return aligned_words(study).replace("aligned by", "the phases were aligned by", 1)


def synthetic_words(study: Study, read: Iterable[Phase]) -> Iterator[str]:
    """Which of the phases that were read are no scans."""
    for phase in read:
        if is_synthetic(study.volumes[phase].source):
            yield f"the {phase} image is synthetic: a model made it, and what is found in it rests on no scan"


def describe_inputs(study: Study, traits: Traits, grids: Mapping[Phase, Grid]) -> dict[str, Any]:
    """How the networks' inputs were made, for report.json."""
    made: dict[str, Any] = {"reads": traits.reads, "standardised": traits.standardise, "region_first": traits.region}
    made["coarse_to_fine"] = traits.rounds is not None
    for phase, grid in grids.items():
        spacing = " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
        own = grid == study.volumes[phase].grid
        made[phase.value] = "the scan itself" if own else f"the scan, resampled to {spacing} mm"
        if traits.synthetic:
            made["branch_weight"] = traits.branch_weight
            made.setdefault("synthetic", {})[phase.other.value] = f"made from the {phase} scan by the model"
    if traits.reads == "pair":
        made["arterial"] = "the scan, resampled onto the venous grid"
        made["aligned_by"] = transform_of(study).method
    return made
