"""From studies that were corrected to a run folder that can be started, and from its model to the user's models."""

import shutil

import pytest
import yaml

from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, ignore
from napari_multiphase.io.model_add import add_model
from napari_multiphase.io.models import default_model, find_model, read_model
from napari_multiphase.jobs.server import Context
from napari_multiphase.jobs.training_tasks import check_run, export_run, prepare_run, use_model
from napari_multiphase.phantom import PhantomSpec, make_phantom, write_sample
from napari_multiphase.studies import Workspace, keep, open_study
from napari_multiphase.studies.annotation import Annotation
from napari_multiphase.volume import Phase

FORM = {"method": "pcn", "preset": "smoke", "start_from": "pcn-phantom", "length": "steps", "amount": 6, "name": "mine"}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return Context(ignore, Cancel(), tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two studies whose venous liver was marked complete, labels of a "model" around it; two with all complete."""
    home, made = tmp_path_factory.mktemp("studies"), []
    for seed in (3, 4, 5, 6):
        phantom = make_phantom(PhantomSpec((48, 56, 64), (8.0, 6.0, 6.0), seed))
        files = write_sample(phantom, home / f"files{seed}")
        study = open_study([path for path in files if path.name in ("arterial.nii.gz", "venous.nii.gz")])
        workspace = keep(study, home / f"study{seed}")
        file = workspace.annotation_file(Phase.VENOUS)
        labels = phantom.labels[Phase.VENOUS]
        present = set(labels.ravel().tolist()) - {0}
        states = dict.fromkeys(present, "predicted" if seed < 5 else "complete") | {1: "complete"}
        Annotation.create(file, labels, study.volumes[Phase.VENOUS].grid, states=states, model="pcn-phantom").close()
        workspace.set_annotation(Phase.VENOUS, file)
        made.append(workspace.folder)
    return made


def test_corrected_studies_become_a_run_with_a_snapshot_of_their_own(context, studies, tmp_path):
    folder = prepare_run(context, FORM, tmp_path / "run", studies[:2], "ignore")
    run = read_run(folder / "plan.yaml")
    assert run.start_from == "pcn-phantom" and run.name == "mine" and run.seed == 0
    assert run.data.path == folder / "cases" / "cases.yaml"
    cases = yaml.safe_load(run.data.path.read_text())["cases"]
    assert len(cases) == 2 and all("liver" in case["annotated"] for case in cases)
    assert all((folder / "cases" / case["venous"]["labels"]).is_file() for case in cases)
    with pytest.raises(UserError, match="is there already"):
        prepare_run(context, FORM, tmp_path / "run", studies[:2])


def test_what_cannot_be_planned_leaves_nothing(context, studies, tmp_path):
    with pytest.raises(UserError, match="is a pcn model"):
        prepare_run(context, {**FORM, "method": "hpn"}, tmp_path / "run", studies[:2])
    assert not (tmp_path / "run").exists()


def test_checking_names_who_is_held_out(context, studies):
    found = check_run(context, FORM, studies[:2], "ignore")
    assert found["checked"] == 2 and len(found["train"]) == 2, "what nobody looked at judges nothing"
    assert "nothing is held out" in found["notes"][0]
    assert not [problem for problem in found["problems"] if problem["level"] == "bad"]
    assert found["steps"] == 6 and Workspace.open(studies[0]).annotations, "the study is left as it was"
    shutil.rmtree(context.scratch)
    found = check_run(context, FORM, studies, "ignore")
    assert len(found["train"]) == 3 and len(found["validation"]) == 1


def test_a_model_is_added_once_and_never_over_another(context, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    before = default_model()
    copy = tmp_path / "copy"
    shutil.copytree(find_model("hpn-phantom").folder, copy)
    renamed = (copy / "model.json").read_text().replace('"hpn-phantom"', '"mine"')
    (copy / "model.json").write_text(renamed)
    added = use_model(context, copy)
    assert added.folder == tmp_path / "data" / "models" / "mine" and use_model(context, copy).folder == added.folder
    (copy / "model.json").write_text(renamed.replace('"licence": "', '"licence": "other '))
    with pytest.raises(UserError, match="another model called 'mine'"):
        use_model(context, copy)
    assert default_model() == before


def test_a_runs_model_is_exported_as_a_zip_that_can_be_added(context, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    copy = tmp_path / "copy"
    shutil.copytree(find_model("hpn-phantom").folder, copy)
    (copy / "model.json").write_text((copy / "model.json").read_text().replace('"hpn-phantom"', '"mine"'))
    path = export_run(context, copy, tmp_path / "mine.zip")
    assert add_model(path).card == read_model(copy).card
    with pytest.raises(UserError, match=r"ends in \.zip"):
        export_run(context, copy, tmp_path / "mine")


def test_no_two_jobs_share_a_name():
    """They all end up in one table, where the later would silently take the place of the earlier."""
    from napari_multiphase.jobs import correcting, keeping, sharing, tasks, training_tasks, translating, window

    parts = (
        window.WINDOW_TASKS,
        keeping.KEEPING_TASKS,
        correcting.CORRECTING_TASKS,
        translating.TRANSLATION_TASKS,
        training_tasks.TRAINING_TASKS,
        sharing.SHARING_TASKS,
    )
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names)) and set(names) < set(tasks.TASKS)
    assert all(tasks.TASKS[name] is part[name] for part in parts for name in part)
