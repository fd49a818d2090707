"""nnU-Net, MSD and case lists: which files, which phase, which structures; and what is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from napari_multiphase.config import DatasetConfig, RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.datasets import read_dataset
from napari_multiphase.io.images import read_image
from napari_multiphase.training.preflight import check_case
from napari_multiphase.training.sources import DatasetSource
from napari_multiphase.volume import Phase

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def save(path: Path, shape=(8, 9, 10), value=0, kind=np.int16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.full(shape, value, kind)
    if len(shape) == 4:
        data += np.arange(shape[3], dtype=kind) * 100
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def nnunet(folder: Path, **changes) -> Path:
    for case in ("a", "b"):
        for channel in range(2):
            save(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        save(folder / "labelsTr" / f"{case}.nii.gz", kind=np.uint8)
    save(folder / "labelsTr" / "._a.nii.gz", kind=np.uint8)
    described = {
        "channel_names": {"0": "Arterial", "1": "portal venous"},
        "labels": {"background": 0, "liver": 1, "right_kidney": 2, "ignore": 3},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def test_an_nnunet_folder(tmp_path):
    cases = read_dataset(DatasetConfig(path=nnunet(tmp_path)))
    assert [case.id for case in cases] == ["a", "b"]
    one = cases[0]
    assert one.scans[Phase.VENOUS].image == tmp_path / "imagesTr" / "a_0001.nii.gz"
    assert one.scans[Phase.ARTERIAL].labels == one.scans[Phase.VENOUS].labels == tmp_path / "labelsTr" / "a.nii.gz"
    assert one.values == {0: 0, 1: 1, 2: 3, 3: 255, 255: 255}
    assert one.annotated == {1, 3} and one.transform == "identity"


def test_either_phase_may_be_missing(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "imagesTr" / "a_0000.nii.gz").unlink()
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    assert [list(case.scans) for case in read_dataset(DatasetConfig(path=tmp_path))] == [
        [Phase.VENOUS],
        [Phase.ARTERIAL],
    ]


def test_an_msd_folder_with_two_channels_in_one_file(tmp_path):
    save(tmp_path / "imagesTr" / "p_1.nii.gz", (8, 9, 10, 2), -500)
    save(tmp_path / "labelsTr" / "p_1.nii.gz", kind=np.uint8)
    described = {
        "modality": {"0": "venous", "1": "arterial"},
        "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
        "training": [{"image": "./imagesTr/p_1.nii.gz", "label": "./labelsTr/p_1.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    config = DatasetConfig(path=tmp_path / "dataset.json", structures={"cancer": 22})
    (case,) = read_dataset(config)
    assert case.id == "p_1" and case.values[2] == 22 and case.annotated == {6, 22}
    assert {p: f.channel for p, f in case.scans.items()} == {Phase.VENOUS: 0, Phase.ARTERIAL: 1}
    for phase, value in ((Phase.VENOUS, -500), (Phase.ARTERIAL, -400)):
        volume = read_image(case.scans[phase].image, case.scans[phase].channel)
        assert volume.shape == (10, 9, 8) and (volume.data == value).all()
    with pytest.raises(UserError, match="not one 3-D scan"):
        read_image(case.scans[Phase.VENOUS].image)


def test_version_1_names_images_without_their_channels(tmp_path):
    nnunet(tmp_path)
    described = {
        "modality": {"0": "arterial", "1": "venous"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    (case,) = read_dataset(DatasetConfig(path=tmp_path))
    assert case.id == "a" and case.scans[Phase.VENOUS].image.name == "a_0001.nii.gz"


@pytest.mark.parametrize(
    ("changes", "structures", "message"),
    [
        ({"labels": {"background": 0, "livre": 1, "blob": 2}}, {}, "'livre', 'blob' are not in the label table"),
        ({"labels": {"background": 0, "blob": 1}}, {"blob": 99}, "99, which is not an id"),
        ({}, {"liber": 1}, "has no label 'liber'"),
        ({"labels": {"background": 0, "liver": [1, 2]}}, {}, "unite several values"),
        ({"channel_names": {"0": "CT"}}, {}, "its channels are 'CT'"),
        ({"channel_names": {"0": "early arterial", "1": "late arterial"}}, {}, "two arterial channels"),
        ({"labels": None}, {}, r"is not the dataset\.json .*\(labels: must be a group of"),
        ({"labels": ["background", "liver"]}, {}, r"\(labels: must be a group of"),
        ({"labels": {"background": 0, "liver": "one"}}, {}, "gives 'liver' no number"),
        ({"channel_names": ["arterial", "venous"]}, {}, r"\(channel_names: must be a group of"),
        ({"channel_names": {"a": "arterial"}}, {}, "arterial channel the number 'a'"),
        ({"training": [{"image": "a.nii.gz"}]}, {}, r"\(training\.0\.label: is missing\)"),
        (
            {"dataset": {"a": {"images": ["/data/a.nii.gz"], "label": "a.nii.gz"}}},
            {},
            "move the file below it, or write a case list",
        ),
        ({"dataset": {"a": {"images": ["../../x.nii.gz"], "label": "a.nii.gz"}}}, {}, "leaves the data set's folder"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence(tmp_path, changes, structures, message):
    with pytest.raises(UserError, match=message):
        read_dataset(DatasetConfig(path=nnunet(tmp_path, **changes), structures=structures))


EXPLICIT = [
    {"dataset": {"a": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/typo.nii.gz"], "label": "labelsTr/a.nii.gz"}}},
    {"training": [{"image": "./imagesTr/typo.nii.gz", "label": "./labelsTr/a.nii.gz"}]},
]


@pytest.mark.parametrize("changes", EXPLICIT, ids=["version 2", "version 1"])
def test_a_file_that_is_named_must_be_there(tmp_path, changes):
    run = RunConfig(labels=(0, 1), data=DatasetConfig(path=nnunet(tmp_path, **changes)))
    (case,) = read_dataset(run.data)
    assert set(case.scans) == set(Phase)
    problems, _ = check_case(run, DatasetSource(case))
    assert [p.level for p in problems] == ["bad"]
    assert "imagesTr/typo.nii.gz: there is no such file" in problems[0].text


def test_an_image_without_labels_is_named(tmp_path):
    nnunet(tmp_path)
    for number in range(7):
        save(tmp_path / "imagesTr" / f"more{number}_0001.nii.gz")
    with pytest.raises(
        UserError, match=r"holds 'more0', .*'more4' and 2 more without a file in labelsTr; add the labels"
    ):
        read_dataset(DatasetConfig(path=tmp_path))


@pytest.mark.parametrize("text", ["[]", "3", '{"labels": {"liver": 1},}', "[" * 100_000])
def test_what_is_no_dataset_json_is_one_line(tmp_path, text):
    (nnunet(tmp_path) / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"is not the dataset\.json of an nnU-Net or MSD folder \(") as caught:
        read_dataset(DatasetConfig(path=tmp_path))
    assert "\n" not in str(caught.value) and "object has no attribute" not in str(caught.value)


def test_null_leaves_a_label_out_and_numbers_may_be_named(tmp_path):
    folder = nnunet(tmp_path, labels={"background": 0, "blob": 1, "thing": 2})
    (case, _) = read_dataset(DatasetConfig(path=folder, structures={"blob": None, "2": 5}))
    assert case.values[1] == 254 and case.values[2] == 5 and case.annotated == {5}


def listed(folder: Path, **changes) -> DatasetConfig:
    values = {
        "labels": {1: "liver", 2: "tumour"},
        "cases": [
            {
                "id": 7,
                "patient": "p",
                "arterial": {"image": "7/a.nii.gz", "labels": "7/a_seg.nii.gz"},
                "venous": {"image": str(folder / "elsewhere.nii.gz")},
                "annotated": ["liver"],
                "transform": "7/a2v.h5",
            },
            {"id": "8", "venous": {"image": "8.nii.gz"}, "transform": "identity"},
        ],
        **changes,
    }
    path = folder / "cases.yaml"
    path.write_text(yaml.safe_dump(values))
    return DatasetConfig(path=path, structures={"tumour": 21} if "labels" not in changes else {})


def test_a_case_list(tmp_path):
    first, second = read_dataset(listed(tmp_path))
    assert (first.id, first.patient, second.patient) == ("7", "p", "8")
    assert first.scans[Phase.ARTERIAL].labels == tmp_path / "7" / "a_seg.nii.gz"
    assert first.scans[Phase.VENOUS].image == tmp_path / "elsewhere.nii.gz" and first.scans[Phase.VENOUS].labels is None
    assert first.values == {0: 0, 1: 1, 2: 21, 254: 254, 255: 255} and first.annotated == {1}
    assert first.transform == tmp_path / "7" / "a2v.h5"
    assert second.annotated == frozenset() and second.transform == "identity"


def test_a_case_list_says_where_a_person_looked_and_what_the_values_tell_apart(tmp_path):
    seen = {"image": "v.nii.gz", "labels": "v_seg.nii.gz", "reviewed": "v_seen.nii.gz"}
    entry = {"id": "c", "venous": seen, "annotated": [], "told": ["liver", "21"]}
    (case,) = read_dataset(listed(tmp_path, cases=[entry]))
    assert case.scans[Phase.VENOUS].reviewed == tmp_path / "v_seen.nii.gz"
    assert case.annotated == frozenset() and case.told == {1, 21}
    with pytest.raises(UserError, match="'nothing' was annotated, which is no label"):
        read_dataset(listed(tmp_path, cases=[{**entry, "told": ["nothing"]}]))
    with pytest.raises(UserError, match="leaves the data set's folder"):
        read_dataset(listed(tmp_path, cases=[{**entry, "venous": {**seen, "reviewed": "../x.nii.gz"}}]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "does not say which structures"),
        ({"cases": [{"id": "x", "venous": {"image": "../x.nii.gz"}}]}, "leaves the data set's folder"),
        ({"cases": [{"id": "x", "venus": {}}]}, r"cases\.0\.venus: is not known"),
        ({"cases": [{"id": "x", "venous": "x.nii.gz"}]}, r"cases\.0\.venous: must be a group of"),
        ({"cases": [{"id": "x", "venous": {}}]}, r"cases\.0\.venous\.image: is missing"),
        ({"cases": []}, "names no training cases"),
        ({"cases": [{"id": "x"}, {"id": "x"}]}, "'x' twice"),
    ],
)
def test_a_wrong_case_list_is_one_sentence(tmp_path, changes, message):
    config = listed(tmp_path, **changes)
    if changes.get("labels", 0) is None:
        text = yaml.safe_load(config.path.read_text())
        del text["cases"][0]["annotated"]
        config.path.write_text(yaml.safe_dump(text))
    with pytest.raises(UserError, match=message):
        read_dataset(config.model_copy(update={"structures": {"tumour": 21} if "labels" not in changes else {}}))


def test_a_torn_case_list_names_the_line(tmp_path):
    (tmp_path / "cases.yaml").write_text("cases:\n  - {id: a, venous: {image: a.nii.gz}\n  - {id: b}\n")
    with pytest.raises(UserError, match=r"cases\.yaml: is not a case list \(line 3, column 3: ") as caught:
        read_dataset(DatasetConfig(path=tmp_path / "cases.yaml"))
    assert "\n" not in str(caught.value)


def test_a_dicom_folder_in_a_case_list_is_told_from_an_image(tmp_path):
    (tmp_path / "series").mkdir()
    with pytest.raises(UserError, match=r"series: is a folder, not an image; name one file .*convert a DICOM series"):
        read_image(tmp_path / "series")


def test_the_case_list_of_the_documentation_is_read(tmp_path):
    text = DOCS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "cases.yaml").write_text(text)
    first, second = read_dataset(DatasetConfig(path=tmp_path / "cases.yaml"))
    assert first.annotated == {1, 21} and second.annotated == {1} and set(first.scans) == set(Phase)


def test_a_structure_that_is_no_label_cannot_be_annotated(tmp_path):
    config = listed(tmp_path, annotated=["spleeen"])
    text = yaml.safe_load(config.path.read_text())
    del text["cases"][0]["annotated"]
    config.path.write_text(yaml.safe_dump(text))
    with pytest.raises(UserError, match="'spleeen' was annotated"):
        read_dataset(config)


def test_no_data_set_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no data set"):
        read_dataset(DatasetConfig(path=tmp_path))
