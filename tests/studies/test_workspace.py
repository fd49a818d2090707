"""The study's folder: round trip, refusals, and nothing that leaves it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from tests.studies.conftest import Writer, box_of_tissue

from napari_multiphase.errors import UserError
from napari_multiphase.field import DenseField
from napari_multiphase.io.places import data_folder
from napari_multiphase.io.transforms import write_transform
from napari_multiphase.studies import Workspace, build_study, default_folder, find_scans, keep, open_study, recalled
from napari_multiphase.studies import workspace as module
from napari_multiphase.studies.study_file import STUDY_FILE, VERSION
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Grid, Phase, Volume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def test_round_trip(folder: Path, study: Study) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (1.5, -2.0, 7.25)
    Workspace.create(folder, study.with_transform(PhaseTransform(shift, "rigid", {"sentence": "ok", "mi_after": 1.1})))
    again = Workspace.open(folder).study()
    assert again.id == study.id
    assert again.guesses == study.guesses
    assert again.transform is not None
    assert np.array_equal(again.transform.venous_to_arterial_mm, shift)
    assert again.transform.quality["mi_after"] == 1.1
    for phase, volume in study.volumes.items():
        assert np.array_equal(again.volumes[phase].data, volume.data)
    assert open_study([folder]).id == study.id
    assert Workspace.open(folder / STUDY_FILE).id == study.id


def test_a_kept_transform_comes_back_when_the_same_scans_are_opened(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    assert recalled(study).transform is None
    shift = np.eye(4)
    shift[2, 3] = 4.5
    assert keep(study).transform is None
    moved = study.with_transform(PhaseTransform(shift, "rigid"))
    workspace = keep(moved)
    assert workspace.folder == default_folder(study).resolve()
    again = recalled(study).transform
    assert again is not None
    assert np.array_equal(again.venous_to_arterial_mm, shift)
    (workspace.folder / STUDY_FILE).write_text("{")
    assert recalled(study) is study


def dense(size_mm: float) -> PhaseTransform:
    grid = Grid((3, 4, 5), (9.0, 8.0, 7.0), (1.0, 2.0, 3.0))
    there = np.random.default_rng(0).normal(scale=size_mm, size=(*grid.shape, 3)).astype(np.float32)
    return PhaseTransform(np.eye(4), "mind", {"mi_after": size_mm}, DenseField(there, grid), DenseField(-there, grid))


def test_a_dense_transform_is_kept_as_itk_files_and_replaced_whole(folder: Path, study: Study) -> None:
    workspace = Workspace.create(folder, study.with_transform(dense(2.0)))
    found = Workspace.open(folder).study().transform
    assert found is not None and found.method == "mind" and dict(found.quality) == {"mi_after": 2.0}
    for phase in Phase:
        assert np.array_equal(found.into(phase).displacement_mm, dense(2.0).into(phase).displacement_mm)
    (kept,) = (folder / "registration").iterdir()
    assert sitk.ReadTransform(str(kept / "arterial_to_venous.h5")).GetTransformEnum() == sitk.sitkDisplacementField
    keep(study.with_transform(dense(2.0)), folder)
    assert [p.name for p in (folder / "registration").iterdir()] == [kept.name]  # the same: nothing is written
    keep(study.with_transform(dense(3.0)), folder)
    (newer,) = (folder / "registration").iterdir()
    assert newer != kept
    workspace = Workspace.open(folder)
    workspace.set_transform(None)
    assert Workspace.open(folder).transform is None and not list((folder / "registration").iterdir())


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_dense_transform_costs_the_registration_and_not_the_study(
    folder: Path, study: Study, damage: str
) -> None:
    Workspace.create(folder, study.with_transform(dense(2.0)))
    (kept,) = (folder / "registration").iterdir()
    file = kept / "venous_to_arterial.h5"
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:900])
    again = Workspace.open(folder).study()
    assert again.transform is None
    (finding,) = [f for f in again.findings if "registration cannot be used" in f.text]
    assert finding.level == "warning" and "venous_to_arterial.h5" in finding.text


def test_another_studys_folder_is_not_written_over(folder: Path, study: Study) -> None:
    keep(study, folder)
    one_phase = build_study({Phase.VENOUS: study.volumes[Phase.VENOUS]})
    with pytest.raises(UserError, match="another study"):
        keep(one_phase, folder)


def test_changes_are_kept_and_counted(folder: Path, study: Study) -> None:
    workspace = Workspace.create(folder, study)
    workspace.set_transform(PhaseTransform.identity())
    (workspace.folder / "made").mkdir()
    workspace.add_prediction("made", "pcn phantom/v1", notes=("rigid only",))
    workspace.set_annotation(Phase.VENOUS, "annotations/venous.sqlite")
    again = Workspace.open(folder)
    assert again.revision == 3
    assert again.transform is not None
    assert [entry.folder for entry in again.predictions] == ["predictions/001-pcn-phantom-v1"]
    assert again.predictions[0].notes == ["rigid only"]
    assert again.annotations[Phase.VENOUS].file == "annotations/venous.sqlite"
    assert again.title == "scans"
    again.set_transform(None)
    assert Workspace.open(folder).transform is None


def test_scans_inside_the_folder_are_named_relative(study: Study, tmp_path: Path) -> None:
    place = tmp_path / "scans"
    Workspace.create(place, study)
    data = json.loads((place / STUDY_FILE).read_text())
    assert data["scans"]["arterial"]["path"] == "arterial.nii.gz"
    moved = tmp_path / "elsewhere"
    place.rename(moved)
    assert Workspace.open(moved).study().id == study.id


def test_a_workspace_lists_its_sources_and_nothing_else(
    study: Study, tmp_path: Path, folder: Path, write_nifti: Writer
) -> None:
    Workspace.create(folder, study)
    write_nifti("kept/annotations/venous.nii.gz", box_of_tissue(9))
    found = find_scans([folder])
    assert sorted(scan.path for scan in found) == sorted((tmp_path / "scans").resolve().glob("*.nii.gz"))
    assert all(scan.usable for scan in found)
    study.volumes[Phase.VENOUS].source.path.unlink()
    lost = [scan for scan in find_scans([folder]) if not scan.usable]
    assert len(lost) == 1
    assert "is gone" in lost[0].problems[0]


def test_a_changed_scan_is_noticed(folder: Path, study: Study, write_nifti: Writer) -> None:
    Workspace.create(folder, study)
    write_nifti("scans/venous.nii.gz", box_of_tissue(5))
    workspace = Workspace.open(folder)
    with pytest.raises(UserError, match="has changed"):
        workspace.study()
    findings = workspace.study(accept_changed=True).findings
    assert findings[0].level == "warning"
    assert "has changed" in findings[0].text


def test_a_lost_scan_is_said(folder: Path, study: Study) -> None:
    Workspace.create(folder, study)
    study.volumes[Phase.ARTERIAL].source.path.unlink()
    workspace = Workspace.open(folder)
    with pytest.raises(UserError, match="is gone"):
        workspace.study()


def test_two_writers_do_not_overwrite_each_other(folder: Path, study: Study) -> None:
    first = Workspace.create(folder, study)
    second = Workspace.open(folder)
    second.set_transform(PhaseTransform.identity())
    with pytest.raises(UserError, match="another window"):
        first.set_transform(None)
    assert Workspace.open(folder).transform is not None


def test_what_is_only_added_goes_on_top_of_what_another_wrote(folder: Path, study: Study) -> None:
    first = Workspace.create(folder, study)
    second = Workspace.open(folder)
    for number, workspace in enumerate((first, second, first)):
        (folder / str(number)).mkdir()
        workspace.add_prediction(str(number), f"m{number}")
    second.set_annotation(Phase.ARTERIAL, "annotations/arterial.sqlite")
    found = Workspace.open(folder)
    assert [entry.model for entry in found.predictions] == ["m0", "m1", "m2"]
    assert found.annotations[Phase.ARTERIAL].file == "annotations/arterial.sqlite"
    assert found.revision == 4


def test_a_prediction_that_cannot_be_remembered_takes_no_name(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.create(folder, study)
    (folder / "made").mkdir()

    def full(*_of: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "_write", full)
        with pytest.raises(UserError, match="full"):
            workspace.add_prediction("made", "pcn")
    assert (folder / "made").is_dir() and not list((folder / "predictions").iterdir())
    assert workspace.add_prediction("made", "pcn").folder == "predictions/001-pcn"


def test_many_who_keep_the_same_study_at_once_keep_it_once(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segment keeps its prediction while Correct begins: both make the workspace, in processes of their own."""
    one_at_a_time = threading.Lock()  # HDF5 wants that of threads, which stand for the processes here

    def write(place: Path, transform: PhaseTransform) -> None:
        with one_at_a_time:
            write_transform(place, transform)

    monkeypatch.setattr(module, "write_transform", write)
    for attempt in range(5):
        shift = np.eye(4)
        shift[2, 3] = 1.0 + attempt
        folder, moved = tmp_path / f"kept{attempt}", study.with_transform(PhaseTransform(shift, "rigid"))
        together = threading.Barrier(6)

        def begin(number: int, folder: Path = folder, moved: Study = moved, gate: threading.Barrier = together) -> None:
            gate.wait()
            kept = keep(moved, folder)
            (folder / str(number)).mkdir()
            (folder / str(number) / "mark").write_text(str(number))
            kept.add_prediction(str(number), "pcn")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(begin, range(6)))
        found = Workspace.open(folder)
        assert found.transform is not None and np.array_equal(found.transform.venous_to_arterial_mm, shift)
        assert {entry.folder for entry in found.predictions} == {f"predictions/{n:03d}-pcn" for n in range(1, 7)}
        assert {(folder / entry.folder / "mark").read_text() for entry in found.predictions} == set("012345")
        assert [f"registration/{p.name}" for p in (folder / "registration").iterdir()] == [
            json.loads((folder / STUDY_FILE).read_text())["transform"]["folder"]
        ]


def test_a_prediction_kept_meanwhile_does_not_stop_a_new_registration(folder: Path, study: Study) -> None:
    first = Workspace.create(folder, study)
    (folder / "p").mkdir()
    Workspace.open(folder).add_prediction("p", "pcn")
    first.set_transform(PhaseTransform.identity())
    found = Workspace.open(folder)
    assert found.transform is not None and len(found.predictions) == 1


def test_a_study_of_version_2_is_read(folder: Path, study: Study) -> None:
    Workspace.create(folder, study).set_annotation(Phase.VENOUS, "a.sqlite")
    data = json.loads((folder / STUDY_FILE).read_text())
    data["annotations"]["venous"]["structures"] = {"1": "corrected"}
    (folder / STUDY_FILE).write_text(json.dumps({**{k: v for k, v in data.items() if k != "title"}, "version": 2}))
    found = Workspace.open(folder)
    assert found.annotations[Phase.VENOUS].file == "a.sqlite"
    assert found.title == study.id


def test_an_existing_study_is_not_overwritten(folder: Path, study: Study) -> None:
    Workspace.create(folder, study)
    with pytest.raises(UserError, match="holds a study already"):
        Workspace.create(folder, study)


def test_a_scan_from_memory_cannot_be_kept(folder: Path) -> None:
    study = build_study({Phase.VENOUS: Volume.from_array(box_of_tissue(0), (5.0, 4.0, 4.0))})
    with pytest.raises(UserError, match="never read from a file"):
        Workspace.create(folder, study)
    assert not (folder / STUDY_FILE).exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: {**data, "version": VERSION + 1}, "newer version"),
        (lambda data: {**data, "version": "1"}, "newer version"),
        (lambda data: {**data, "format": "something else"}, "not written by this program"),
        (lambda data: [], "not written by this program"),
        (lambda data: {**data, "scans": {}}, "damaged"),
        (lambda data: {**data, "surprise": 1}, "damaged"),
        (lambda data: {**data, "id": "../../x"}, "damaged"),
        (
            lambda data: {**data, "predictions": [{"folder": "../outside", "model": "m", "created": "now"}]},
            "damaged",
        ),
        (
            lambda data: {**data, "transform": {"venous_to_arterial_mm": [[2, 0], [0, 1]], "method": "rigid"}},
            "damaged",
        ),
    ],
)
def test_damaged_files_are_refused_in_words(
    folder: Path, study: Study, damage: Callable[[dict], object], words: str
) -> None:
    Workspace.create(folder, study)
    path = folder / STUDY_FILE
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=words):
        Workspace.open(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / STUDY_FILE).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Workspace.open(folder)


def test_a_folder_without_a_study_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Workspace.open(folder)
    folder.mkdir()
    with pytest.raises(UserError, match="holds no study"):
        Workspace.open(folder)


def test_stored_files_stay_inside(folder: Path, study: Study, tmp_path: Path) -> None:
    workspace = Workspace.create(folder, study)
    for outside in ("../x", tmp_path / "x", "a/../../x", folder):
        with pytest.raises(UserError, match="inside"):
            workspace.add_prediction(outside, "pcn")
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UserError):
        workspace.resolve("link/secret")
    assert Workspace.open(folder).revision == 0


@given(text=st.text(max_size=30))
def test_no_text_leads_out_of_the_folder(text: str) -> None:
    place = Path("/study/folder") if sys.platform != "win32" else Path("C:/study/folder")
    try:
        found = Workspace(place, None).resolve(text)  # type: ignore[arg-type]
    except UserError:
        return
    assert found.is_relative_to(place)


def test_default_folder_follows_the_system(monkeypatch: pytest.MonkeyPatch, study: Study, tmp_path: Path) -> None:
    monkeypatch.delenv("MULTIPHASE_DATA_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder(study) == tmp_path / "napari-multiphase" / "studies" / study.id
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/invalid")
    assert data_folder() == Path.home() / ".local" / "share" / "napari-multiphase"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert data_folder() == Path.home() / "Library" / "Application Support" / "napari-multiphase"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert data_folder() == tmp_path / "local" / "napari-multiphase"
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "mine"))
    assert data_folder() == tmp_path / "mine"


@pytest.mark.real_ct
def test_one_acquisition_of_a_shared_series_is_found_again(folder: Path, real_data: Path) -> None:
    study = open_study([real_data / "hcc_002_dicom.zip"])
    Workspace.create(folder, study)
    again = Workspace.open(folder).study()
    for phase, volume in study.volumes.items():
        assert np.array_equal(again.volumes[phase].data, volume.data)
        assert again.volumes[phase].source.sha256 == volume.source.sha256
