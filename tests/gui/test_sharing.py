"""Models and studies go out and come in, by mouse."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from window_steps import WAIT_MS, click, open_sample, segment

pytest.importorskip("napari")
pytestmark = pytest.mark.gui


@pytest.fixture
def other_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A zip of a model with another name, and a card that tries to be markup."""
    from safetensors.numpy import load_file

    from napari_multiphase.io.model_zip import export_model
    from napari_multiphase.io.models import read_model, write_model

    card = read_model(tiny_model).card.model_dump(mode="json")
    del card["weights_sha256"]
    card |= {"name": "theirs", "training_data": "12 CT <b>of</b> a friend", "licence": "CC-BY-4.0"}
    model = write_model(tmp_path / "made" / "theirs", card, load_file(tiny_model / "weights.safetensors"))
    return export_model(model, tmp_path / "theirs.zip")


def offered(qtbot, picker, source: Path):
    picker.sharing.look_at(source)
    qtbot.waitUntil(lambda: picker.sharing.offer is not None, timeout=WAIT_MS)
    offer, picker.sharing.offer = picker.sharing.offer, None
    qtbot.waitUntil(offer.isVisible, timeout=WAIT_MS)
    return offer


def test_a_model_is_shown_then_added_or_not(workbench, other_model, qtbot, tmp_path):
    from napari_multiphase.io.models import user_models

    _, _, dock, session = workbench
    picker = dock.picker
    qtbot.waitUntil(lambda: session.model is not None, timeout=WAIT_MS)
    offer = offered(qtbot, picker, other_model)
    text = offer.text.text()
    assert "12 CT &lt;b&gt;of&lt;/b&gt; a friend" in text and "CC-BY-4.0" in text and "sha256" in text
    assert "liver" in text and "arterial and venous" in text
    assert offer.add.text() == "Add" and user_models() == []
    click(qtbot, offer.cancel)
    assert user_models() == [] and session.model.card.name == "tiny"

    offer = offered(qtbot, picker, other_model)
    click(qtbot, offer.add)
    qtbot.waitUntil(lambda: session.model.card.name == "theirs", timeout=WAIT_MS)
    assert [folder.name for folder in user_models()] == ["theirs"]
    assert session.model.folder == user_models()[0].resolve()
    assert picker.chooser.itemText(0) == "theirs" and picker.chooser.currentText() == "theirs"
    assert picker.chooser.findText("theirs") == 0 and "theirs" not in [
        picker.chooser.itemText(i) for i in range(1, picker.chooser.count())
    ]

    offer = offered(qtbot, picker, other_model)
    assert offer.add.text() == "Replace"
    click(qtbot, offer.cancel)

    picker.sharing.export_to(tmp_path / "out.zip")
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    assert (tmp_path / "out.zip").read_bytes() == other_model.read_bytes()


def test_a_zip_that_is_no_model_is_said_in_the_dock(workbench, qtbot, tmp_path):
    from napari_multiphase.gui.workbench import bring_forward

    _, _, dock, session = workbench
    bring_forward(dock)
    qtbot.waitUntil(lambda: session.model is not None, timeout=WAIT_MS)
    (tmp_path / "no.zip").write_bytes(b"PK\x05\x06" + b"\0" * 18)
    dock.picker.sharing.look_at(tmp_path / "no.zip")
    qtbot.waitUntil(dock.error.isVisible, timeout=WAIT_MS)
    assert "model.json is missing" in dock.error.sentence.text()
    assert dock.picker.sharing.offer is None


def test_a_study_is_exported(workbench, qtbot, tmp_path, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    _, study_dock, dock, session = workbench
    assert not dock.sharing.button.isVisible()
    open_sample(qtbot, study_dock, session)
    segment(qtbot, dock, session)
    out = tmp_path / "for you.zip"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(out.with_suffix("")), ""))
    click(qtbot, dock.sharing.button)
    dialog = dock.sharing.dialog
    qtbot.waitUntil(dialog.isVisible)
    assert dialog.nameless.isChecked() and dialog.format.count() == 1
    click(qtbot, dialog.export)
    assert session.job is not None and session.job.task == "share_study"
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    assert not dock.error.isVisible(), dock.error.sentence.text()
    with zipfile.ZipFile(out) as archive:
        facts = json.loads(archive.read("share.json"))
        assert {"report.html", "venous_labels.nii.gz", "arterial_to_venous.h5"} <= set(archive.namelist())
    assert facts["study"] == session.study.id and facts["model"]["name"] == "tiny"
