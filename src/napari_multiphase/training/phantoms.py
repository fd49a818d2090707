"""Phantoms as training cases: made when they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.config import AtlasConfig, PhantomConfig, RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom import AtlasSpec, PhantomSpec, make_atlas_phantom, make_phantom
from napari_multiphase.phantom.atlas_body import fingerprint
from napari_multiphase.training.sources import RawCase
from napari_multiphase.volume import Phase

PHANTOM_VERSION = 1
"""Grows when the same spec gives other voxels."""
ATLAS_VERSION = 5
"""The same, for phantoms of label maps."""
ATLASES = "MULTIPHASE_ATLASES"


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

    @property
    def changed(self) -> Mapping[int, float]:
        """Nothing."""
        return {}

    def fingerprint(self) -> Any:
        """The spec, and the content of its map."""
        spec = asdict(self.spec)
        if not isinstance(self.spec, AtlasSpec):
            return {"phantom": spec, "version": PHANTOM_VERSION}
        spec = {key: value for key, value in spec.items() if key not in {"atlas", "names", "cache"}}
        return {"phantom": spec, "map": fingerprint(self.spec.atlas, self.spec.names), "version": ATLAS_VERSION}

    def read(self) -> RawCase:
        """Make it. Its true motion is not told: pairs are registered as a patient's would be."""
        study = make_atlas_phantom(self.spec) if isinstance(self.spec, AtlasSpec) else make_phantom(self.spec)
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
    seed = data.first_seed + number
    plain = PhantomSpec(data.case_vox, run.spacing_mm, seed, pathology, data.motion_mm)
    if not data.atlases:
        return plain
    rng = np.random.default_rng([seed, len(data.atlases)])
    if rng.random() < data.parametric_share:
        return plain
    shares = np.array([atlas.share for atlas in data.atlases])
    chosen = data.atlases[int(rng.choice(len(shares), p=shares / shares.sum()))]
    labels, names = atlas_files(chosen)
    motion, wide, warp = data.motion_mm, data.wide, data.warp
    return AtlasSpec(
        data.case_vox, run.spacing_mm, seed, pathology, motion, atlas=labels, names=names, wide=wide, warp=warp
    )


def atlas_files(atlas: AtlasConfig) -> tuple[Path, Path]:
    """The map and its names; a UserError where one is not there."""
    base = Path(os.environ.get(ATLASES, "."))
    found = base / atlas.labels, base / atlas.names
    for path in found:
        if not path.is_file():
            raise UserError(
                f"{path}: there is no such atlas; set {ATLASES} to the folder of the maps (docs/atlases.md)"
            )
    return found
