"""Run configurations: what a file extends, what is refused, what is written back."""

import pytest
import yaml

from napari_multiphase.config import METHOD_CONFIGS, PRESETS, RunConfig, preset
from napari_multiphase.config.files import read_run, write_run
from napari_multiphase.errors import UserError


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


def test_a_circle_is_refused(tmp_path):
    path = write(tmp_path / "a.yaml", extends="a.yaml")
    with pytest.raises(UserError, match="circle"):
        read_run(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch": "many"}, r"run\.yaml: batch"),
        ({"batch": 3, "accumulate": 2}, "multiple of accumulate"),
        ({"colour": 1}, "colour"),
        ({"method": "nonesuch"}, "pcn"),
        ({"method_config": {"segmentor": {"widths": [3]}}}, r"method_config\.segmentor\.widths"),
        ({"labels": [1, 2]}, "start with 0"),
        ({"validation": {"folds": 2, "fold": 2}}, "below validation.folds"),
        ({"data": {"kind": "phantom", "cases": 1}}, "data.phantom.cases"),
        ({"extends": "none.yaml"}, r"none\.yaml cannot be read"),
    ],
)
def test_a_wrong_field_is_one_sentence_that_names_it(tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        read_run(write(tmp_path / "run.yaml", **values))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_what_is_no_configuration_is_refused(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UserError, match="cannot be read as a run configuration"):
        read_run(tmp_path / "run.yaml")


@pytest.mark.parametrize(("method", "name"), [(m, n) for m in METHOD_CONFIGS for n in PRESETS[m]])
def test_a_written_file_holds_every_field_and_reads_back(tmp_path, method, name):
    run = preset(method, name)
    write_run(run, tmp_path / "run.yaml")
    back = read_run(tmp_path / "run.yaml")
    whole = METHOD_CONFIGS[method].model_validate(run.method_config).model_dump(mode="json")
    assert back.method_config == whole
    assert back.model_copy(update={"method_config": {}}) == run.model_copy(update={"method_config": {}})
    assert set(yaml.safe_load((tmp_path / "run.yaml").read_text())) == set(RunConfig.model_fields)
