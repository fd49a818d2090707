"""What Translate writes: on exactly the source's grid, marked synthetic, whole or not at all, no scan afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import translators
from inference_cases import trunk_hu
from translators import ToyTranslatorConfig, write_toy

from napari_multiphase.config import METHOD_CONFIGS, TranslateOptions
from napari_multiphase.errors import UserError
from napari_multiphase.inference.save import save_translation
from napari_multiphase.inference.segment import segment
from napari_multiphase.inference.translate import translate
from napari_multiphase.io.dicom import series_uids, write_series
from napari_multiphase.io.images import is_synthetic, read_image, write_on_source
from napari_multiphase.io.nifti import SYNTHETIC, write_nifti
from napari_multiphase.methods import METHODS
from napari_multiphase.model import Model
from napari_multiphase.studies import find_scans, open_study
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume

CPU = TranslateOptions(device="cpu")
GRID = Grid((20, 44, 48), (4.0, 4.0, 4.0), (5.0, -70.0, 30.0))


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model whose generators change nothing."""
    monkeypatch.setitem(METHODS, "toy-translator", translators.METHOD)
    monkeypatch.setitem(METHOD_CONFIGS, "toy-translator", ToyTranslatorConfig)
    return write_toy(tmp_path / "model", ToyTranslatorConfig())


def write_turned(path: Path, seed: int = 0) -> np.ndarray:
    """A trunk as NIfTI with stored axes (posterior, inferior, left); returns what the file holds."""
    data = trunk_hu(GRID, seed)
    stored = np.ascontiguousarray(data.transpose(1, 0, 2)[:, ::-1])
    affine = GRID.affine_mm[:, [1, 0, 2, 3]].copy()
    affine[:3, 3] += affine[:3, 1] * (GRID.shape[0] - 1)
    affine[:3, 1] *= -1
    write_nifti(path, stored, affine)
    return stored


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], Path]:
    """A folder with both scans."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, phase in enumerate(Phase):
        write_turned(folder / f"{phase}.nii.gz", seed)
    return folder


@pytest.mark.parametrize("to", list(Phase))
def test_the_file_lies_on_the_source_s_grid_whatever_its_orientation(identity, files: Path, tmp_path, to) -> None:
    study = open_study([files])
    written = save_translation(translate(study, identity, to, CPU), study, tmp_path / "out")
    assert [p.name for p in written] == [f"synthetic_{to}.nii.gz", f"synthetic_{to}.json"]
    made, source = nib.load(written[0]), nib.load(files / f"{to.other}.nii.gz")
    assert made.get_data_dtype() == np.int16
    np.testing.assert_array_equal(made.affine, source.affine)
    np.testing.assert_array_equal(np.asanyarray(made.dataobj), np.asanyarray(source.dataobj))


def test_name_header_and_report_say_that_it_is_synthetic(identity, files: Path, tmp_path: Path) -> None:
    study = open_study([files])
    save_translation(translate(study, identity, Phase.VENOUS, CPU), study, tmp_path)
    text = bytes(nib.load(tmp_path / "synthetic_venous.nii.gz").header["descrip"].item()).decode()
    assert text == "synthetic image: venous from arterial by toy translator"
    report = json.loads((tmp_path / "synthetic_venous.json").read_text())
    assert report["synthetic"] == "venous"
    assert report["files"] == ["synthetic_venous.nii.gz", "synthetic_venous.json"]
    assert report["inputs"]["arterial"]["sha256"] == study.volumes[Phase.ARTERIAL].source.sha256
    assert report["inputs"]["arterial"]["synthetic"] is False
    assert report["model"] == {
        "name": "toy translator",
        "method": "toy-translator",
        "labels": list(identity.card.labels),
        "weights_sha256": identity.card.weights_sha256,
    }
    assert report["device"]["type"] == "cpu"
    assert any("the venous image is synthetic" in note for note in report["notes"])


def test_dicom_is_translated_to_nifti_on_its_grid(identity, tmp_path: Path) -> None:
    volume = Volume.from_array(trunk_hu(GRID), GRID.spacing_mm, GRID.origin_mm)
    study_uid, frame_uid = series_uids("test")
    write_series(
        tmp_path / "series",
        volume,
        phase=Phase.ARTERIAL,
        patient_id="P",
        study_uid=study_uid,
        frame_of_reference_uid=frame_uid,
    )
    study = open_study(arterial=tmp_path / "series")
    source = study.volumes[Phase.ARTERIAL]
    (written, _) = save_translation(translate(study, identity, Phase.VENOUS, CPU), study, tmp_path / "out")
    made = read_image(written)
    assert made.grid.matches(source.grid)
    np.testing.assert_array_equal(made.data, volume.data)
    np.testing.assert_allclose(made.source.affine_mm, source.source.affine_mm, atol=1e-4)


def test_it_is_no_scan_afterwards_not_even_under_another_name(identity, files: Path) -> None:
    study = open_study([files])
    save_translation(translate(study, identity, Phase.VENOUS, CPU), study, files)
    (files / "venous.nii.gz").unlink()
    (files / "synthetic_venous.nii.gz").rename(files / "venous.nii.gz")
    kinds = {scan.title: scan.kind for scan in find_scans([files])}
    assert kinds == {"arterial.nii.gz": "image", "venous.nii.gz": "synthetic"}
    again = open_study([files])
    assert again.phases == (Phase.ARTERIAL,)
    assert any("venous.nii.gz is a synthetic image, not a scan" in f.text for f in again.findings)


def test_named_outright_it_is_taken_with_a_warning_that_results_repeat(
    identity, small_model: Model, files: Path, tmp_path: Path
) -> None:
    study = open_study([files])
    (made, _) = save_translation(translate(study, identity, Phase.VENOUS, CPU), study, tmp_path / "out")
    named = open_study(arterial=files / "venous.nii.gz", venous=made)
    assert is_synthetic(named.volumes[Phase.VENOUS].source)
    assert any(f.level == "warning" and "The venous image is synthetic" in f.text for f in named.findings)
    prediction = segment(named, small_model)
    assert any("the venous image is synthetic" in note for note in prediction.notes)
    inputs = prediction.report["inputs"]
    assert (inputs["arterial"]["synthetic"], inputs["venous"]["synthetic"]) == (False, True)
    kept = Workspace.create(tmp_path / "kept", named)
    assert {scan.title: scan.usable for scan in find_scans([kept.folder])} == {
        "venous.nii.gz": True,
        "synthetic_venous.nii.gz": True,
    }
    back = translate(named, identity, Phase.ARTERIAL, CPU)
    assert any("the venous image is synthetic" in note for note in back.notes)


def test_a_name_alone_makes_an_image_synthetic_but_not_a_phantom_s_description(files: Path, tmp_path: Path) -> None:
    affine = GRID.affine_mm[:, [2, 1, 0, 3]]
    data = trunk_hu(GRID).transpose(2, 1, 0)
    write_nifti(tmp_path / "Synthetic-1.nii.gz", data, affine)
    write_nifti(tmp_path / "phantom.nii.gz", data, affine, description="napari-multiphase phantom (synthetic)")
    write_nifti(tmp_path / "other.nii.gz", data, affine, description=f"{SYNTHETIC}venous")
    said = {name: is_synthetic(read_image(tmp_path / name).source) for name in ("phantom.nii.gz", "other.nii.gz")}
    assert said == {"phantom.nii.gz": False, "other.nii.gz": True}
    assert is_synthetic(read_image(tmp_path / "Synthetic-1.nii.gz").source)


def test_the_mark_stays_when_the_image_is_written_again(identity, files: Path, tmp_path: Path) -> None:
    study = open_study([files])
    (made, _) = save_translation(translate(study, identity, Phase.VENOUS, CPU), study, tmp_path)
    volume = read_image(made)
    write_on_source(tmp_path / "copy.nii.gz", volume.data, volume, kind="image")
    assert is_synthetic(read_image(tmp_path / "copy.nii.gz").source)


def test_saving_is_all_or_nothing(identity, pair: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = translate(pair, identity, Phase.VENOUS, CPU), tmp_path / "out"
    out.mkdir()
    (out / "synthetic_venous.nii.gz").write_text("an older result")

    def full_disk(path: Path, *args, **kwargs) -> None:
        path.write_text("part")
        raise UserError(f"cannot write {path}: the disk is full: free some space or choose another folder")

    monkeypatch.setattr("napari_multiphase.inference.save.write_on_source", full_disk)
    with pytest.raises(UserError, match="disk is full"):
        save_translation(result, pair, out)
    assert [p.name for p in out.iterdir()] == ["synthetic_venous.nii.gz"]
    assert (out / "synthetic_venous.nii.gz").read_text() == "an older result"
    with pytest.raises(UserError, match="disk is full"):
        save_translation(result, pair, tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


def test_an_image_cannot_land_on_another_case(identity, pair: Study, tmp_path: Path) -> None:
    result = translate(pair, identity, Phase.VENOUS, CPU)
    with pytest.raises(UserError, match="belongs to study study-1, not another; translate this one first"):
        save_translation(result, replace(pair, id="another"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
