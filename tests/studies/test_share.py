"""A study for others: everything they need, nothing that names the patient."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.picture import edge, outlined, palette
from napari_multiphase.io.dicom import series_uids, write_series
from napari_multiphase.io.images import write_on_source
from napari_multiphase.io.transforms import read_transform
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.studies import Annotation, keep, open_study
from napari_multiphase.studies.identity import LEFT_OUT, Identity
from napari_multiphase.studies.predictions import keep_prediction
from napari_multiphase.studies.share import share_study
from napari_multiphase.studies.shared import gather, of_prediction
from napari_multiphase.study import Finding, PhasePrediction, PhaseTransform, Prediction
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS
NAME, PATIENT = "Mustermann^Erika", "MRN-4711"


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSpec(shape=(48, 64, 64), spacing_mm=(6, 6, 6)))


def predicted(study, phantom):
    """The phantom's own labels, as a model would have found them."""
    phases = {
        p: PhasePrediction(phantom.labels[p], np.where(phantom.labels[p] > 0, 200, 90).astype(np.uint8), None)
        for p in study.phases
    }
    home = study.fused_phase
    report = {"model": {"name": "mine", "method": "pcn", "weights_sha256": "0" * 64}}
    return Prediction(
        study.id, "mine", phases, phases[home].labels, phases[home].confidence, study.volumes[home].grid, home,
        notes=(f"read from {study.volumes[home].source.path}",), report=report,
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(phantom, tmp_path_factory):
    """From files in a patient's folder."""
    folder = tmp_path_factory.mktemp("scans") / "Erika Mustermann" / "MRN-4711"
    folder.mkdir(parents=True)
    for phase, volume in phantom.volumes.items():
        write_on_source(folder / f"mustermann_{phase}.nii.gz", volume.data, volume, kind="image")
    opened = open_study(
        arterial=folder / "mustermann_arterial.nii.gz", venous=folder / "mustermann_venous.nii.gz"
    ).with_transform(PhaseTransform(np.eye(4), "rigid", {"ncc_before": 0.5, "ncc_after": 0.9, "sentence": "Moved."}))
    return replace(opened, findings=(*opened.findings, Finding("good", "Same patient (MRN-4711).")))


@pytest.fixture(scope="module")
def dicom(phantom, tmp_path_factory):
    """From DICOM that names its patient."""
    import pydicom

    folder = tmp_path_factory.mktemp("scans") / "Mustermann"
    study_uid, frame_uid = series_uids("someone")
    for phase, volume in phantom.volumes.items():
        write_series(
            folder / phase, volume, phase=phase, patient_id=PATIENT, study_uid=study_uid,
            frame_of_reference_uid=frame_uid,
        )  # fmt: skip
    for file in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientBirthDate, dataset.AccessionNumber = NAME, "19640812", "ACC-99"
        dataset.StudyDescription, dataset.ReferringPhysicianName = f"CT {NAME}", "Arzt^Anton"
        dataset.save_as(file)
    return open_study([folder])


def contents(path: Path) -> dict[str, bytes]:
    """Every file, unpacked all the way."""
    if path.is_dir():
        files = {p.name: p.read_bytes() for p in path.iterdir()}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()} | {"zip": path.read_bytes()}
    for name in [n for n in files if n.endswith(".gz")]:
        files[f"{name} unpacked"] = gzip.decompress(files[name])
    return files


def assert_nameless(files: dict[str, bytes], *words: str) -> None:
    for name, block in files.items():
        for word in ("Mustermann", "Erika", PATIENT, str(Path.home()), "/pytest", *words):
            for spelling in (word, word.lower(), word.upper()):
                assert spelling.encode() not in block, (name, word)
                assert spelling.encode("utf-16-le") not in block, (name, word)


def test_everything_is_there_and_nobody_is_named(study, phantom, tmp_path):
    shared = of_prediction(study, predicted(study, phantom))
    written = share_study(shared, tmp_path / "out")
    names = {path.name for path in written}
    assert names == {
        "report.html", "share.json", "README.txt", "labels.json", "labels_itksnap.txt", "labels_slicer.ctbl",
        "arterial_labels.nii.gz", "venous_labels.nii.gz", "fused_labels.nii.gz", "arterial_to_venous.h5",
        "venous_to_arterial.h5", "registration.json",
    }  # fmt: skip
    assert_nameless(contents(tmp_path / "out"))
    facts = json.loads((tmp_path / "out" / "share.json").read_text())
    assert facts["notes"] == [f"read from {LEFT_OUT}"]
    assert f"Same patient ({LEFT_OUT})." in [finding["text"] for finding in facts["findings"]]
    assert set(facts["files"]) | {"README.txt"} == names
    assert read_transform(tmp_path / "out").quality["ncc_after"] == 0.9


def test_labels_lie_on_the_scans_own_grids(study, phantom, tmp_path):
    share_study(of_prediction(study, predicted(study, phantom)), tmp_path / "out")
    for phase in (A, V):
        scan = nibabel.load(study.volumes[phase].source.path)
        labels = nibabel.load(tmp_path / "out" / f"{phase}_labels.nii.gz")
        assert labels.shape == scan.shape and np.allclose(labels.affine, scan.affine)
        counts = np.bincount(np.asarray(labels.dataobj).astype(int).ravel(), minlength=256)
        assert np.array_equal(counts, np.bincount(phantom.labels[phase].ravel(), minlength=256))


def test_the_table_holds_volumes_hu_confidence_and_states(study, phantom, tmp_path):
    share_study(of_prediction(study, predicted(study, phantom)), tmp_path / "out")
    rows = {row["name"]: row for row in json.loads((tmp_path / "out" / "share.json").read_text())["structures"]}
    for phase in (A, V):
        inside, volume = phantom.labels[phase] == 1, study.volumes[phase]
        assert rows["liver"]["ml"][phase] == pytest.approx(inside.sum() * volume.grid.voxel_ml, abs=1e-2)
        assert rows["liver"]["mean_hu"][phase] == pytest.approx(volume.data[inside].mean(), abs=0.06)
        assert rows["liver"]["state"][phase] == "predicted"
        assert 0 < rows["liver"]["mean_confidence"][phase] <= 1


def test_a_zip_holds_what_a_folder_would(study, phantom, tmp_path):
    shared = of_prediction(study, predicted(study, phantom))
    share_study(shared, tmp_path / "out")
    assert share_study(shared, tmp_path / "out.zip") == [tmp_path / "out.zip"]
    packed, plain = contents(tmp_path / "out.zip"), contents(tmp_path / "out")
    assert_nameless(packed)
    assert set(packed) == {*plain, "zip"}
    for name in ("labels.json", "share.json", "README.txt", "labels_itksnap.txt"):
        assert packed[name] == plain[name]


def test_a_patient_may_be_kept_on_purpose(study, phantom, tmp_path):
    share_study(of_prediction(study, predicted(study, phantom)), tmp_path / "out", identified=True)
    facts = json.loads((tmp_path / "out" / "share.json").read_text())
    assert facts["phases"]["venous"]["scan"] == str(study.volumes[V].source.path)
    assert "Same patient (MRN-4711)." in [finding["text"] for finding in facts["findings"]]


def test_dicom_seg_refers_to_the_images_and_names_nobody(dicom, phantom, tmp_path):
    import pydicom

    shared = of_prediction(dicom, predicted(dicom, phantom))
    share_study(shared, tmp_path / "out", format="dicom-seg")
    assert_nameless(contents(tmp_path / "out"), "19640812", "ACC-99", "Anton")
    seg = pydicom.dcmread(tmp_path / "out" / "venous_labels.dcm")
    assert seg.PatientName == "" and seg.PatientID == "" and seg.StudyDate == ""
    series = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert series == dicom.volumes[V].source.header["series_uid"]
    assert not (tmp_path / "out" / "venous_labels.nii.gz").exists()
    share_study(shared, tmp_path / "named", format="dicom-seg", identified=True)
    assert pydicom.dcmread(tmp_path / "named" / "venous_labels.dcm").PatientID == PATIENT


def test_dicom_seg_of_other_files_is_refused_before_anything_is_written(study, phantom, tmp_path):
    with pytest.raises(UserError, match="DICOM SEG refers to DICOM images"):
        share_study(of_prediction(study, predicted(study, phantom)), tmp_path / "out", format="dicom-seg")
    assert not (tmp_path / "out").exists()


class Page(HTMLParser):
    """What a browser would fetch, and which tags stay open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]
        assert tag not in ("script", "link", "iframe", "object")

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_needs_nothing_from_elsewhere(study, phantom, tmp_path):
    share_study(of_prediction(study, predicted(study, phantom)), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    present = [STRUCTURES[int(i)].name for i in np.unique(phantom.labels[V]) if i]
    assert len(page.sources) >= len(present)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "@import" not in text and "url(" not in text
    words = " ".join(page.words)
    assert all(name in words for name in present)
    assert "Research software, not a medical device" in words and "Moved." in words


def test_text_from_elsewhere_is_no_markup(study, phantom, tmp_path):
    shared = of_prediction(study, predicted(study, phantom))
    shared = replace(shared, model={"name": "<script>alert(1)</script>"}, notes=("<img src=x>",))
    share_study(shared, tmp_path / "out")
    Page((tmp_path / "out" / "report.html").read_text())
    assert "<img src=x>" not in (tmp_path / "out" / "report.html").read_text()


# --- from what was kept ----------------------------------------------------------------------------------------------


def test_a_workspace_gives_its_corrections(study, phantom, tmp_path):
    workspace = keep(study, tmp_path / "Mustermann workspace")
    keep_prediction(workspace, study, predicted(study, phantom))
    labels = phantom.labels[V].copy()
    path = workspace.annotation_file(V)
    with Annotation.create(path, labels, study.volumes[V].grid, model="mine") as annotation:
        changed = labels.copy()
        changed[20:23, 30:33, 30:33] = 6
        reviewed = changed != labels
        annotation.save(changed, reviewed, {**annotation.states, 1: "complete"})
    workspace.set_annotation(V, path)
    shared = gather(workspace.folder)
    share_study(shared, tmp_path / "out")
    assert_nameless(contents(tmp_path / "out"))
    facts = json.loads((tmp_path / "out" / "share.json").read_text())
    states = facts["phases"]["venous"]["states"]
    assert (states["1"], states["6"], states["2"]) == ("complete", "corrected", "predicted")
    assert facts["phases"]["venous"]["corrected"] and not facts["phases"]["arterial"]["corrected"]
    assert facts["model"]["name"] == "mine"
    stored = np.asarray(nibabel.load(tmp_path / "out" / "venous_labels.nii.gz").dataobj)
    assert (stored == 6).sum() == (changed == 6).sum()
    assert np.asarray(nibabel.load(tmp_path / "out" / "venous_reviewed.nii.gz").dataobj).sum() == reviewed.sum()
    row = next(row for row in facts["structures"] if row["id"] == 6)
    assert row["ml"]["venous"] == pytest.approx((changed == 6).sum() * study.volumes[V].grid.voxel_ml, abs=1e-2)


def test_what_holds_no_labels_is_said(study, tmp_path):
    with pytest.raises(UserError, match="neither a study's workspace"):
        gather(tmp_path)
    with pytest.raises(UserError, match="no labels yet"):
        gather(keep(study, tmp_path / "new").folder)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_identity_leaves_short_numbers_and_plain_words(study):
    volume = study.volumes[V]
    source = replace(volume.source, path=Path("/data/venous/7.nii.gz"), header={"patient_id": "7"})
    identity = Identity(replace(study, volumes={V: replace(volume, source=source)}))
    assert identity.without("the venous scan moved 7 mm (7)") == f"the venous scan moved 7 mm ({LEFT_OUT})"
    assert identity.without({"a": ["/data/venous/7.nii.gz is gone"]}) == {"a": [f"{LEFT_OUT} is gone"]}


def test_an_outline_is_the_border_of_a_square():
    ids = np.zeros((9, 9), np.uint8)
    ids[2:7, 2:7] = 4
    border = edge(ids)
    assert border.sum() == 16 and not border[3:6, 3:6].any()
    hu = np.full((9, 9), 40, np.int16)
    picture = outlined(hu, ids, (2.0, 1.0), (slice(0, 9), slice(0, 9)), 9, 9)
    assert picture.shape == (18, 9)  # square pixels
    colours = palette()[picture]
    assert {tuple(c) for c in colours[2:16][(colours[2:16] != colours[0, 0]).any(-1)]} == {STRUCTURES[4].colour}


def test_pictures_of_a_palette_open_elsewhere():
    image = pytest.importorskip("PIL.Image")
    from napari_multiphase.io.png import png_of_palette

    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    opened = image.open(io.BytesIO(png_of_palette(picture, palette()))).convert("RGB")
    assert np.array_equal(np.asarray(opened), palette()[picture])
