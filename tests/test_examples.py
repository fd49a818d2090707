"""The examples in docs/examples run, and say what is true."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """An untrained network of three structures."""
    torch = pytest.importorskip("torch")
    from napari_multiphase.config import method_config
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods.pcn import PcnSegmentors

    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MULTIPHASE_SCRATCH", str(tmp_path / "scratch"))
    card = {
        "name": "tiny", "method": "pcn", "labels": [0, 1, 2, 18], "phases": ["arterial", "venous"],
        "config": {"segmentor": {"widths": [4, 8]}, "shared_steps": 2, "phase_steps": 2}, "window_hu": [-200, 400],
        "spacing_mm": [6, 6, 6], "tile_vox": [16, 32, 32], "overlap": 0.25, "summary": "Random weights.",
        "training_data": "none", "phantoms_only": True, "licence": "BSD-3-Clause",
    }  # fmt: skip
    torch.manual_seed(0)
    state = PcnSegmentors(method_config("pcn", card["config"]), 4).state_dict()
    tensors = {name: value.numpy().astype(np.float16) for name, value in state.items()}
    return write_model(tmp_path / "tiny", card, tensors).folder


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_human_loop_runs_from_a_scan_to_a_better_model(tiny, tmp_path, capsys):
    from napari_multiphase.io.models import find_model
    from napari_multiphase.phantom import PhantomSpec

    spec = PhantomSpec((48, 64, 64), (6.0, 6.0, 6.0), seed=3)
    dice = loaded("human_loop").main(tmp_path / "loop", str(tiny), spec, most_regions=5, steps=2)
    assert 0 <= dice["before"] <= 1 and 0 <= dice["after"] <= 1
    said = capsys.readouterr().out
    assert "look at" in said and "voxels corrected" in said
    assert find_model("human-loop").card.labels == (0, 1, 2, 18)
    with zipfile.ZipFile(tmp_path / "loop" / "study.zip") as archive:
        facts = json.loads(archive.read("share.json"))
    assert facts["phases"]["venous"]["corrected"] and "corrected" in facts["phases"]["venous"]["states"].values()


def test_the_notebook_is_small_clean_and_calls_what_exists():
    book = json.loads((EXAMPLES / "human_loop.ipynb").read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    assert (EXAMPLES / "human_loop.ipynb").stat().st_size < 20_000
    plain = "\n".join("".join(cell["source"]) for cell in cells)
    python = "\n".join(line for line in plain.splitlines() if not line.startswith(("!", "%")))
    names = compile(python, "human_loop.ipynb", "exec")
    assert names is not None
    for line in python.splitlines():
        if line.startswith(("from napari_multiphase", "import napari_multiphase")):
            exec(line, {})
    called = [line.removeprefix("!{multiphase} ").split(" >")[0].split() for line in plain.splitlines() if "!{" in line]
    assert len(called) >= 6
    for words in called:
        _understood(words)


def _understood(words: list[str]) -> None:
    """The program knows the command and every option; nothing is run, and no file needs to be there."""
    import typer

    from napari_multiphase.cli.app import app

    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    command.make_context(command.name, list(words), resilient_parsing=True)
