"""Run configurations: what a file extends, what is refused, what is written back."""

from pathlib import Path

import pytest
import yaml

from napari_multiphase.config import METHOD_CONFIGS, PRESETS, RunConfig, preset
from napari_multiphase.config.files import read_run, write_run
from napari_multiphase.errors import UserError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = {"segmentor": {"widths": [4, 8, 16, 32, 64]}}  # sides are multiples of 16


def write(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_file_changes_what_it_names_of_the_one_it_extends(tmp_path):
    write(tmp_path / "base.yaml", batch=4, validation={"folds": 3, "every": 7}, labels=[0, 1, 2])
    (tmp_path / "rows").mkdir()
    row = write(tmp_path / "rows" / "row.yaml", extends="../base.yaml", validation={"every": 9}, labels=[0, 5])
    run = read_run(row, seed=8)
    assert (run.batch, run.seed, run.labels) == (4, 8, (0, 5))
    assert (run.validation.folds, run.validation.every) == (3, 9)


def test_a_change_on_top_is_checked_as_the_file_is(tmp_path):
    with pytest.raises(UserError, match=r"run\.yaml: seed: "):
        read_run(write(tmp_path / "run.yaml", batch=2), seed=1 << 64)
    assert read_run(tmp_path / "run.yaml", seed=(1 << 64) - 1).seed == (1 << 64) - 1


def test_a_circle_is_refused(tmp_path):
    path = write(tmp_path / "a.yaml", extends="a.yaml")
    with pytest.raises(UserError, match="circle"):
        read_run(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch": "many"}, r"run\.yaml: batch"),
        ({"batch": 3, "accumulate": 2}, "multiple of accumulate"),
        ({"method_config": {"segmentor": {"widths": [3]}}}, r"method_config\.segmentor\.widths"),
        ({"labels": [1, 2]}, "start with 0"),
        ({"validation": {"folds": 2, "fold": 2}}, "below validation.folds"),
        ({"labels": []}, r"run\.yaml: labels: must start with 0"),
        ({"labels": [0]}, "at least one structure"),
        ({"labels": [0, 99]}, "labels: 99 is not an id of the label table"),
        ({"seed": 1 << 64}, r"run\.yaml: seed: "),
        ({"spacing_mm": [30, 1, 1]}, r"spacing_mm: must lie in \(0, 20\]"),
        ({"spacing_mm": [float("nan"), 1, 1]}, "spacing_mm: must lie"),
        ({"window_hu": [0, float("inf")]}, "window_hu: must grow"),
        ({"data": {"kind": "phantom", "cases": 1}}, r"run\.yaml: data\.cases: "),
        ({"data": {"kind": "phantom", "pathologies": []}}, r"data\.pathologies: "),
        (
            {"data": {"kind": "phantom", "partly": [{"cases": 1, "structures": [99]}]}},
            r"data\.partly\.0\.structures\.0: 99 is not an id",
        ),
        ({"data": {"kind": "dataset"}}, r"run\.yaml: data\.path: is missing"),
        ({"data": {"kind": "datasets"}}, "data: its 'kind' must be one of 'phantom', 'dataset'"),
        ({"data": {"path": "x"}}, "data: its 'kind' is missing"),
        ({"validation": 3}, "validation: must be a group of"),
        ({"colour": 1}, r"run\.yaml: colour: is not known"),
        ({"method": "nonesuch"}, r"run\.yaml: there is no method"),
        ({"extends": "none.yaml"}, r"none\.yaml: there is no such run configuration"),
    ],
)
def test_a_wrong_field_is_one_sentence_that_names_it(tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        read_run(write(tmp_path / "run.yaml", **values))


@pytest.mark.parametrize(
    ("patch", "nearest"),
    [
        ([0, -1, 7], [16, 16, 16]),
        ([8, 8, 8], [16, 16, 16]),
        ([30, 48, 50], [32, 48, 48]),
        ([600, 512, 512], [512, 512, 512]),
    ],
)
def test_a_patch_that_the_networks_cannot_take_is_refused_with_the_nearest(tmp_path, patch, nearest):
    path = write(tmp_path / "run.yaml", patch_vox=patch, method_config=SMALL)
    with pytest.raises(UserError) as caught:
        read_run(path)
    assert f"patch_vox {patch}" in str(caught.value) and "multiples of [16, 16, 16]" in str(caught.value)
    assert str(caught.value).endswith(f"the nearest is {nearest}")
    read_run(write(path, patch_vox=nearest, method_config=SMALL))


def test_a_plane_is_never_smaller_than_a_models_tile(tmp_path):
    shallow = {"segmentor": {"widths": [4, 8]}}
    assert read_run(write(tmp_path / "run.yaml", patch_vox=[2, 16, 16], method_config=shallow))
    with pytest.raises(UserError, match=r"nearest is \[8, 16, 16\]"):
        read_run(write(tmp_path / "run.yaml", patch_vox=[8, 8, 8], method_config=shallow))


def test_a_run_that_cannot_begin_is_not_written(tmp_path):
    with pytest.raises(UserError, match="patch_vox"):
        write_run(RunConfig(patch_vox=(8, 8, 8)), tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"- a\n- b\n", "it is a list; write one 'name: value' to a line"),
        (b"3\n", "it is a single value"),
        (b"batch: 2\na: [1,\nb: }", "line 3, column 4: "),
        (b"\x00", "not plain text"),
        (b"a: \xff", "not plain text"),
        (b"a: 2020-13-45", "month"),
        (b"[" * 2000, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "run.yaml").write_bytes(text)
    with pytest.raises(UserError, match=r"run\.yaml cannot be read as a run configuration: ") as caught:
        read_run(tmp_path / "run.yaml")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_valid(path):
    assert read_run(path).name


def test_paths_are_relative_to_the_file_they_stand_in_and_written_in_full(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "rows").mkdir()
    encoder = {"form": "2d", "encoder_weights": "weights/r50.safetensors"}
    base = {"data": {"kind": "dataset", "path": "cases.yaml"}, "start_from": "./models/mine"}
    write(tmp_path / "base.yaml", method="pann", patch_vox=[1, 32, 32], method_config=encoder, **base)
    row = write(tmp_path / "rows" / "row.yaml", extends="../base.yaml")
    monkeypatch.chdir(tmp_path / "rows")
    run = read_run(Path("row.yaml"))
    assert run.data.path.resolve() == tmp_path / "cases.yaml" and run.data.path.is_absolute()
    assert Path(run.start_from).resolve() == tmp_path / "models" / "mine" and Path(run.start_from).is_absolute()
    assert Path(run.method_config["encoder_weights"]).resolve() == tmp_path / "weights" / "r50.safetensors"
    write_run(run, tmp_path / "run.yaml")
    monkeypatch.chdir("/")
    again = read_run(tmp_path / "run.yaml")
    assert (again.data, again.start_from) == (run.data, run.start_from)
    write(row, extends="../base.yaml", data={"path": str(tmp_path / "x")}, start_from="pcn-phantom")
    named = read_run(row)
    assert named.data.path == tmp_path / "x" and named.start_from == "pcn-phantom"


def test_a_model_to_take_translators_from_is_a_name_or_a_folder_relative_to_the_file(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for given, found in (("./models/mine", str(tmp_path / "models" / "mine")), ("pcn-2", "pcn-2")):
        config = {"translation": {}, "translators_from": given}
        run = read_run(write(tmp_path / "run.yaml", method="pcn", method_config=config))
        assert run.method_config["translators_from"] == found


def test_a_run_of_the_program_is_written_with_full_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    write_run(RunConfig(data={"kind": "dataset", "path": "cases.yaml"}), tmp_path / "run" / "run.yaml")
    assert read_run(tmp_path / "run" / "run.yaml").data.path == tmp_path / "cases.yaml"


@pytest.mark.parametrize(("method", "name"), [(m, n) for m in METHOD_CONFIGS for n in PRESETS[m]])
def test_a_written_file_holds_every_field_and_reads_back(tmp_path, method, name):
    run = preset(method, name)
    write_run(run, tmp_path / "run.yaml")
    back = read_run(tmp_path / "run.yaml")
    whole = METHOD_CONFIGS[method].model_validate(run.method_config).model_dump(mode="json")
    assert back.method_config == whole
    assert back.model_copy(update={"method_config": {}}) == run.model_copy(update={"method_config": {}})
    assert set(yaml.safe_load((tmp_path / "run.yaml").read_text())) == set(RunConfig.model_fields)
