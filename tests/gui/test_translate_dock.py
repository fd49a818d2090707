"""The Translate dock in a real window, by its buttons."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from window_steps import WAIT_MS, click, open_sample

from napari_multiphase.gui.io import sample_paths
from napari_multiphase.volume import Phase

pytestmark = [pytest.mark.gui, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained csgan of tiny networks that, being residual, changes little."""
    torch = pytest.importorskip("torch")
    from napari_multiphase.config import method_config
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods import method

    config = {"segmentor": {"widths": [4, 6]}, "generator": {"widths": [4, 6], "norm": "none", "residual": True}}
    torch.manual_seed(0)
    nets = method("csgan").nets(method_config("csgan", config), 3)
    card = {
        "name": "tiny csgan",
        "method": "csgan",
        "config": config,
        "labels": [0, 1, 2],
        "phases": ["arterial", "venous"],
        "window_hu": [-200, 600],
        "spacing_mm": [8, 6, 6],
        "tile_vox": [32, 64, 64],
        "overlap": 0.25,
        "summary": "Untrained networks.",
        "training_data": "nothing",
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
    }
    folder = tmp_path_factory.mktemp("models") / "tiny-csgan"
    return write_model(folder, card, {name: value.numpy() for name, value in nets.state_dict().items()}).folder


@pytest.fixture
def dock(workbench, translator: Path):
    """The Translate dock in front, with the tiny model."""
    from napari_multiphase.gui.workbench import bring_forward, open_workbench

    made = open_workbench(workbench[0])["Translate"]
    made.picker.add_folder(translator)
    bring_forward(made)
    return made


def open_study(qtbot, workbench, dock) -> None:
    from napari_multiphase.gui.workbench import bring_forward

    _viewer, study_dock, _segment_dock, session = workbench
    bring_forward(study_dock)
    open_sample(qtbot, study_dock, session)
    bring_forward(dock)
    qtbot.waitUntil(lambda: dock.model is not None and dock.model.card.name == "tiny csgan", timeout=WAIT_MS)


def wait_for_result(qtbot, session, dock, *, figures: bool) -> None:
    def there() -> bool:
        result = dock.translating.results.get(dock.to)
        done = result is not None and (result.figures is not None or not figures) and not result.stale
        return session.job is None and done

    qtbot.waitUntil(lambda: there() or dock.error.isVisible(), timeout=WAIT_MS)
    assert not dock.error.isVisible(), dock.error.sentence.text()


def test_without_a_study_it_says_what_to_do(workbench, dock, qtbot):
    from napari_multiphase.gui.private import dock_of

    _viewer, study_dock, _segment_dock, _session = workbench
    assert dock.translate.toolTip() == "Open a study first"
    assert dock.empty.isVisible()
    click(qtbot, dock.go_open)
    qtbot.waitUntil(lambda: not dock_of(study_dock).visibleRegion().isEmpty(), timeout=5000)


def test_from_the_preview_to_the_files(workbench, dock, qtbot, tmp_path):
    viewer, study_dock, segment_dock, session = workbench
    open_study(qtbot, workbench, dock)
    listed = [dock.picker.chooser.itemText(i) for i in range(dock.picker.chooser.count())]
    assert "tiny csgan" in listed and "tiny" not in listed and "pcn-phantom" not in listed, "only those that translate"
    _the_preview_follows(qtbot, viewer, session, dock)
    _nothing_is_translated_behind_another_tab(qtbot, viewer, session, dock, study_dock)

    click(qtbot, dock.translate)
    wait_for_result(qtbot, session, dock, figures=True)
    qtbot.waitUntil(lambda: "sample difference" in viewer.layers, timeout=WAIT_MS)
    _the_layers(viewer, session)
    cells = {key: label.text() for key, label in dock.results.figures.cells.items()}
    assert float(cells["mae_hu", "synthetic"]) > 0 and float(cells["psnr_db", "untranslated"]) > 0
    assert "Hounsfield" in dock.results.figures.cells["mae_hu", ""].toolTip()
    assert "800 HU" in dock.results.figures.cells["psnr_db", ""].toolTip()
    assert "rigid transform" in dock.results.aligned.text() and "adds to the error" in dock.results.aligned.text()
    assert not dock.results.structures.isVisible(), "there are no labels yet"
    assert "HU on average" in dock.preview.caption.text()

    _labels_from_a_file(qtbot, session, dock)
    dock.translating.save(dock.to, tmp_path)
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)
    written = nib.load(tmp_path / "synthetic_venous.nii.gz")
    assert written.header["descrip"].tobytes().startswith(b"synthetic image: venous from arterial")
    report = json.loads((tmp_path / "synthetic_venous.json").read_text())
    assert report["compared"]["s_score"]["s_score"] is not None

    model = dock.picker
    model.add_folder(segment_dock.session.model.folder)  # a model that segments only
    qtbot.waitUntil(dock.error.isVisible, timeout=WAIT_MS)
    assert "does not translate between the phases" in dock.error.sentence.text()
    _fits(dock)


def _the_preview_follows(qtbot, viewer, session, dock) -> None:
    feed, grid = dock.preview.feed, session.study.volumes["arterial"].grid
    qtbot.waitUntil(lambda: feed.shown is not None, timeout=WAIT_MS)
    for index in range(20, 40):  # far faster than any network: only the last one has to be shown
        viewer.dims.set_point(0, grid.origin_mm[0] + index * grid.spacing_mm[0])
        qtbot.wait(5)
    qtbot.waitUntil(lambda: feed.shown is not None and feed.shown[-1] == 39 and not feed.busy, timeout=WAIT_MS)
    assert dock.preview.caption.text().startswith("Slice 40 of 64.")
    assert dock.preview.slices.real_title.text() == "real venous"
    assert dock.preview.slices.made.mark == "SYNTHETIC"
    began = time.perf_counter()
    viewer.dims.set_point(0, grid.origin_mm[0] + 30 * grid.spacing_mm[0])
    qtbot.waitUntil(lambda: feed.shown[-1] == 30, timeout=WAIT_MS)
    print(f"preview shown {time.perf_counter() - began:.2f} s after scrolling")
    dock.preview.live.click()
    viewer.dims.set_point(0, grid.origin_mm[0] + 31 * grid.spacing_mm[0])
    qtbot.wait(200)
    assert feed.shown[-1] == 30, "switched off"
    back, other = dock.directions[Phase.VENOUS], dock.directions[Phase.ARTERIAL]
    click(qtbot, other)
    assert dock.preview.slices.made_title.text() == "" and not dock.preview.caption.text(), (
        "made for the other direction"
    )
    click(qtbot, back)
    dock.preview.live.click()
    qtbot.waitUntil(lambda: feed.shown is not None and feed.shown[-1] == 31, timeout=WAIT_MS)


def _nothing_is_translated_behind_another_tab(qtbot, viewer, session, dock, study_dock) -> None:
    from napari_multiphase.gui.workbench import bring_forward

    feed, grid = dock.preview.feed, session.study.volumes["arterial"].grid
    bring_forward(study_dock)
    qtbot.waitUntil(lambda: not dock.preview.seen, timeout=WAIT_MS)
    viewer.dims.set_point(0, grid.origin_mm[0] + 33 * grid.spacing_mm[0])
    qtbot.wait(200)
    assert not feed.busy and feed.shown is None
    bring_forward(dock)
    qtbot.waitUntil(lambda: feed.shown is not None and feed.shown[-1] == 33, timeout=WAIT_MS)


def _the_layers(viewer, session) -> None:
    made, difference = viewer.layers["sample synthetic venous"], viewer.layers["sample difference"]
    mine, arterial = made.metadata["multiphase"], session.study.volumes["arterial"]
    assert mine["synthetic"] == "venous from arterial by tiny csgan"
    assert (mine["kind"], mine["phase"], mine["study"]) == ("synthetic", "venous", session.study.id)
    np.testing.assert_allclose(made.scale, arterial.grid.spacing_mm)
    assert made.visible and made.data.shape == arterial.shape
    mark = viewer.canvas.overlays["multiphase_synthetic"]
    assert mark.visible and mark.text == "SYNTHETIC venous"
    made.visible = False
    assert not mark.visible
    difference.visible = True
    assert "blue -100 HU, red +100 HU" in mark.text
    difference.contrast_limits = (-50, 50)
    assert "blue -50 HU, red +50 HU" in mark.text
    assert difference.metadata["multiphase"]["units"] == "HU"
    difference.visible, made.visible = False, True


def _labels_from_a_file(qtbot, session, dock) -> None:
    dock.results.add_labels(sample_paths()[0].with_name("arterial_labels.nii.gz"))
    click(qtbot, dock.results.measure)
    key = ("s_score", "synthetic")
    qtbot.waitUntil(lambda: key in dock.results.figures.cells or dock.error.isVisible(), timeout=WAIT_MS)
    assert not dock.error.isVisible(), dock.error.sentence.text()
    assert "arterial_labels.nii.gz" in dock.results.figures.cells[key].toolTip()
    assert 0 <= float(dock.results.figures.cells[key].text()) <= 1
    structures = dock.results.structures
    structures.chooser.setCurrentIndex(structures.chooser.findText("liver"))
    assert [curve.name for curve in structures.plot.curves] == ["real arterial", "real venous", "synthetic venous"]
    assert "real venous" in structures.words.text()
    qtbot.waitUntil(lambda: session.job is None, timeout=WAIT_MS)


def _fits(dock) -> None:
    """At most 360 px wide, nothing to scroll sideways, nothing scrolled for that is empty."""
    assert dock.width() <= 360
    inner, view = dock.scroll_area.widget(), dock.scroll_area.viewport()
    assert inner.width() <= view.width()
    assert inner.height() <= max(view.height(), inner.heightForWidth(inner.width()))
    assert dock.translate.isVisible()


def test_one_phase_alone_and_a_run_that_is_cancelled(workbench, dock, qtbot, monkeypatch):
    from napari_multiphase.config import TranslateOptions
    from napari_multiphase.gui.workbench import bring_forward

    viewer, _study_dock, segment_dock, session = workbench
    open_study(qtbot, workbench, dock)
    session.choose(next(p for p in session.chosen if str(p) == "arterial"), None)
    qtbot.waitUntil(lambda: session.job is None and len(session.study.phases) == 1, timeout=WAIT_MS)
    to_venous, to_arterial = dock.directions["venous"], dock.directions["arterial"]
    assert not to_venous.isEnabled() and "arterial scan is missing" in to_venous.toolTip()
    assert to_arterial.isChecked()
    click(qtbot, dock.translate)
    wait_for_result(qtbot, session, dock, figures=False)
    qtbot.waitUntil(lambda: "sample synthetic arterial" in viewer.layers, timeout=WAIT_MS)
    assert not dock.results.figures.isVisible() and not dock.results.labels_row.isVisible()
    assert dock.results.title.text() == "Synthetic arterial image"
    assert dock.preview.slices.real_title.text() == "real venous", "the source, as there is no arterial scan"

    bring_forward(segment_dock)
    qtbot.waitUntil(segment_dock.offer.isVisible, timeout=WAIT_MS)
    assert "would segment a synthetic arterial image" in segment_dock.plan.text()
    click(qtbot, segment_dock.offer)
    assert session.model.card.name == "pcn-phantom-translate"
    qtbot.waitUntil(lambda: "synthetic image of the other phase" in segment_dock.plan.text(), timeout=WAIT_MS)
    assert not segment_dock.offer.isVisible()

    bring_forward(dock)
    monkeypatch.setattr(dock.translating, "options", lambda: TranslateOptions(device="mps"))
    click(qtbot, dock.translate)
    qtbot.waitUntil(dock.error.isVisible, timeout=WAIT_MS)
    assert dock.error.sentence.text().startswith("Torch finds no mps device here; choose")
    monkeypatch.undo()

    assert dock.picker.choose("csgan-phantom")
    qtbot.waitUntil(lambda: not dock.preview.feed.busy, timeout=WAIT_MS)
    number = dock.translating.results[dock.to].number
    click(qtbot, dock.translate)
    qtbot.waitUntil(lambda: dock.progress.isVisible() and session.job.handle.running, timeout=WAIT_MS)
    began = time.perf_counter()
    click(qtbot, dock.progress.cancel)
    qtbot.waitUntil(lambda: session.job is None, timeout=10_000)
    print(f"cancelled after {time.perf_counter() - began:.2f} s")
    assert dock.translating.results[dock.to].number == number, "nothing is kept of it"
    assert not dock.error.isVisible(), "cancelling is not a failure"
