from __future__ import annotations

from pathlib import Path

import pytest

from napari_multiphase.jobs import Client


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client whose children serve ``fake_tasks``, with a short grace."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Client(tmp_path / "scratch", grace_s=0.5, tasks="fake_tasks") as made:
        yield made
