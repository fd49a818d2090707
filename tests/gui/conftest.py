"""Windows for the tests: own settings, own data, a model made on the spot, processes that stay for a file's tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_multiphase.jobs.client import Client
from napari_multiphase.labels import STRUCTURES

if TYPE_CHECKING:
    from napari_multiphase.gui.session import Session


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests of a file keep data and scratch: processes are told when they start, and these outlive a test."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIPHASE_SCRATCH", str(folder / "scratch"))
        patch.setenv("MULTIPHASE_DATA_DIR", str(folder / "data"))
        yield folder


@pytest.fixture
def data_folder(home: Path) -> Path:
    """The user's studies, models and runs; empty at the beginning of each test."""
    if (home / "data").exists():
        (home / "data").rename(home / f"data before {time.monotonic_ns()}")
    return home / "data"


@pytest.fixture(autouse=True)
def own_settings(data_folder: Path, tmp_path: Path) -> None:
    """What the window remembers goes into the test's folder."""
    from qtpy.QtCore import QSettings

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing turns while a job runs: without a graphics card each picture of a spinner draws the whole window anew,
    fifteen times a second, and that is taken from the job. What bars and texts say stays."""
    from qtpy.QtGui import QMovie
    from qtpy.QtWidgets import QProgressBar

    set_range = QProgressBar.setRange
    monkeypatch.setattr(QMovie, "start", lambda movie: None)
    monkeypatch.setattr(QProgressBar, "setRange", lambda bar, low, high: set_range(bar, low, max(high, low + 1)))


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


class KeptClient(Client):
    """The compute processes of a test file. A window that closes takes its jobs along, not the warm processes."""

    def close(self) -> None:
        for handle in list(self._handles.values()):
            handle.cancel()
        until = time.monotonic() + 10
        while self._handles and time.monotonic() < until:
            time.sleep(0.02)
        assert not self._handles, "a job does not end"

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def processes(home: Path) -> Iterator[KeptClient]:
    """As the window's own (`Session.client`), with its default grace."""
    client = KeptClient(grace_s=0.8)
    yield client
    client.end()


@pytest.fixture
def session_of(processes: KeptClient) -> Callable[[Any], Session]:
    """Gives a new viewer its session, which works with the file's processes."""
    from napari_multiphase.gui.session import get_session

    def made(viewer: Any) -> Session:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("napari_multiphase.jobs.client.Client", lambda **_options: processes)
            session = get_session(viewer)
            assert session.client is processes
        return session

    return made


@pytest.fixture
def workbench(make_napari_viewer, tiny_model: Path, session_of, qtbot) -> Iterator[tuple]:
    """(viewer, study dock, segment dock, session) of a real window with all docks."""
    from napari_multiphase.gui.remember import remember
    from napari_multiphase.gui.workbench import open_workbench

    remember("model_folders", [str(tiny_model)])
    remember("model", str(tiny_model))
    viewer = make_napari_viewer(show=True)
    session = session_of(viewer)
    docks = open_workbench(viewer)
    yield viewer, docks["Study"], docks["Segment"], session
    session.close()
