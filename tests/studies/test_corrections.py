"""Corrected studies as cases: which voxels count, whose files they are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.studies.conftest import box_of_tissue

from napari_multiphase.config import DatasetConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.datasets import read_dataset
from napari_multiphase.io.dicom import write_series
from napari_multiphase.io.images import read_image, read_labels
from napari_multiphase.labels import STRUCTURES, UNKNOWN
from napari_multiphase.studies import Workspace, open_study
from napari_multiphase.studies.annotation import Annotation
from napari_multiphase.studies.corrections import FRINGE_ML, write_cases
from napari_multiphase.studies.predictions import keep_prediction
from napari_multiphase.study import PhasePrediction, PhaseTransform, Prediction, Study
from napari_multiphase.training.sources import DatasetSource, channel_table
from napari_multiphase.volume import Phase, Volume

A, V = Phase.ARTERIAL, Phase.VENOUS
SHAPE = (12, 40, 40)
MODEL = "pcn-phantom"
EVERY = frozenset(STRUCTURES)


def predicted() -> np.ndarray:
    """Liver (1), spleen (2), pancreas (6)."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:16, 10:16], labels[:, 10:16, 24:30], labels[:, 20:24, 18:22] = 1, 2, 6
    return labels


def sure() -> np.ndarray:
    """Encoded confidence: the slices from 6 on are unsure."""
    confidence = np.full(SHAPE, 255, np.uint8)
    confidence[6:] = 3
    return confidence


def keep(study: Study, workspace: Workspace, by: str = MODEL, **report) -> None:
    phases = {phase: PhasePrediction(predicted(), sure(), None) for phase in study.volumes}
    grid = study.volumes[V].grid
    made = Prediction(study.id, by, phases, predicted(), sure(), grid, V, report=report)
    keep_prediction(workspace, study, made)


def correct(
    workspace: Workspace, phase: Phase, grid, states=None, model: str = MODEL, z: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a bit of pancreas into a slice of a phase and save; labels and what was reviewed."""
    file = workspace.annotation_file(phase)
    file.parent.mkdir(parents=True, exist_ok=True)
    labels, reviewed = predicted(), np.zeros(SHAPE, bool)
    with Annotation.create(file, labels, grid, model=model) as annotation:
        labels = labels.copy()
        labels[z, 20:26, 18:22] = 6
        annotation.save(labels, reviewed, {**annotation.states, **(states or {})})
    workspace.set_annotation(phase, file)
    return labels, reviewed


@pytest.fixture
def workspace(study: Study, tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "kept", study)
    keep(study, made)
    return made


def test_beside_a_corrected_mistake_the_same_prediction_teaches_nothing(study, workspace, tmp_path):
    labels, reviewed = correct(workspace, V, study.volumes[V].grid, z=3)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    taught = DatasetSource(case).read().labels[V].data
    assert (taught[3, 24:26, 18:22] == 6).all() and (taught[reviewed] == labels[reviewed]).all()
    assert (taught[1:6, 26:28, 16:24] == 255).all() and (taught[0] == labels[0]).all()  # 10 mm, slices of 5 mm
    assert (taught[3, 20:24, 18:22] == 6).all() and (taught[3, 10:16, 10:16] == 1).all()


def test_what_was_painted_counts_and_of_the_rest_what_the_model_was_sure_of(study, workspace, tmp_path):
    labels, reviewed = correct(workspace, V, study.volumes[V].grid)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    source = DatasetSource(case)
    assert source.annotated == frozenset() and source.told == EVERY and source.corrected
    assert source.phases == (A, V) and source.labelled == (V,)
    raw = source.read()
    wanted = np.where(reviewed | (sure() == 255), labels, 255)
    assert np.array_equal(raw.labels[V].data, wanted) and reviewed.sum() == 8
    assert np.array_equal(raw.reviewed[V].data, reviewed)
    assert raw.labels[V].grid.matches(study.volumes[V].grid)
    assert case.scans[V].image == Path(study.volumes[V].source.path) and not raw.foreign[V]


def test_how_much_of_each_structure_was_changed_is_told(study, workspace, tmp_path):
    labels, _ = correct(workspace, V, study.volumes[V].grid)
    first, other = predicted(), labels != predicted()
    for how in ("sure", "ignore"):
        (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / how, how)))
        drawn = np.count_nonzero(other & (labels == 6)) / np.count_nonzero(first == 6)
        assert drawn > 0 and case.changed[6] == pytest.approx(drawn, abs=1e-5)
        assert case.changed.keys() == DatasetSource(case).told and not case.changed[2]


@pytest.mark.parametrize("more", [0, 1])
def test_less_than_a_fifth_of_a_millilitre_is_no_change(study, workspace, tmp_path, more):
    """Of the spleen: it was drawn over at its edge when something beside it was corrected."""
    count = int(FRINGE_ML / study.volumes[V].grid.voxel_ml - 1e-9) + more
    file = workspace.annotation_file(V)
    file.parent.mkdir(parents=True, exist_ok=True)
    with Annotation.create(file, predicted(), study.volumes[V].grid, model=MODEL) as annotation:
        labels = predicted()
        labels[tuple(np.argwhere(labels == 2)[:count].T)] = 6
        annotation.save(labels, np.zeros(SHAPE, bool))
    workspace.set_annotation(V, file)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    share = count / np.count_nonzero(predicted() == 2)
    assert count > 1 and case.changed[2] == pytest.approx(share if more else 0, abs=1e-5)


def test_where_the_prediction_is_gone_nobody_tells_what_was_changed(study, tmp_path):
    workspace = Workspace.create(tmp_path / "kept", study)
    correct(workspace, V, study.volumes[V].grid)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    assert not case.changed


def test_a_complete_structure_is_annotated_and_where_it_lies_counts(study, workspace, tmp_path):
    labels, reviewed = correct(workspace, V, study.volumes[V].grid, {6: "complete", 2: "not annotated"})
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases", "unknown")))
    source = DatasetSource(case)
    assert source.annotated == {6} and source.told == EVERY - {2}
    raw = source.read()
    assert np.array_equal(raw.labels[V].data, np.where(reviewed | (labels == 6), labels, UNKNOWN))
    channels = channel_table((0, 1, 6), source.told)[raw.labels[V].data]
    assert set(np.unique(channels)) == {2, 254}  # liver and background were not looked at


def test_what_a_model_tells_apart_is_known_without_the_model(study, workspace, tmp_path):
    """It was used from a folder, or is gone: its prediction says it."""
    keep(study, workspace, "theirs", model={"name": "theirs", "labels": [0, 1, 2, 6, 7]})
    _, reviewed = correct(workspace, V, study.volumes[V].grid, {6: "complete"}, model="theirs")
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases", "ignore")))
    assert reviewed.any() and DatasetSource(case).told == {1, 2, 6, 7}


def test_everything_complete_is_an_ordinary_case(study, workspace, tmp_path):
    labels, _ = correct(workspace, V, study.volumes[V].grid, dict.fromkeys((1, 2, 6), "complete"))
    for how in ("sure", "unknown", "ignore"):
        (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / how, how)))
        source = DatasetSource(case)
        assert source.annotated == EVERY and not source.corrected
        assert np.array_equal(source.read().labels[V].data, labels)


def test_what_is_complete_in_one_phase_alone_is_not_said_of_the_case(study, workspace, tmp_path):
    correct(workspace, A, study.volumes[A].grid, {1: "complete", 6: "complete"})
    correct(workspace, V, study.volumes[V].grid, {6: "complete"})
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    assert DatasetSource(case).annotated == {6}


def test_copies_stay_as_they_were(study, workspace, tmp_path):
    correct(workspace, V, study.volumes[V].grid)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    before = DatasetSource(case).read().labels[V].data
    with Annotation.open(workspace.annotation_file(V), write=True) as annotation:
        annotation.save(np.zeros(SHAPE, np.uint8), annotation.reviewed())
    assert np.array_equal(DatasetSource(case).read().labels[V].data, before)
    with pytest.raises(UserError, match="name a new folder"):
        write_cases([workspace], tmp_path / "cases")


def test_the_transform_goes_along_as_a_rigid_one(study, workspace, tmp_path):
    shift = np.eye(4)
    shift[:3, 3] = (1.5, -2.0, 7.25)
    workspace.set_transform(PhaseTransform(shift, "rigid", {"sentence": "ok"}))
    correct(workspace, V, study.volumes[V].grid)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    assert np.allclose(DatasetSource(case).read().transform, shift)


def test_a_dicom_scan_is_written_beside_its_labels(tmp_path):
    volume = Volume.from_array(box_of_tissue(0), (5.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    write_series(tmp_path / "dicom", volume, phase=V, patient_id="p", study_uid="1.2.3", frame_of_reference_uid="1.2.4")
    study = open_study(venous=tmp_path / "dicom")
    workspace = Workspace.create(tmp_path / "kept", study)
    keep(study, workspace)
    correct(workspace, V, study.volumes[V].grid)
    (case,) = read_dataset(DatasetConfig(path=write_cases([workspace], tmp_path / "cases")))
    image = read_image(case.scans[V].image)
    assert case.scans[V].image.is_relative_to(tmp_path / "cases")
    assert np.array_equal(image.data, study.volumes[V].data) and image.grid.matches(study.volumes[V].grid)
    assert read_labels(case.scans[V].labels).grid.matches(image.grid)


def test_what_teaches_nothing_is_refused(study, workspace, tmp_path):
    with pytest.raises(UserError, match="nothing was reviewed in study kept"):
        write_cases([workspace], tmp_path / "cases")
    assert not (tmp_path / "cases").exists()
    with pytest.raises(UserError, match="no study"):
        write_cases([], tmp_path / "cases")
    with pytest.raises(UserError, match="named twice"):
        write_cases([workspace, workspace], tmp_path / "cases")
