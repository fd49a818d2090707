"""``multiphase register``, ``carry`` and ``segment --transform``: files that others open, figures, words."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

from napari_multiphase.cli import app
from napari_multiphase.io.images import read_image, read_labels, write_on_source
from napari_multiphase.io.transforms import read_transform
from napari_multiphase.metrics import evaluate
from napari_multiphase.volume import Phase


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def labels_of(sample: Path) -> list[object]:
    return [x for p in Phase for x in (f"--{p}-labels", sample / f"{p}_labels.nii.gz")]


@pytest.fixture(scope="module")
def registered(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("registered") / "out"
    result = run("register", sample, "--out", out, *labels_of(sample))
    assert result.exit_code == 0, result.output
    assert "Nothing folds" in result.output and "surface mm before" in result.output
    return out


def test_transforms_the_moved_scan_and_a_report_are_written(registered: Path, sample: Path) -> None:
    names = {"arterial_to_venous.h5", "venous_to_arterial.h5", "registration.json", "arterial_on_venous.nii.gz"}
    assert {path.name for path in registered.iterdir()} == names
    venous = nib.load(sample / "venous.nii.gz")
    moved = nib.load(registered / "arterial_on_venous.nii.gz")
    assert moved.shape == venous.shape and np.array_equal(moved.affine, venous.affine)
    theirs = sitk.Resample(
        sitk.ReadImage(str(sample / "arterial.nii.gz"), sitk.sitkFloat32),
        sitk.ReadImage(str(sample / "venous.nii.gz"), sitk.sitkFloat32),
        sitk.ReadTransform(str(registered / "arterial_to_venous.h5")),
        sitk.sitkLinear,
        -1024.0,
    )
    ours = sitk.ReadImage(str(registered / "arterial_on_venous.nii.gz"), sitk.sitkFloat32)
    apart = np.abs(sitk.GetArrayFromImage(theirs) - sitk.GetArrayFromImage(ours))
    assert np.quantile(apart, 0.99) <= 1.0  # rounded to whole HU; the scan's own rim may differ
    report = json.loads((registered / "registration.json").read_text())
    assert report["method"] == "mind" and report["dense"] and report["quality"]["folded_share"] == 0
    assert report["quality"]["fixed"] == "venous"


def test_labels_of_both_phases_meet_better_than_before(registered: Path) -> None:
    rows = {row["name"]: row for row in json.loads((registered / "registration.json").read_text())["quality"]["labels"]}
    for name in ("liver", "spleen", "pancreas"):
        assert rows[name]["dice_after"] > rows[name]["dice_before"]
        assert rows[name]["surface_mm_after"] < rows[name]["surface_mm_before"]


def test_labels_images_and_points_travel_both_ways(registered: Path, sample: Path, tmp_path: Path) -> None:
    for to in Phase:
        source, target = sample / f"{to.other}_labels.nii.gz", sample / f"{to}.nii.gz"
        out = tmp_path / f"{to}_from_other_labels.nii.gz"
        result = run("carry", source, "--through", registered, "--to", to, "--onto", target, "--out", out)
        assert result.exit_code == 0, result.output
        liver = {row.name: row for row in evaluate(read_labels(out), read_labels(sample / f"{to}_labels.nii.gz"))}[
            "liver"
        ]
        assert liver.dsc > 0.9
    image, other_name = tmp_path / "image.nii.gz", tmp_path / "liver and more.nii.gz"
    other_name.write_bytes((sample / "arterial_labels.nii.gz").read_bytes())
    again = ("--through", registered, "--to", "venous", "--onto", sample / "venous.nii.gz", "--out", image)
    assert run("carry", other_name, *again).exit_code == 0  # the same by another name: values tell that it holds labels
    assert np.array_equal(read_labels(image).data, read_labels(tmp_path / "venous_from_other_labels.nii.gz").data)
    sure = tmp_path / "arterial_confidence.nii.gz"
    scan = read_image(sample / "arterial.nii.gz")
    everywhere = np.full(scan.data.shape, 200, np.uint8)
    write_on_source(sure, everywhere, scan, kind="confidence")
    assert run("carry", sure, *again).exit_code == 0
    carried = read_image(image).data
    assert carried.min() >= 0 and np.quantile(carried, 0.9) == pytest.approx(200 / 255, abs=0.01)
    assert run("carry", sample / "arterial.nii.gz", *again).exit_code == 0
    moved = read_image(registered / "arterial_on_venous.nii.gz")
    assert np.array_equal(read_image(image).data, moved.data)

    points = tmp_path / "points.csv"
    points.write_text("name,x,y,z\nliver,-60.5,-20,30\nspleen,80,10,40\n")
    there, back = tmp_path / "there.csv", tmp_path / "back.csv"
    assert run("carry", points, "--through", registered, "--to", "arterial", "--out", there).exit_code == 0
    assert run("carry", there, "--through", registered, "--to", "venous", "--out", back).exit_code == 0
    rows = [list(csv.DictReader(path.open())) for path in (points, there, back)]
    assert [row["name"] for row in rows[1]] == ["liver", "spleen"]
    xyz = [np.array([[float(row[axis]) for axis in "xyz"] for row in table]) for table in rows]
    itk = sitk.ReadTransform(str(registered / "arterial_to_venous.h5"))
    assert xyz[1] == pytest.approx(np.array([itk.TransformPoint(p) for p in xyz[0].tolist()]), abs=0.01)
    assert xyz[2] == pytest.approx(xyz[0], abs=0.3)


def test_segment_takes_what_register_wrote(registered: Path, sample: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("segment", sample, "--model", model, "--out", out, "--transform", registered, "--device", "cpu")
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["transform"]["method"] == "mind"
    assert any("aligned by a deformable transform (mind)" in note for note in report["notes"])


def test_a_workspace_keeps_the_registration(sample: Path, model: Path, tmp_path: Path) -> None:
    from napari_multiphase.studies import Workspace, open_study

    workspace = Workspace.create(tmp_path / "kept", open_study([sample]))
    result = run("register", workspace.folder, "--out", tmp_path / "out", "--method", "rigid", "--fixed", "arterial")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "venous_on_arterial.nii.gz").is_file()
    kept, written = Workspace.open(workspace.folder).transform, read_transform(tmp_path / "out")
    assert kept is not None and np.allclose(kept.venous_to_arterial_mm, written.venous_to_arterial_mm)
    assert json.loads((tmp_path / "out" / "registration.json").read_text())["quality"]["fixed"] == "arterial"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("register", "{sample}/venous.nii.gz"), "only the venous scan is there"),
        (("register", "{sample}", "--arterial-labels", "{sample}/arterial_labels.nii.gz"), "one phase alone"),
        (("carry", "{sample}/venous.nii.gz", "--through", "{sample}", "--to", "arterial"), "--onto"),
        (("carry", "{sample}/venous.nii.gz", "--through", "{sample}", "--to", "arterial", "--onto", "{sample}"),
         "holds no registration.json"),
        (("carry", "{tmp}/none.csv", "--through", "{out}", "--to", "arterial"), "cannot be read as a table"),
        (("carry", "{tmp}/empty.csv", "--through", "{out}", "--to", "arterial"), "no columns x, y, z"),
        (("carry", "{tmp}/words.csv", "--through", "{out}", "--to", "arterial"), "line 3: 'far' is no coordinate"),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_one_sentence(
    args: tuple[str, ...], words: str, sample: Path, registered: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("name,left\n")
    (tmp_path / "words.csv").write_text("x,y,z\n1,2,3\n1,far,3\n")
    filled = [arg.format(sample=sample, tmp=tmp_path, out=registered) for arg in args]
    target = tmp_path / ("result.csv" if "csv" in filled[1] else "result.nii.gz")
    result = run(*filled, "--out", target)
    assert result.exit_code == 2 and words in result.output and result.output.count("error:") == 1
    assert not target.exists()


def test_what_cannot_be_is_refused_in_a_sentence(sample: Path, registered: Path, tmp_path: Path) -> None:
    aligned = ("--through", registered, "--to", "venous", "--out", tmp_path / "o.nii.gz")
    for words, args in {
        "'mps' is not one of 'auto', 'cpu', 'cuda'": ("register", sample, "--out", tmp_path / "o", "--device", "mps"),
        "leave one of them out": (
            "segment",
            sample,
            "--out",
            tmp_path / "o",
            "--transform",
            registered,
            "--no-register",
        ),
        "multiphase register` wrote": ("segment", sample, "--out", tmp_path / "o", "--transform", tmp_path),
        "there is no such file": ("carry", tmp_path / "gone.nii.gz", *aligned),
    }.items():
        result = run(*args)
        assert result.exit_code == 2 and words in " ".join(result.stderr.split()), (words, result.output)
        assert not (tmp_path / "o").exists()


def test_no_register_looks_away_from_what_the_workspace_keeps(sample: Path, model: Path, tmp_path: Path) -> None:
    from napari_multiphase.studies import Workspace, open_study

    workspace = Workspace.create(tmp_path / "kept", open_study([sample]))
    asked = ("--model", model, "--device", "cpu")
    assert run("segment", workspace.folder, "--out", tmp_path / "a", *asked).exit_code == 0
    kept = Workspace.open(workspace.folder).transform
    assert kept is not None and kept.method == "rigid"
    assert run("segment", workspace.folder, "--out", tmp_path / "b", *asked, "--no-register").exit_code == 0
    methods = [json.loads((tmp_path / out / "report.json").read_text())["transform"]["method"] for out in "ab"]
    assert methods == ["rigid", "identity"]
    assert Workspace.open(workspace.folder).transform.method == "rigid"
