"""Checkpoints: whole or not there, verified when read, the last two kept."""

import json

import pytest
import torch

from napari_multiphase.errors import UserError
from napari_multiphase.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def save(folder, step, value=None):
    tensors = {"a": torch.full((3, 2), float(value or step)), "count": torch.tensor(7)}
    return save_checkpoint(folder, step, Checkpoint(tensors, {"stage": 1, "done": step}))


def test_what_was_saved_comes_back(tmp_path):
    save(tmp_path, 5)
    found = load_checkpoint(tmp_path)
    assert torch.equal(found.tensors["a"], torch.full((3, 2), 5.0)) and found.tensors["count"].dtype == torch.int64
    assert found.meta["stage"] == 1 and found.meta["done"] == 5


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
        (tmp_path / "checkpoints" / ".0123456789ab.part").mkdir()  # a kill in the middle of a write
    save(tmp_path, 15)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000010", "00000015"]


@pytest.mark.parametrize("damage", ["flip", "cut", "no card", "no state", "no json"])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    save(tmp_path, 5)
    newest = save(tmp_path, 10)
    state, card = newest / "state.safetensors", newest / "checkpoint.json"
    if damage == "flip":
        content = bytearray(state.read_bytes())
        content[-1] ^= 1
        state.write_bytes(content)
    elif damage == "cut":
        state.write_bytes(state.read_bytes()[:-9])
    elif damage == "no json":
        card.write_text(json.dumps({"sha256": 3})[:-4])
    else:
        (card if damage == "no card" else state).unlink()
    told = []
    assert load_checkpoint(tmp_path, told.append).meta["done"] == 5
    assert [event.kind for event in told] == ["warning"]
    assert "damaged at step 10; the run goes on from step 5" in told[0].message


def test_what_was_just_saved_and_what_the_run_went_on_from_are_kept_and_a_damaged_later_one_goes(tmp_path):
    for step in (5, 10, 20):
        save(tmp_path, step)
    (save(tmp_path, 20) / "state.safetensors").unlink()
    save(tmp_path, 12)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000010", "00000012"]
    assert load_checkpoint(tmp_path).meta["done"] == 12


def test_nothing_saved_is_none_and_all_damaged_is_said(tmp_path):
    assert load_checkpoint(tmp_path) is None
    (save(tmp_path, 5) / "state.safetensors").unlink()
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path)


def test_a_write_that_fails_leaves_the_last_good_one(tmp_path, monkeypatch):
    save(tmp_path, 5)

    def full(self, *_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match="disk is full"):
        save(tmp_path, 10)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).meta["done"] == 5
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000005"]
