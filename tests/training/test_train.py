"""A whole, tiny training run: from a configuration to a model that segments better than it began."""

import json

import numpy as np
import pytest
import torch

from napari_multiphase.config import RunConfig
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.training.train import read_run, train

RUN = RunConfig(
    method_config={"segmentor": {"widths": [4, 8]}},
    name="tiny",
    labels=(0, 1, 18),
    spacing_mm=(8.0, 8.0, 8.0),
    case_vox=(48, 48, 48),
    patch_vox=(16, 24, 24),
    cases=2,
    shared_steps=30,
    phase_steps=4,
    learning_rate=1e-2,
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    events: list[Event] = []
    return train(RUN, folder, processes=1, on_event=events.append), folder, events


def test_the_run_folder_explains_itself(trained):
    model, folder, events = trained
    assert read_run(folder / "run.yaml") == RUN
    assert model.card.name == "tiny" and model.card.phantoms_only
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert len(lines) == len(events) and lines[-1]["kind"] == "done"
    stages = [e.data["stage"] for e in events if e.kind == "metric"]
    assert list(dict.fromkeys(stages)) == ["shared", "arterial", "venous"]


def test_the_loss_falls(trained):
    losses = [e.data["cross_entropy"] for e in trained[2] if e.kind == "metric"]
    assert losses[-1] < losses[0]


def test_the_same_run_gives_the_same_weights(trained, tmp_path):
    model, folder, _ = trained
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "cases").symlink_to(folder / "cases")
    again = train(RUN, tmp_path / "again", processes=1)
    assert again.card.weights_sha256 == model.card.weights_sha256


def test_cancel_ends_the_run_before_a_model_is_written(trained, tmp_path):
    cancel = Cancel()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cases").symlink_to(trained[1] / "cases")
    with pytest.raises(Cancelled):
        train(RUN, tmp_path / "run", processes=1, on_event=lambda e: e.kind == "metric" and cancel.set(), cancel=cancel)
    assert not (tmp_path / "run" / "model").exists()


def test_a_wrong_configuration_is_one_sentence(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: fast\n")
    with pytest.raises(UserError, match=r"run\.yaml: learning_rate"):
        read_run(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_run(tmp_path / "none.yaml")


def test_threads_are_left_as_the_run_says(trained):
    assert torch.get_num_threads() == 1
    assert np.isfinite([e.data["dice"] for e in trained[2] if e.kind == "metric"]).all()
