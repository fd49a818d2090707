"""The fast way: one size instead of the several that a model asks for, chosen under the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from window_steps import WAIT_MS, click, open_sample, segment

pytestmark = pytest.mark.gui


@pytest.fixture(scope="session")
def tiny_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file's model looks at every tile in three sizes."""
    from safetensors.numpy import load_file

    from napari_multiphase.io.models import read_model, write_model

    model = read_model(tiny_model)
    card = model.card.model_dump(mode="json", exclude={"weights_sha256"})
    folder = tmp_path_factory.mktemp("models") / "three-sizes"
    sizes = {"name": "three sizes", "further_sizes": [0.75, 1.25]}
    return write_model(folder, {**card, **sizes}, load_file(model.weights)).folder


def test_fast_is_one_click_under_the_plan(workbench, qtbot) -> None:
    _viewer, study_dock, segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    several = "in its own size and in 0.75 and 1.25"
    qtbot.waitUntil(lambda: several in segment_dock.plan.text(), timeout=WAIT_MS)
    segment(qtbot, segment_dock, session)
    mean = np.array(session.run.prediction.fused_labels)
    assert session.run.prediction.report["plan"]["further_sizes"] == [0.75, 1.25]

    click(qtbot, segment_dock.gear)
    click(qtbot, segment_dock.fast)
    plan = segment_dock.plan
    qtbot.waitUntil(lambda: "Runs on" in plan.text() and several not in plan.text(), timeout=WAIT_MS)
    segment(qtbot, segment_dock, session)
    report = session.run.prediction.report
    assert report["options"]["further_sizes"] == [] == report["plan"]["further_sizes"]
    assert (np.array(session.run.prediction.fused_labels) != mean).any()

    segment_dock.picker.choose("pcn-phantom")
    qtbot.waitUntil(lambda: not segment_dock.fast.isEnabled(), timeout=WAIT_MS)
    assert "one size as it is" in segment_dock.fast.toolTip()
