"""A study from end to end: phases, fusing, notes, report, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from inference_cases import LABELS

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.field import DenseField
from napari_multiphase.imaging.fusion import carry, fuse
from napari_multiphase.inference.save import save_prediction
from napari_multiphase.inference.segment import fuse_phases, segment
from napari_multiphase.model import Model
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase

CPU = SegmentOptions(device="cpu")
FILES = {
    "arterial_labels.nii.gz",
    "venous_labels.nii.gz",
    "arterial_confidence.nii.gz",
    "venous_confidence.nii.gz",
    "fused_labels.nii.gz",
    "fused_confidence.nii.gz",
    "report.json",
}


def test_pair_end_to_end(small_model: Model, pair: Study, tmp_path: Path) -> None:
    events: list[Event] = []
    prediction = segment(pair, small_model, CPU, on_event=events.append, scratch=tmp_path / "scratch")
    assert prediction.study_id == pair.id
    assert set(prediction.phases) == set(Phase)
    for phase, result in prediction.phases.items():
        assert result.labels.shape == pair.volumes[phase].shape
        assert set(np.unique(result.labels)) <= set(LABELS)
        assert isinstance(result.labels, np.memmap)
    assert prediction.fused_grid == pair.volumes[Phase.VENOUS].grid
    assert prediction.fused_labels.shape == pair.volumes[Phase.VENOUS].shape
    assert any("not registered" in note for note in prediction.notes)
    assert any("phantoms only" in note for note in prediction.notes)
    fractions = [e.fraction for e in events if e.fraction is not None]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert "arterial, tile 1 of" in " ".join(e.message for e in events)
    assert all(e.remaining_s is not None for e in events if ", tile " in e.message)


def test_fused_is_the_fusion_of_the_carried_phases(small_model: Model, pair: Study) -> None:
    moved = np.eye(4)
    moved[2, 3] = 4.0
    study = pair.with_transform(PhaseTransform(moved, "rigid"))
    prediction = segment(study, small_model, SegmentOptions(device="cpu", phase_weight=0.3))
    grids = {p: v.grid for p, v in study.volumes.items()}
    best = {p: r.two_best for p, r in prediction.phases.items()}
    arterial = carry(best[Phase.ARTERIAL], grids[Phase.ARTERIAL], grids[Phase.VENOUS], moved)
    labels, confidence = fuse(arterial, best[Phase.VENOUS], 0.3)
    np.testing.assert_array_equal(prediction.fused_labels, labels)
    np.testing.assert_array_equal(prediction.fused_confidence, confidence)
    assert any("rigid" in note for note in prediction.notes)
    assert prediction.phase_weight == 0.3


@pytest.mark.parametrize("dense", [False, True])
def test_both_phases_can_be_fused_on_the_arterial_grid(small_model: Model, pair: Study, dense: bool) -> None:
    moved = np.eye(4)
    moved[2, 3] = 4.0
    grids = {p: v.grid for p, v in pair.volumes.items()}
    fields = []
    if dense:  # the same movement, written as dense maps of both scans
        for phase, shift in ((Phase.VENOUS, 4.0), (Phase.ARTERIAL, -4.0)):
            field = np.zeros((*grids[phase].shape, 3), np.float32)
            field[..., 2] = shift
            fields.append(DenseField(field, grids[phase]))
    study = pair.with_transform(PhaseTransform(moved, "mind" if dense else "rigid", {}, *fields))
    prediction = segment(study, small_model, SegmentOptions(device="cpu", phase_weight=0.3, fused_on=Phase.ARTERIAL))
    best = {p: r.two_best for p, r in prediction.phases.items()}
    venous = carry(best[Phase.VENOUS], grids[Phase.VENOUS], grids[Phase.ARTERIAL], np.linalg.inv(moved))
    labels, confidence = fuse(best[Phase.ARTERIAL], venous, 0.3)
    np.testing.assert_array_equal(prediction.fused_labels, labels)
    np.testing.assert_array_equal(prediction.fused_confidence, confidence)
    assert prediction.fused_on is Phase.ARTERIAL and prediction.fused_grid == grids[Phase.ARTERIAL]
    only = fuse_phases(study, prediction.phases, 1.0, on=Phase.ARTERIAL)
    np.testing.assert_array_equal(only[1], prediction.phases[Phase.ARTERIAL].labels)


def test_weight_zero_is_the_venous_result_itself(small_model: Model, pair: Study) -> None:
    prediction = segment(pair, small_model, SegmentOptions(device="cpu", phase_weight=0.0))
    venous = prediction.phases[Phase.VENOUS]
    np.testing.assert_array_equal(prediction.fused_labels, venous.labels)
    np.testing.assert_array_equal(prediction.fused_confidence, venous.confidence)


def test_weight_one_is_the_arterial_result_where_it_was_seen(small_model: Model, pair: Study) -> None:
    prediction = segment(pair, small_model, SegmentOptions(device="cpu", phase_weight=1.0))
    # The arterial grid starts one slice above the venous one and ends with it.
    np.testing.assert_array_equal(prediction.fused_labels[1:], prediction.phases[Phase.ARTERIAL].labels)
    np.testing.assert_array_equal(prediction.fused_labels[0], prediction.phases[Phase.VENOUS].labels[0])


@pytest.mark.parametrize("phase", list(Phase))
def test_one_phase_alone_works_and_says_what_is_missing(
    small_model: Model, pair: Study, phase: Phase, tmp_path: Path
) -> None:
    study = Study("alone", {phase: pair.volumes[phase]})
    prediction = segment(study, small_model, CPU)
    np.testing.assert_array_equal(prediction.fused_labels, prediction.phases[phase].labels)
    np.testing.assert_array_equal(prediction.fused_confidence, prediction.phases[phase].confidence)
    assert any(f"the {phase.other} scan is missing" in note for note in prediction.notes)
    names = {p.name for p in save_prediction(prediction, study, tmp_path / "out")}
    assert names == {n for n in FILES if not n.startswith(phase.other)}


def test_same_again_and_the_same_from_files(small_model: Model, pair: Study, tmp_path: Path) -> None:
    one, two = segment(pair, small_model, CPU), segment(pair, small_model, CPU, scratch=tmp_path)
    np.testing.assert_array_equal(one.fused_labels, two.fused_labels)
    np.testing.assert_array_equal(one.fused_confidence, two.fused_confidence)


def test_refusing_to_fuse_again_needs_no_network(small_model: Model, pair: Study) -> None:
    prediction = segment(pair, small_model, SegmentOptions(device="cpu", phase_weight=0.8))
    home, labels, confidence = fuse_phases(pair, prediction.phases, 0.8)
    assert home is prediction.fused_on is Phase.VENOUS and prediction.fused_grid == pair.volumes[home].grid
    np.testing.assert_array_equal(labels, prediction.fused_labels)
    np.testing.assert_array_equal(confidence, prediction.fused_confidence)


@pytest.mark.parametrize("stop_at", ["arterial, tile 2", "venous, tile 2", "fusing"])
def test_cancel_leaves_nothing(small_model: Model, pair: Study, tmp_path: Path, stop_at: str) -> None:
    cancel = Cancel()

    def listen(event: Event) -> None:
        if event.message.startswith(stop_at):
            cancel.set()

    with pytest.raises(Cancelled):
        segment(pair, small_model, CPU, on_event=listen, cancel=cancel, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_report_says_inputs_plan_times_memory_and_volumes(small_model: Model, pair: Study) -> None:
    prediction = segment(pair, small_model, CPU)
    report = json.loads(json.dumps(dict(prediction.report)))
    assert len(report["inputs"]["arterial"]["sha256"]) == 64
    assert report["model"]["labels"] == list(small_model.card.labels)
    assert report["model"]["weights_sha256"] == small_model.card.weights_sha256
    assert report["plan"]["device"] == "cpu"
    assert {"plan", "load", "segment arterial", "segment venous", "fuse", "total"} <= set(report["seconds"])
    assert 50 < report["peak_memory_mb"] < 20000
    venous = prediction.phases[Phase.VENOUS].labels
    for row in report["structures"]:
        count = int((venous == row["id"]).sum())
        if count:
            assert row["ml"]["venous"] == pytest.approx(count * 0.064, abs=1e-3)
            hu = pair.volumes[Phase.VENOUS].data[venous == row["id"]].mean()
            assert row["mean_hu"]["venous"] == pytest.approx(hu, abs=0.051)
    assert report["warnings"] == list(prediction.notes)


def test_files_lie_on_their_sources_grids(small_model: Model, pair: Study, tmp_path: Path) -> None:
    prediction = segment(pair, small_model, CPU)
    written = save_prediction(prediction, pair, tmp_path / "new" / "out")
    assert {p.name for p in written} == FILES
    assert {p.name for p in (tmp_path / "new" / "out").iterdir()} == FILES
    for name, phase in (("arterial", Phase.ARTERIAL), ("venous", Phase.VENOUS), ("fused", Phase.VENOUS)):
        image = nib.load(tmp_path / "new" / "out" / f"{name}_confidence.nii.gz")
        assert image.dataobj.slope == pytest.approx(1 / 255)
        assert np.asanyarray(image.dataobj).max() <= 1 + 1e-6  # the file's slope is a float32
        labels = nib.load(tmp_path / "new" / "out" / f"{name}_labels.nii.gz")
        assert sorted(labels.shape) == sorted(pair.volumes[phase].shape)
        expected = prediction.fused_labels if name == "fused" else prediction.phases[phase].labels
        ml = np.bincount(np.asanyarray(labels.dataobj).astype(int).ravel(), minlength=8)
        np.testing.assert_array_equal(ml, np.bincount(expected.ravel(), minlength=8))


def test_saving_is_all_or_nothing(
    small_model: Model, pair: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = segment(pair, small_model, CPU)
    out = tmp_path / "out"
    out.mkdir()
    (out / "venous_labels.nii.gz").write_text("an older result")
    (out / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full_disk(path: Path, *args, **kwargs) -> None:
        if path.name == "fused_labels.nii.gz":
            raise UserError(f"cannot write {path}: the disk is full: free some space or choose another folder")
        path.write_text("part")

    monkeypatch.setattr("napari_multiphase.inference.save.write_on_source", full_disk)
    with pytest.raises(UserError, match="disk is full"):
        save_prediction(prediction, pair, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    with pytest.raises(UserError, match="disk is full"):
        save_prediction(prediction, pair, tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()
    monkeypatch.undo()
    save_prediction(prediction, pair, out)
    assert (out / "notes.txt").read_text() == "mine"
    assert {p.name for p in out.iterdir()} == FILES | {"notes.txt"}


def test_results_cannot_land_on_another_case(small_model: Model, pair: Study, tmp_path: Path) -> None:
    prediction = segment(pair, small_model, CPU)
    with pytest.raises(UserError, match="belong to study study-1"):
        save_prediction(prediction, replace(pair, id="another"), tmp_path / "out")
    with pytest.raises(UserError, match="DICOM SEG refers to DICOM images"):
        save_prediction(prediction, pair, tmp_path / "out", format="dicom-seg")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_prediction(prediction, pair, blocked / "out")
    assert not (tmp_path / "out").exists()


_GROWTH = """
import sys, json, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from inference_cases import everywhere, run, settings_for
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.memory import PeakMemory
from napari_multiphase.volume import Grid
import numpy as np
weight = torch.randn(24, 1, 1, 1, 1)
peaks = []
for depth in (48, 48, 240):
    grid = Grid((depth, 96, 96), (3.0, 2.0, 2.0))
    data = np.broadcast_to(np.int16(40), grid.shape)
    scan = Scan(f"arterial{depth}", (data,), grid, grid, everywhere(grid), (-200.0, 600.0), tuple(range(24)))
    memory = PeakMemory()
    run(lambda x: x * weight[None, :, 0], scan, settings_for((32, 96, 96)), scratch=Path(sys.argv[2]))
    peaks.append(memory.peak_mb())
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's resettable mark of peak memory")
def test_memory_does_not_grow_with_the_length_of_the_scan(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Five times the slices: all probabilities would be 170 MB more, and are never held."""
    here = str(request.path.parent)
    # Large blocks go back to the system when freed, so that the peak is what was held, not what the allocator kept.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    command = [sys.executable, "-c", _GROWTH, here, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    _, short, long = json.loads(done.stdout.splitlines()[-1])
    print(f"peak {short:.0f} MB for 48 slices, {long:.0f} MB for 240")
    assert long - short < 30
