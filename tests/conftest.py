"""Shared fixtures: the real scans beside the checkout, and one small phantom study."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests keep their studies apart from the user's."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIPHASE_DATA_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real CT (``MULTIPHASE_REAL_DATA``, or ``shared/data`` beside the checkout); skips where absent."""
    named = os.environ.get("MULTIPHASE_REAL_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "INDEX.md").is_file():
        pytest.skip(f"waits for the real CT scans in {folder.name}/ beside the checkout (or MULTIPHASE_REAL_DATA)")
    return folder
