"""Imports point down the ladder; the contracts are in pyproject.toml."""

import subprocess
import sys
from pathlib import Path


def test_imports_point_down_only():
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([lint], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
