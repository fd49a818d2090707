"""What a person chose in the window's form is what the run is."""

import pytest
from tiny_runs import tiny_run

from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.training.form import TrainingForm, plan_form, write_plan
from napari_multiphase.training.steps import count_steps, with_steps


@pytest.mark.parametrize("method", ["pcn", "hpn", "pann", "urim", "csgan"])
@pytest.mark.parametrize("wanted", [6, 100, 1003])
def test_a_run_has_the_steps_that_were_asked_for(method, wanted):
    run = with_steps(tiny_run(method), wanted)
    assert abs(count_steps(run) - wanted) <= wanted % 2, "a stage of hpn trains two models, step by step"
    assert run.validation.every <= wanted


def test_no_stage_is_lost_where_the_steps_are_fewer_than_the_stages():
    assert count_steps(with_steps(tiny_run("pcn"), 1)) == 3


def test_every_field_is_in_the_file(tmp_path):
    form = TrainingForm(method="hpn", preset="smoke", length="steps", amount=8, seed=11, name="mine")
    planned = plan_form(form)
    run = read_run(write_plan(planned, tmp_path))
    assert run == planned.plan.run
    assert (run.method, run.seed, run.name, run.method_config["steps"], run.start_from) == ("hpn", 11, "mine", 4, None)
    assert planned.facts["steps"] == 8 and planned.facts["seconds"] > 0 and planned.facts["memory_mb"] > 100
    assert len(planned.facts["train"]) == 3 and len(planned.facts["validation"]) == 1
    assert "8 steps in all: as asked" in (tmp_path / "plan.yaml").read_text()


def test_the_preset_for_trying_a_model_further_takes_about_two_minutes(tmp_path):
    planned = plan_form(TrainingForm(method="pcn", preset="smoke", start_from="pcn-phantom"))
    run = planned.plan.run
    assert run.start_from == "pcn-phantom" and run.spacing_mm == (3, 2, 2) and len(run.labels) == 24
    size_mm = [n * mm for n, mm in zip(run.data.case_vox, run.spacing_mm, strict=True)]
    assert size_mm == pytest.approx([384, 336, 384], rel=0.1), "bodies as large as at the preset's own spacing"
    assert planned.facts["seconds"] < 150 or planned.facts["steps"] <= 4
    assert "2 minutes, as estimated" in write_plan(planned, tmp_path).read_text()
    with pytest.raises(UserError, match="is a pcn model"):
        plan_form(TrainingForm(method="hpn", start_from="pcn-phantom"))
