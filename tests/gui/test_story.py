"""The whole loop in one go: open, segment, correct, train, use what was trained, close, and find all of it again."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import yaml
from window_steps import WAIT_MS, click, drag, open_sample, segment

from napari_multiphase.gui.remember import remember
from napari_multiphase.volume import Phase

pytestmark = [pytest.mark.gui, pytest.mark.timeout(900)]
LIVER = 1


def start_napari(make_napari_viewer):
    """(viewer, docks, session) of a new window."""
    from napari_multiphase.gui.session import get_session
    from napari_multiphase.gui.workbench import open_workbench

    viewer = make_napari_viewer(show=True)
    return viewer, open_workbench(viewer), get_session(viewer)


def choose(combo, data) -> None:
    """As a person does: the box changes, and says that it was a person."""
    combo.setCurrentIndex(combo.findData(data))
    combo.activated.emit(combo.currentIndex())


def correct_there(qtbot, viewer, layer, correcting, centre, structure) -> None:
    """By the mouse: rub out what the model found there, then paint less of it as liver."""
    viewer.dims.set_point(range(3), layer.data_to_world(centre))
    z, y, x = centre
    ends = [layer.data_to_world((z, y, x + step)) for step in (-3, 3)]
    for label, mode, size in ((structure, "erase", 11), (LIVER, "paint", 5)):
        correcting.choose(label)
        layer.mode, layer.brush_size = mode, size
        drag(qtbot, viewer, ends)


def test_from_a_prediction_to_a_better_model_and_back_the_next_day(make_napari_viewer, tiny_model, qtbot):
    from napari_multiphase.gui.workbench import bring_forward
    from napari_multiphase.studies import Workspace
    from napari_multiphase.studies.snapshots import snapshots

    remember("model_folders", [str(tiny_model)])
    remember("model", str(tiny_model))
    viewer, docks, session = start_napari(make_napari_viewer)

    # --- the model's own labels
    open_sample(qtbot, docks["Study"], session)
    assert session.model.card.name == "tiny"
    segment(qtbot, docks["Segment"], session)

    # --- corrected: an uncertain region, a stroke, and the liver is done
    correct, annotating = docks["Correct"], session.annotating
    bring_forward(correct)
    click(qtbot, correct.begin)
    qtbot.waitUntil(lambda: annotating.layer is not None and bool(correct.correcting.regions), timeout=WAIT_MS)
    assert annotating.phase is Phase.VENOUS
    click(qtbot, correct.next)
    region = correct.correcting.regions[0]
    at = tuple(annotating.layer.world_to_data(viewer.dims.point))
    assert round(at[0]) == region.centre[0]
    path, layer, before = annotating._autosave.path, annotating.layer, annotating.layer.data.copy()
    structure = region.structure or LIVER
    correct_there(qtbot, viewer, layer, correct.correcting, region.centre, structure)
    first = layer.data.copy()
    assert (first != before).any() and annotating.reviewed.any()
    assert correct.correcting.structure == LIVER
    choose(correct.state, "complete")

    # --- learned from at once, before the stroke was saved by itself
    train = docks["Train"]
    bring_forward(train)
    qtbot.waitUntil(lambda: train.setup.form.method.count() > 0, timeout=WAIT_MS)
    ours = str(path.parent.parent.resolve())
    qtbot.waitUntil(lambda: ours in [source.key for source in train.setup.cases._sources], timeout=30_000)
    train.setup.cases.check(ours)
    assert [source.key for source in train.setup.cases.checked()] == [ours]
    assert train.setup.form.start_from.currentText() == "tiny", "the model that was corrected goes on"
    train.setup.form.choose(preset="smoke", length="steps", amount=6, name="mine", unreviewed="ignore")
    above = (region.centre[0] + 1, *region.centre[1:])
    correct_there(qtbot, viewer, layer, correct.correcting, above, structure)
    labels = layer.data.copy()
    assert (labels == LIVER).sum() != (first == LIVER).sum()
    click(qtbot, train.start)
    qtbot.waitUntil(lambda: train.feed.folder is not None or train.error.isVisible(), timeout=WAIT_MS)
    assert not train.error.isVisible(), train.error.sentence.text()
    run = train.feed.folder
    assert "train" in [kept.name for kept in snapshots(path)]
    entry = yaml.safe_load((run / "cases" / "cases.yaml").read_text())["cases"][0]
    assert "liver" in entry["annotated"]
    taught = np.asarray(nib.load(run / "cases" / entry["venous"]["labels"]).dataobj)
    assert (taught == LIVER).sum() == (labels == LIVER).sum(), "the last stroke too"
    qtbot.waitUntil(
        lambda: train.now is not None and train.now.state in ("finished", "failed", "lost"), timeout=WAIT_MS
    )  # fmt: skip
    assert train.now.state == "finished", train.now.cause + train.now.log

    # --- used
    click(qtbot, train.uses.use)
    qtbot.waitUntil(lambda: session.model.card.name == "mine", timeout=WAIT_MS)
    assert docks["Segment"].picker.chooser.itemText(0) == "mine"
    segment(qtbot, docks["Segment"], session)
    assert session.run.prediction.model_name == "mine"
    assert np.array_equal(annotating.layer.data, labels), "a new prediction leaves what was corrected alone"
    fused = np.array(session.run.prediction.fused_labels)
    qtbot.waitUntil(lambda: len(Workspace.open(annotating.folder).predictions) == 2, timeout=WAIT_MS)

    # --- the next day
    session.close()
    viewer.close()
    viewer, docks, session = start_napari(make_napari_viewer)
    open_sample(qtbot, docks["Study"], session)
    qtbot.waitUntil(lambda: session.annotating.layer is not None and session.run is not None, timeout=WAIT_MS)
    assert np.array_equal(session.annotating.layer.data, labels)
    assert session.annotating.states[LIVER] == "complete"
    assert session.run.prediction.model_name == "mine"
    assert np.array_equal(session.run.prediction.fused_labels, fused)
    assert session.model.card.name == "mine" and docks["Segment"].picker.chooser.itemText(0) == "mine"
    train = docks["Train"]
    bring_forward(train)
    qtbot.waitUntil(lambda: train.now is not None and train.now.state == "finished", timeout=WAIT_MS)
    assert train.feed.folder == run and train.uses.use.isVisible()
    session.close()
