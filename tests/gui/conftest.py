"""Windows for the tests: own settings, own scratch, a model made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_multiphase.labels import STRUCTURES


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the window remembers goes into the test's folder."""
    from qtpy.QtCore import QSettings

    monkeypatch.setenv("MULTIPHASE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained two-level network: results without meaning, in seconds."""
    torch = pytest.importorskip("torch")
    from napari_multiphase.config import PcnConfig
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods.pcn import PcnSegmentors

    config = PcnConfig.model_validate({"segmentor": {"widths": [4, 8]}})
    torch.manual_seed(3)
    state = PcnSegmentors(config, 24).state_dict()
    card = {
        "name": "tiny",
        "method": "pcn",
        "config": config.model_dump(mode="json"),
        "labels": [0, *STRUCTURES],
        "phases": ["arterial", "venous"],
        "window_hu": [-200, 600],
        "spacing_mm": [8, 6, 6],
        "tile_vox": [32, 64, 64],
        "overlap": 0.25,
        "summary": "An untrained network.",
        "training_data": "nothing",
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return write_model(folder, card, {k: v.numpy().astype(np.float16) for k, v in state.items()}).folder


@pytest.fixture
def workbench(make_napari_viewer, tiny_model: Path, qtbot) -> Iterator[tuple]:
    """(viewer, study dock, segment dock, session) of a real window with both docks."""
    from napari_multiphase.gui.remember import remember
    from napari_multiphase.gui.session import get_session
    from napari_multiphase.gui.workbench import open_workbench

    remember("model_folders", [str(tiny_model)])
    remember("model", str(tiny_model))
    viewer = make_napari_viewer(show=True)
    docks = open_workbench(viewer)
    session = get_session(viewer)
    yield viewer, docks["Study"], docks["Segment"], session
    session.close()
