"""Shared fixtures: the real scans beside the checkout, and one small phantom study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real CT (``MULTIPHASE_REAL_DATA``, or ``shared/data`` beside the checkout); skips where absent."""
    named = os.environ.get("MULTIPHASE_REAL_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "INDEX.md").is_file():
        pytest.skip(f"waits for the real CT scans in {folder.name}/ beside the checkout (or MULTIPHASE_REAL_DATA)")
    return folder
