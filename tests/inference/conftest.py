"""A small random model and a small pair."""

from __future__ import annotations

import pytest
import torch
from inference_cases import CARD, LABELS, trunk_hu

from napari_multiphase.config import PcnConfig, UNet3DConfig
from napari_multiphase.io.models import write_model
from napari_multiphase.methods.pcn import PcnSegmentors
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A PCN of widths 4, 8 with random weights, four labels, 4 x 4 x 4 mm."""
    torch.manual_seed(1)
    config = PcnConfig(segmentor=UNet3DConfig(widths=(4, 8)))
    card = {**CARD, "name": "small random", "config": config.model_dump(mode="json")}
    tensors = {name: p.numpy() for name, p in PcnSegmentors(config, len(LABELS)).state_dict().items()}
    return write_model(tmp_path_factory.mktemp("models") / "small", card, tensors)


@pytest.fixture
def pair() -> Study:
    """Two trunks of 20 x 48 x 52 voxels at 4 mm, the arterial grid one voxel shorter and shifted."""
    venous, arterial = Grid((20, 48, 52), (4.0, 4.0, 4.0)), Grid((19, 48, 52), (4.0, 4.0, 4.0), (4.0, 0.0, 0.0))
    volumes = {
        phase: Volume.from_array(trunk_hu(grid, seed), grid.spacing_mm, grid.origin_mm)
        for seed, (phase, grid) in enumerate([(Phase.ARTERIAL, arterial), (Phase.VENOUS, venous)])
    }
    return Study("study-1", volumes)
