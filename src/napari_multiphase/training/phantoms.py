"""Phantoms as training cases: made when they are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_multiphase.config import PhantomConfig, RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.training.sources import RawCase
from napari_multiphase.volume import Phase

PHANTOM_VERSION = 1
"""Grows when the same spec gives other voxels."""


@dataclass(frozen=True)
class PhantomSource:
    """A phantom that is annotated in full, or only in the structures `annotated`."""

    spec: PhantomSpec
    annotated: frozenset[int] = frozenset(STRUCTURES)

    @property
    def id(self) -> str:
        """As ``phantom-1000``."""
        return f"phantom-{self.spec.seed}"

    @property
    def patient(self) -> str:
        """Every seed is another patient."""
        return self.id

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Both."""
        return tuple(Phase)

    @property
    def told(self) -> frozenset[int]:
        """What is annotated."""
        return self.annotated

    @property
    def labelled(self) -> tuple[Phase, ...]:
        """Both."""
        return tuple(Phase)

    @property
    def corrected(self) -> bool:
        """Never."""
        return False

    def fingerprint(self) -> Any:
        """The spec."""
        return {"phantom": asdict(self.spec), "version": PHANTOM_VERSION}

    def read(self) -> RawCase:
        """Make it. Its true motion is not told: pairs are registered as a patient's would be."""
        study = make_phantom(self.spec)
        labels = {phase: study.volumes[phase].with_data(ids) for phase, ids in study.labels.items()}
        return RawCase(study.volumes, labels)


def phantom_sources(run: RunConfig, data: PhantomConfig) -> list[PhantomSource]:
    """The run's phantoms: seeds from ``first_seed`` on, pathologies in turn, the partly annotated ones last."""
    partly = [frozenset(part.structures) for part in data.partly for _ in range(part.cases)]
    if len(partly) > data.cases:
        raise UserError(f"data.partly names {len(partly)} cases, but data.cases is {data.cases}; raise it")
    everything = frozenset(STRUCTURES)
    kinds = [everything] * (data.cases - len(partly)) + partly
    return [PhantomSource(_spec(run, data, number), frozenset(annotated)) for number, annotated in enumerate(kinds)]


def _spec(run: RunConfig, data: PhantomConfig, number: int) -> PhantomSpec:
    pathology = data.pathologies[number % len(data.pathologies)]
    return PhantomSpec(data.case_vox, run.spacing_mm, data.first_seed + number, pathology, data.motion_mm)
