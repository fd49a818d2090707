"""A model that reads both phases at once, in a real window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from window_steps import WAIT_MS, open_sample, segment

pytestmark = pytest.mark.gui


@pytest.fixture(scope="session")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained HPN of two tiny networks."""
    torch = pytest.importorskip("torch")
    from napari_multiphase.config import HpnConfig
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods import METHODS
    from napari_multiphase.methods.base import stored_state

    config = HpnConfig(width=2, levels=3)
    torch.manual_seed(3)
    state = stored_state(METHODS["hpn"].nets(config, 4))
    card = {
        "name": "tiny pair",
        "method": "hpn",
        "config": config.model_dump(mode="json"),
        "labels": [0, 1, 2, 5],
        "phases": ["arterial", "venous"],
        "window_hu": [-200, 600],
        "spacing_mm": [8, 6, 6],
        "tile_vox": [32, 64, 64],
        "overlap": 0.25,
        "summary": "An untrained network that reads both phases.",
        "training_data": "nothing",
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
    }
    folder = tmp_path_factory.mktemp("models") / "tiny-pair"
    return write_model(folder, card, {k: v.numpy().astype(np.float16) for k, v in state.items()}).folder


@pytest.mark.timeout(600)
def test_a_pair_model_from_the_window(workbench, pair_model, qtbot):
    """One result for both phases: shown on both grids, nothing to mix, a second phase asked for in words."""
    viewer, study_dock, segment_dock, session = workbench
    open_sample(qtbot, study_dock, session)
    picker = segment_dock.picker
    names = [picker.chooser.itemText(i) for i in range(picker.chooser.count())]
    assert names[0] == "tiny"
    picker.add_folder(pair_model)
    qtbot.waitUntil(lambda: session.model is not None and session.model.card.name == "tiny pair", timeout=WAIT_MS)
    assert "both at once" in picker._card_text.text()
    qtbot.waitUntil(lambda: "Reads both phases at once" in segment_dock.plan.text(), timeout=WAIT_MS)

    segment(qtbot, segment_dock, session)
    prediction = session.run.prediction
    assert prediction.one_map
    assert not segment_dock.slider.isVisible(), "nothing to mix, and the notes say why"
    assert "reads both phases at once; aligned by a rigid transform" in segment_dock.notes.text()
    fused, venous = (viewer.layers[f"sample {name} labels"].data for name in ("fused", "venous"))
    np.testing.assert_array_equal(fused, venous)
    assert viewer.layers["sample arterial labels"].data.shape == session.study.volumes["arterial"].shape
    assert segment_dock.table.rowCount() == len({*np.unique(fused)} - {0})

    before = np.array(fused)
    segment_dock.refusing.move(1.0)
    segment_dock.refusing.rest(1.0)
    np.testing.assert_array_equal(viewer.layers["sample fused labels"].data, before)

    venous_only = session.chosen["venous"]
    session.choose(next(p for p in session.chosen if str(p) == "arterial"), None)
    qtbot.waitUntil(lambda: session.job is None and len(session.study.phases) == 1, timeout=WAIT_MS)
    assert list(session.chosen.values()) == [venous_only]
    segment_dock.segment.click()
    qtbot.waitUntil(segment_dock.error.isVisible, timeout=WAIT_MS)
    assert "open the arterial scan as well" in segment_dock.error.sentence.text()


def test_bundled_models_are_all_listed_with_pcn_first(monkeypatch, tmp_path, tiny_model, pair_model):
    """The default is the one with the best figure on real CT; the picker takes the list as it is."""
    import json
    import shutil

    from napari_multiphase.io import models

    for folder, name, dice in ((pair_model, "a-pair", None), (tiny_model, "pcn", 0.5)):
        shutil.copytree(folder, tmp_path / name)
        card = json.loads((tmp_path / name / "model.json").read_text())
        card["metrics"] = {} if dice is None else {"real_ct_dice": dice}
        (tmp_path / name / "model.json").write_text(json.dumps(card))
    monkeypatch.setattr(models, "BUNDLED", tmp_path)
    assert [folder.name for folder in models.bundled()] == ["pcn", "a-pair"]
    assert models.find_model().card.method == "pcn"
