"""A proposed run: valid, explaining itself, made from the data, fitting into memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dataset_files import drawn, good, make_run, save

from napari_multiphase.config import PRESETS, method_config, preset
from napari_multiphase.config.data import DatasetConfig
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import read_model, tensor_shapes, write_model
from napari_multiphase.io.weights import read_weights
from napari_multiphase.methods import method as chosen_method
from napari_multiphase.training import plan as plan_module
from napari_multiphase.training.cache import case_sources
from napari_multiphase.training.card import card_of, model_tensors
from napari_multiphase.training.estimate import cost_of, measured_speed
from napari_multiphase.training.plan import plan_training
from napari_multiphase.training.record import read_metrics
from napari_multiphase.training.splits import REVIEWED, read_split
from napari_multiphase.training.train import train
from napari_multiphase.volume import Phase


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    monkeypatch.setattr(plan_module, "measured_speed", lambda names: dict.fromkeys(names, 1e10))


@pytest.fixture
def dataset(tmp_path):
    """Six cases of five patients, 3 mm; the last has no arterial scan."""
    cases = [{**good(tmp_path, f"c{n}", n), "patient": f"p{min(n, 4)}"} for n in range(6)]
    del cases[5]["arterial"]
    return make_run(tmp_path, cases).data.path


def written(made, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(made.to_yaml())
    return read_run(path)


@pytest.mark.parametrize("method", sorted(PRESETS))
def test_the_file_is_a_valid_run_that_says_why(method, tmp_path):
    made = plan_training("phantoms", method, "smoke", memory_gb=4)
    assert written(made, tmp_path) == made.run
    text = made.to_yaml()
    for word in ("# multiphase plan", "# Memory: about", "# Time: about", "meta device", "million parameters"):
        assert word in text
    assert "of the preset 'smoke'" in text and made.run.data.kind == "phantom"


def test_the_data_decide_labels_spacing_window_and_patch(dataset, tmp_path):
    made = plan_training(dataset, "pcn", "workstation", memory_gb=60)
    run, text = written(made, tmp_path), made.to_yaml()
    assert run == made.run and run.data.path == dataset
    assert run.labels == (0, 1, 2) and run.spacing_mm == (3.0, 3.0, 3.0)
    low, high = run.window_hu
    assert -10 <= low < high <= 130  # annotated voxels run from 50 to 70 HU
    assert run.patch_vox == (16, 32, 32)  # scans of 16 x 18 x 20 voxels, in multiples of 16
    assert "6 cases of 5 patients (5 arterial, 6 venous, 5 pairs)" in text
    assert "median of the 11 scans" in text and "held out, by patient" in text
    assert len(case_sources(run)) == 6


def test_a_preset_with_a_window_keeps_it_and_says_what_is_clipped(dataset):
    made = plan_training(dataset, "pann", "workstation", memory_gb=60)
    assert made.run.window_hu == preset("pann", "workstation").window_hu
    assert "% are clipped" in " ".join(made.reasons["window_hu"])
    assert "nobody drew" in " ".join(made.reasons["labels"])


def test_bad_cases_are_shown_and_only_bad_ones_refuse(dataset, tmp_path):
    listed = yaml.safe_load(dataset.read_text())
    listed["cases"][0]["venous"]["image"] = "gone.nii.gz"
    dataset.write_text(yaml.safe_dump(listed))
    text = " ".join(plan_training(dataset, "pcn", memory_gb=60).to_yaml().replace("\n#", "").split())
    assert "gone.nii.gz: there is no such file" in text
    listed["cases"] = listed["cases"][:1]
    dataset.write_text(yaml.safe_dump(listed))
    with pytest.raises(UserError, match="none of the cases can be read"):
        plan_training(dataset, "pcn", memory_gb=60)


def test_a_patch_is_never_smaller_than_discriminators_judge(dataset):
    """Scans of 16 x 18 x 20 voxels at 3 mm: at 8 x 6 x 6 mm a patch would have 8 slices, and 12 are judged."""
    run = plan_training(dataset, "csgan", "smoke", memory_gb=4).run
    assert min(run.patch_vox) >= method_config("csgan", run.method_config).discriminator.least == 12


def test_memory_cuts_the_step_first_and_then_the_patch():
    free = plan_training("phantoms", "pcn", "workstation-segmentors", memory_gb=60)
    assert (free.run.batch, free.run.accumulate) == (2, 1)
    cut = plan_training("phantoms", "pcn", "workstation-segmentors", memory_gb=free.cost.memory_mb / 1024 * 0.7)
    assert cut.run.accumulate == 2 and cut.run.patch_vox == free.run.patch_vox
    assert "one" not in cut.reasons["accumulate"][0] and "1 at a time" in cut.reasons["accumulate"][0]
    less = plan_training("phantoms", "pcn", "workstation-segmentors", memory_gb=free.cost.memory_mb / 1024 * 0.35)
    assert (
        np.prod(less.run.patch_vox) < np.prod(free.run.patch_vox) and less.cost.memory_mb < free.cost.memory_mb * 0.35
    )
    with pytest.raises(UserError, match="even for one small patch"):
        plan_training("phantoms", "hpn", memory_gb=0.5)


def test_a_method_that_mixes_cases_in_a_micro_batch_gets_a_smaller_patch():
    free = plan_training("phantoms", "pann", memory_gb=60)
    less = plan_training("phantoms", "pann", memory_gb=free.cost.memory_mb / 1024 * 0.5)
    assert less.run.accumulate == 1 and np.prod(less.run.patch_vox) < np.prod(free.run.patch_vox)
    assert min(less.run.patch_vox[1:]) >= 16


def test_a_data_set_annotated_in_full_needs_no_prior(dataset):
    made = plan_training(dataset, "pann", "smoke")
    assert made.run.method_config["supervision"] == "full"
    assert any("annotated in full" in reason for reason in made.reasons["method_config"])


def test_what_no_stage_can_learn_from_is_said_by_the_plan(dataset):
    listed = yaml.safe_load(dataset.read_text())
    for case in listed["cases"]:
        case.pop("arterial", None)
    dataset.write_text(yaml.safe_dump(listed))
    with pytest.raises(UserError, match="the arterial scan with labels"):
        plan_training(dataset, "pcn", "smoke")


def test_operations_and_memory_are_counted(monkeypatch):
    run = preset("pcn", "smoke-segmentors")
    cpu = torch.device("cpu")
    one = cost_of(run, cpu)
    two = cost_of(run.model_copy(update={"batch": 2}), cpu)
    assert two.operations == pytest.approx(2 * one.operations)
    base = one.memory_mb - (two.memory_mb - one.memory_mb)
    assert 600 < base < 605 and two.memory_mb > one.memory_mb  # what does not grow with the batch: process and weights
    assert [s.steps for s in one.stages] == [40, 10, 10]
    assert one.seconds(1e9) == pytest.approx(one.operations / 1e9)
    assert measured_speed(["cpu"])["cpu"] > 1e8
    held = cost_of(run.model_copy(update={"method_config": run.method_config | {"held": [2]}}), cpu)
    assert held.operations == pytest.approx(4 / 3 * one.operations), (
        "what the network said before is asked in every step"
    )


def test_every_pass_of_every_turn_counts_and_the_largest_turn_s_memory():
    """Generators that learn keep four passes of their own, and those of discriminators and segmentors behind them."""
    run, cpu = preset("csgan", "smoke"), torch.device("cpu")
    cost = cost_of(run, cpu)
    operations = {stage.name: stage.operations for stage in cost.stages}
    two_segmentors = operations["segmentors"]  # then six on three kinds of images, and two behind the shape loss
    assert operations["joint"] == pytest.approx(operations["generators"] + 4 * two_segmentors)
    ada, real = (
        cost_of(run.model_copy(update={"method_config": run.method_config | {"regime": r}}), cpu)
        for r in ("ada", "real")
    )
    assert real.memory_mb < ada.memory_mb < cost.memory_mb and real.operations < ada.operations < cost.operations


LARGE = [(method, name) for method in sorted(PRESETS) for name in PRESETS[method] if not name.startswith("smoke")]


@pytest.mark.parametrize(("method", "name"), LARGE)
def test_memory_of_every_large_preset_is_counted_and_a_workstation_has_it(method, name):
    cost = cost_of(preset(method, name), torch.device("cuda"))
    assert cost.memory_mb > 900 and cost.operations > 0 and cost.parameters > 0
    if name.startswith("workstation"):
        assert cost.memory_mb < 12 * 1024


def test_an_unknown_method_or_preset_is_one_sentence():
    with pytest.raises(UserError, match="there is no method 'unet'"):
        plan_training("phantoms", "unet")
    with pytest.raises(UserError, match="has no preset 'huge'"):
        plan_training("phantoms", "pcn", "huge")


# --- going on from a model -----------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    """A PCN without translators that tells two structures apart, untrained."""
    return untrained(tmp_path, mixed=False)


def untrained(tmp_path, *, mixed):
    config = {"segmentor": {"widths": [4, 8]}, "shared_steps": 400, "phase_steps": 100, "mixed": mixed}
    run = preset("pcn", "smoke-segmentors").model_copy(update={"method_config": config, "labels": (0, 1, 2)})
    folder = tmp_path / "model"
    write_model(folder, card_of(run), model_tensors(chosen_method("pcn").objective(run)))
    return str(folder)


@pytest.mark.parametrize("phantoms_only", [True, False])
def test_a_card_tells_what_its_start_learnt_from(tmp_path, phantoms_only):
    plain = preset("pcn", "smoke-segmentors")
    first = card_of(plain) | {"name": "first", "training_data": "eleven scans", "phantoms_only": phantoms_only}
    write_model(tmp_path / "first", first, model_tensors(chosen_method("pcn").objective(plain)))
    run = plain.model_copy(update={"start_from": str(tmp_path / "first")})
    card = card_of(run)
    assert "starting from 'first'" in card["training_data"] and "eleven scans" in card["training_data"]
    assert card["phantoms_only"] is phantoms_only, "what a patient taught stays in the weights"
    more = plain.data.model_copy(update={"cases": 31})
    again = card_of(run.model_copy(update={"data": more})) | {"name": "second"}
    write_model(tmp_path / "second", again, model_tensors(chosen_method("pcn").objective(plain)))
    third = card_of(run.model_copy(update={"start_from": str(tmp_path / "second")}))["training_data"]
    assert third.count("two-phase phantoms") == 1 and "31 of the same kind" in third and "eleven scans" in third
    others = [DatasetConfig(path=tmp_path / name / "cases.yaml") for name in "ab"]
    scans = card_of(run.model_copy(update={"data": others[0]}))
    write_model(tmp_path / "scans", scans, model_tensors(chosen_method("pcn").objective(plain)))
    last = card_of(run.model_copy(update={"data": others[1], "start_from": str(tmp_path / "scans")}))["training_data"]
    assert last.count("the cases of cases.yaml") == 2, "two lists of one name are not the same cases"
    gone = card_of(run.model_copy(update={"start_from": str(tmp_path / "gone")}))
    assert "starting from gone" in gone["training_data"] and not gone["phantoms_only"], "nobody can tell"


def as_corrected(folder, cases):
    """What was looked at is written beside the venous labels; the arterial ones are left out."""
    for entry in cases:
        seen = np.zeros(drawn().shape, np.uint8)
        seen[4:8] = 1
        entry["venous"]["reviewed"] = save(folder / f"{entry['id']}_seen.nii.gz", seen)
        entry["annotated"], entry["told"] = [], ["liver", "spleen"]
        entry["arterial"].pop("labels")
    return make_run(folder, cases).data.path


def test_corrections_get_a_recipe_of_their_own(tmp_path, model):
    path = as_corrected(tmp_path, [good(tmp_path, f"c{n}", n) for n in range(4)])
    made = plan_training(path, "pcn", start_from=model, memory_gb=8)
    config = method_config("pcn", made.run.method_config)
    assert written(made, tmp_path) == made.run
    assert config.labelled == (Phase.VENOUS,) and config.shared_steps == 0 and config.segmentor.widths == (4, 8)
    assert config.reviewed_weight > 1 and config.steps == config.phase_steps
    stages = [stage for stage in chosen_method("pcn").objective(made.run).stages() if stage.steps]
    assert [stage.name for stage in stages] == ["venous"]
    assert stages[0].turns[0].optimiser.lr == config.optimiser.lr  # the rate that was chosen for corrections
    text = " ".join(made.to_yaml().replace("#", "").split())
    assert "what was reviewed counts" in text and "no arterial scan has labels" in text
    assert "3 cases to learn from, 1 held out" in text and "corrected in part" in text


@pytest.mark.parametrize(
    ("shares", "held"), [((0.0, 0.004, 0.016), (2,)), ((0.0, 0.02, 0.016), ()), ((None, 0.0, 0.0), ())]
)
def test_what_corrections_hardly_changed_is_held(tmp_path, model, shares, held):
    cases = [good(tmp_path, f"c{n}", n) for n in range(3)]
    for case, share in zip(cases, shares, strict=True):
        if share is not None:
            case["changed"] = {"liver": 0.3, "spleen": share}
    made = plan_training(as_corrected(tmp_path, cases), "pcn", start_from=model, memory_gb=8)
    config = method_config("pcn", made.run.method_config)
    text = " ".join(made.to_yaml().replace("#", "").split())
    assert config.held == held and ("hardly anything was changed of spleen" in text) == bool(held)
    objective = chosen_method("pcn").objective(made.run)
    assert [made.run.labels[channel] for channel in objective.held] == list(held)
    other = made.run.model_copy(update={"method_config": {**made.run.method_config, "held": [2, 19]}})
    with pytest.raises(UserError, match=r"held names \[19\]"):
        chosen_method("pcn").objective(other)


def test_corrections_have_the_same_recipe_where_one_segmentor_serves_both_phases(tmp_path):
    path = as_corrected(tmp_path, [good(tmp_path, f"c{n}", n) for n in range(3)])
    apart, mixed = (
        plan_training(path, "pcn", start_from=untrained(tmp_path, mixed=mixed), memory_gb=8) for mixed in (False, True)
    )
    first, second = (chosen_method("pcn").objective(made.run).stages() for made in (apart, mixed))
    (one,), (other,) = ([stage for stage in stages if stage.steps] for stages in (first, second))
    assert (one.name, other.name) == ("venous", "shared") and one.steps == other.steps and one.draw == other.draw
    assert one.turns[0].optimiser == other.turns[0].optimiser
    assert method_config("pcn", mixed.run.method_config).keep_start > 0
    assert "stays as it is" not in mixed.to_yaml()


def test_a_model_that_kept_half_of_its_start_is_tuned_whole(tmp_path, dataset):
    folder = Path(untrained(tmp_path, mixed=True))
    card = json.loads((folder / "model.json").read_text())
    card["config"] |= {"keep_start": 0.5, "held": [2]}
    (folder / "model.json").write_text(json.dumps(card))
    config = plan_training(dataset, "pcn", start_from=str(folder), memory_gb=8).run.method_config
    assert method_config("pcn", config).keep_start == 0 and not method_config("pcn", config).held


def test_what_is_tuned_is_looked_at_in_the_sizes_of_its_start(tmp_path, dataset):
    folder = Path(untrained(tmp_path, mixed=True))
    assert "further_sizes" not in plan_training(dataset, "pcn", start_from=str(folder), memory_gb=8).to_yaml()
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "further_sizes": [0.8, 1.2]}))
    run = plan_training(dataset, "pcn", start_from=str(folder), memory_gb=8).run
    assert run.further_sizes == (0.8, 1.2) and card_of(run)["further_sizes"] == [0.8, 1.2]


def test_a_model_s_two_segmentors_go_on_apart(dataset, model):
    config = method_config("pcn", plan_training(dataset, "pcn", start_from=model, memory_gb=8).run.method_config)
    assert config.shared_steps == 0 and config.phase_steps == 30  # of 10 and half of the 40 in common
    assert config.labelled == tuple(Phase) and config.reviewed_weight == 1


def test_corrections_train_the_phase_that_was_corrected_and_leave_the_other(tmp_path, model):
    path = as_corrected(tmp_path, [good(tmp_path, f"c{n}", n) for n in range(4)])
    run = plan_training(path, "pcn", start_from=model, memory_gb=8).run
    short = {"method_config": {**run.method_config, "phase_steps": 2}, "threads": 1, "device": "cpu"}
    tuned = train(run.model_copy(update=short), tmp_path / "run", processes=1)
    shapes = tensor_shapes(tuned)
    before, after = read_weights(read_model(Path(model)), shapes), read_weights(tuned, shapes)
    same = {name: np.array_equal(before[name], after[name]) for name in shapes}
    assert all(same[name] for name in shapes if name.startswith("arterial."))
    assert not all(same[name] for name in shapes if name.startswith("venous."))
    judged = [row for row in read_metrics(tmp_path / "run") if row.split == "validation"]
    assert {row.step for row in judged} == {0, 2} and {row.name for row in judged} <= {
        "dice liver",
        "dice spleen",
        "dice mean",
    }
    assert read_split(tmp_path / "run").measured == REVIEWED
    assert f"Dice per structure, {REVIEWED}" in (tmp_path / "run" / "report.html").read_text()
