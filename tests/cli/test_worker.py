"""The whole job through real processes, as the window asks for it: look, plan, register, segment, fuse, save."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from napari_multiphase.config import SegmentOptions, TranslateOptions
from napari_multiphase.io.models import read_model
from napari_multiphase.jobs import Client
from napari_multiphase.study import Prediction, Study, Translation
from napari_multiphase.volume import Phase

WAIT_S = 240.0


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with Client(tmp_path_factory.mktemp("scratch"), grace_s=2.0) as made:
        made.start()
        yield made


def _result(client, task, params, **options):
    handle = client.submit(task, params, **options)
    assert handle.wait(WAIT_S)
    assert handle.error is None, f"{handle.error.sentence}\n{handle.error.details}"
    return handle.result


@pytest.fixture(scope="module")
def study(client, sample_dicom):
    scans = _result(client, "scan", {"inputs": [sample_dicom]}, where="parser")
    chosen = {scan.guess.phase: scan for scan in scans}
    return _result(client, "open", {"inputs": [sample_dicom], "chosen": chosen}, where="parser")


def test_an_opened_study_is_mapped_and_read_only(study, sample_dicom):
    assert isinstance(study, Study)
    assert study.phases == (Phase.ARTERIAL, Phase.VENOUS)
    for volume in study.volumes.values():
        assert isinstance(volume.data, np.memmap)
        assert not volume.data.flags.writeable
        assert volume.source.path == sample_dicom
        assert volume.source.header["series_uid"]
    assert {finding.level for finding in study.findings} >= {"good"}


def test_segment_fuse_and_save_across_processes(client, study, model, tmp_path):
    chosen = read_model(model)
    options = SegmentOptions(phase_weight=0.5)
    plan = _result(client, "plan", {"study": study, "model": chosen, "options": options})
    assert plan["sentences"]
    events = []
    params = {"study": study, "model": chosen, "options": options}
    handle = client.submit("segment", params, study_id=study.id, revision=3, on_event=events.append)
    assert handle.wait(WAIT_S)
    prediction = handle.result
    assert isinstance(prediction, Prediction)
    assert (handle.study_id, handle.revision, prediction.study_id) == (study.id, 3, study.id)
    assert isinstance(prediction.phases[Phase.VENOUS].two_best.first, np.memmap)
    fractions = [e.fraction for e in events if e.fraction is not None]
    assert fractions == sorted(fractions)
    weighed = _result(client, "fuse", {"prediction": prediction, "study": study, "phase_weight": 0.0})
    np.testing.assert_array_equal(weighed.fused_labels, prediction.phases[Phase.VENOUS].labels)
    files = _result(client, "save", {"prediction": weighed, "study": study, "out": tmp_path / "out"})
    assert all(file.is_file() for file in files)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["options"]["phase_weight"] == 0.0


def test_translate_and_save_across_processes(client, study, translator, tmp_path):
    params = {"study": study, "to": Phase.VENOUS, "model": read_model(translator), "options": TranslateOptions()}
    assert _result(client, "plan_translation", params)["to"] == "venous"
    translation = _result(client, "translate", params, study_id=study.id)
    assert isinstance(translation, Translation)
    assert isinstance(translation.image, np.memmap)
    assert (translation.study_id, translation.to) == (study.id, Phase.VENOUS)
    files = _result(
        client, "save_translation", {"translation": translation, "study": study, "out": tmp_path / "translated"}
    )
    assert [file.name for file in files] == ["synthetic_venous.nii.gz", "synthetic_venous.json"]


def test_segment_is_cancelled_between_tiles(client, study, model):
    events = []
    tiles = SegmentOptions(tile_vox=(16, 16, 16), overlap=0.5)
    params = {"study": study, "model": read_model(model), "options": tiles}
    handle = client.submit("segment", params, on_event=events.append)
    end = time.monotonic() + WAIT_S
    while not any("tile" in e.message for e in events) and time.monotonic() < end:
        time.sleep(0.01)
    worker = client._worker.pid
    handle.cancel()
    assert handle.wait(client.grace_s + 1.0)
    assert handle.cancelled
    assert client._worker.pid == worker, "a soft cancel keeps the process warm"
    assert not client.session.folder(handle.id).exists()


def test_bad_files_are_refused_in_the_parser_with_one_sentence(client, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    handle = client.submit("look", {"inputs": [bad]}, where="parser")
    assert handle.wait(WAIT_S)
    assert handle.error.kind == "UserError"
    assert "bad.nii.gz" in handle.error.sentence


def test_the_parser_computes_nothing(client):
    handle = client.submit("segment", {}, where="parser")
    assert handle.wait(WAIT_S)
    assert "no job 'segment'" in handle.error.sentence
