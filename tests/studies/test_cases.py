"""Predictions kept in the study's folder, and the list of all studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.studies import Annotation, Workspace, list_cases
from napari_multiphase.studies.predictions import PREDICTION_FILE, keep_prediction, read_prediction
from napari_multiphase.study import PhasePrediction, Prediction, Study, TwoBest
from napari_multiphase.volume import Phase


@pytest.fixture
def workspace(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    return Workspace.create(tmp_path / "data" / "studies" / study.id, study)


def prediction_of(study: Study, model: str = "pcn", sure: float = 0.75) -> Prediction:
    rng = np.random.default_rng(len(model))

    def maps(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
        return [rng.integers(0, 24, shape).astype(np.uint8) for _ in range(count)]

    phases = {}
    for phase, volume in study.volumes.items():
        labels, confidence, *best = maps(volume.shape, 6)
        phases[phase] = PhasePrediction(labels, confidence, TwoBest(*best))
    venous = study.volumes[Phase.VENOUS]
    fused = maps(venous.shape, 2)
    structures = [
        {"id": 1, "name": "liver", "ml": {"fused": 3.0}, "mean_hu": {}, "mean_confidence": {"fused": sure}},
        {"id": 2, "name": "spleen", "ml": {"fused": 1.0}, "mean_hu": {}, "mean_confidence": {"fused": 0.35}},
        {"id": 6, "name": "pancreas", "ml": {"venous": 1.0}, "mean_hu": {}, "mean_confidence": {}},
    ]
    report = {"structures": structures}
    return Prediction(study.id, model, phases, *fused, venous.grid, Phase.VENOUS, 0.25, ("a note",), report)


def same(first: Prediction, second: Prediction, *, fusible: bool = True) -> None:
    for name in ("study_id", "model_name", "fused_grid", "fused_on", "phase_weight", "notes", "report"):
        assert getattr(first, name) == getattr(second, name)
    assert np.array_equal(first.fused_labels, second.fused_labels)
    assert np.array_equal(first.fused_confidence, second.fused_confidence)
    for phase, result in second.phases.items():
        found = first.phases[phase]
        assert np.array_equal(found.labels, result.labels) and np.array_equal(found.confidence, result.confidence)
        assert (found.two_best is not None) == fusible
        if fusible:
            for name in ("first", "second", "p_first", "p_second"):
                assert np.array_equal(getattr(found.two_best, name), getattr(result.two_best, name))


def test_a_prediction_comes_back_whole(workspace: Workspace, study: Study) -> None:
    first, second = prediction_of(study), prediction_of(study, "hpn 2")
    for prediction in (first, second):
        keep_prediction(workspace, study, prediction)
    kept = Workspace.open(workspace.folder)
    assert [entry.model for entry in kept.predictions] == ["pcn", "hpn 2"]
    older, newer = (read_prediction(kept.resolve(entry.folder)) for entry in kept.predictions)
    same(newer, second)
    same(older, first, fusible=False)  # what only fusing needs is kept of the newest one


def test_a_prediction_of_another_study_is_refused(workspace: Workspace, study: Study) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="belong to study"):
        keep_prediction(workspace, study, replace(prediction_of(study), study_id="abcdef12"))
    assert not workspace.predictions


@pytest.mark.parametrize("damage", ["cut", "gone", "long", "shape", "json"])
def test_damaged_predictions_are_told(workspace: Workspace, study: Study, damage: str) -> None:
    folder = workspace.resolve(keep_prediction(workspace, study, prediction_of(study)).folder)
    file = folder / "venous_labels.z"
    told = json.loads((folder / PREDICTION_FILE).read_text())
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "gone":
        file.unlink()
    elif damage == "long":
        file.write_bytes(bytes(1_000_000))
    elif damage == "shape":
        told["phases"]["venous"]["grid"]["shape"] = [100_000, 100_000, 100_000]
        (folder / PREDICTION_FILE).write_text(json.dumps(told))
    else:
        (folder / PREDICTION_FILE).write_text("[" * 100_000)
    with pytest.raises(UserError, match="segment again"):
        read_prediction(folder)
    assert list_cases()[0].model == "pcn"  # the study is listed all the same


def test_the_list_says_how_far_each_study_is(workspace: Workspace, study: Study, tmp_path: Path) -> None:
    (row,) = list_cases()
    assert (row.title, row.state, row.phases, row.uncertainty, row.problem) == ("scans", "new", tuple(Phase), None, "")
    keep_prediction(workspace, study, prediction_of(study))
    (row,) = list_cases()
    assert row.state == "predicted" and row.model == "pcn"
    assert row.uncertainty == pytest.approx(1 - (3 * 0.75 + 0.35) / 4)
    path = workspace.annotation_file(Phase.VENOUS)
    labels = np.zeros(study.volumes[Phase.VENOUS].shape, np.uint8)
    labels[2, 3, 4:9] = 1
    with Annotation.create(path, labels, study.volumes[Phase.VENOUS].grid, model="pcn") as annotation:
        workspace.set_annotation(Phase.VENOUS, path)
        assert list_cases()[0].state == "predicted"
        labels[2, 3, 4:6] = 2
        annotation.save(labels, annotation.reviewed())
        assert list_cases()[0].states == {Phase.VENOUS: {1: "corrected", 2: "corrected"}}  # read beside the writer
        annotation.save(labels, annotation.reviewed(), {1: "complete", 2: "complete", 6: "not annotated"})
    (row,) = list_cases()
    assert row.state == "complete" and row.edited >= annotation.saved
    study.volumes[Phase.ARTERIAL].source.path.unlink()
    assert list_cases()[0].missing == (Phase.ARTERIAL,)


def test_what_is_damaged_is_listed_with_its_problem(workspace: Workspace, study: Study, tmp_path: Path) -> None:
    path = workspace.annotation_file(Phase.VENOUS)
    shape, grid = study.volumes[Phase.VENOUS].shape, study.volumes[Phase.VENOUS].grid
    Annotation.create(path, np.zeros(shape, np.uint8), grid).close()
    workspace.set_annotation(Phase.VENOUS, path)
    path.write_bytes(b"SQLite format 3\0" + bytes(4000))
    assert "venous.sqlite" in list_cases()[0].problem
    broken = tmp_path / "elsewhere"
    broken.mkdir()
    (broken / "study.json").write_text("{")
    rows = {row.folder: row for row in list_cases(also=[broken, tmp_path / "nothing"])}
    assert len(rows) == 2 and "damaged" in rows[broken].problem
    assert list_cases(tmp_path / "nowhere") == []
