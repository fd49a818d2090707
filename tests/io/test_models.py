"""A model is read only when everything about it holds; each way it can be wrong has its sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.io import models
from napari_multiphase.io.models import bundled, find_model, read_model, tensor_shapes, write_model
from napari_multiphase.io.weights import read_weights

CARD: dict[str, Any] = {
    "name": "tiny",
    "method": "pcn",
    "config": {},
    "labels": [0, 1, 2],
    "phases": ["arterial", "venous"],
    "window_hu": [-200, 600],
    "spacing_mm": [3, 2, 2],
    "tile_vox": [64, 96, 96],
    "overlap": 0.25,
    "summary": "for tests",
    "training_data": "none",
    "phantoms_only": True,
    "licence": "BSD-3-Clause",
}
TENSORS = {"head.weight": np.ones((3, 4, 1, 1, 1), np.float16), "stem.weight": np.ones((4, 1, 3, 3, 3), np.float16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny", CARD, TENSORS).folder


def test_what_is_written_is_read_back(folder: Path) -> None:
    model = read_model(folder)
    assert model.card.labels == (0, 1, 2)
    assert tensor_shapes(model) == {name: array.shape for name, array in TENSORS.items()}
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "weights.safetensors"]


def edit_card(folder: Path, **values: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **values}))


def change_weights(folder: Path) -> None:
    block = bytearray((folder / "weights.safetensors").read_bytes())
    block[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(block))


def add(name: str):
    return lambda folder: (folder / name).write_bytes(b"x")


def link(name: str, target: str):
    def make(folder: Path) -> None:
        (folder.parent / "outside").write_text("x")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return make


def raw_weights(header: bytes, data: bytes = b"", claimed: int | None = None):
    def make(folder: Path) -> None:
        size = len(header) if claimed is None else claimed
        (folder / "weights.safetensors").write_bytes(struct.pack("<Q", size) + header + data)

    return make


REFUSED = [
    (change_weights, "its hash differs"),
    (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors is missing"),
    (lambda f: (f / "model.json").unlink(), "model.json is missing"),
    (lambda f: edit_card(f, labels=[1, 2]), "'labels' is not valid .must start with 0"),
    (lambda f: edit_card(f, labels=[0, 99]), "99 is not an id of the label table"),
    (lambda f: edit_card(f, surprise=1), "'surprise' is not valid"),
    (lambda f: edit_card(f, spacing_mm=[0, 1, 1]), "'spacing_mm' is not valid .must lie"),
    (lambda f: edit_card(f, method="nomethod"), "method 'nomethod' that this version does not have .pcn"),
    (lambda f: edit_card(f, config={"x": 1}), r"not valid for pcn \(config\.x: is not known"),
    (lambda f: edit_card(f, weights_sha256="x"), "'weights_sha256' is not valid"),
    (lambda f: (f / "model.json").write_text("{"), "not valid JSON"),
    (lambda f: (f / "model.json").write_text("[" * 100_000), "not valid JSON"),
    (lambda f: (f / "model.json").write_text("[]"), "not valid"),
    (lambda f: (f / "model.json").write_text(" " * (2 << 20)), "larger than 1 MB"),
    (add("weights.pt"), "can run code"),
    (add("weights.PTH"), "can run code"),
    (add("data.pkl"), "can run code"),
    (add("pytorch_model.bin"), "can run code"),
    (add("last.ckpt"), "can run code"),
    (add("a.npz"), "can run code"),
    (add("run.py"), "does not belong"),
    (add("other.safetensors"), "does not belong"),
    (link("weights.safetensors", "../outside"), "outside the model's folder"),
    (link("model.json", "../outside"), "outside the model's folder"),
    (link("README.md", "../outside"), "outside the model's folder"),
    (raw_weights(b"{}"), "holds no weights"),
    (raw_weights(b"", claimed=1 << 60), "damaged or not a safetensors"),
    (raw_weights(b"not json at all"), "damaged or not a safetensors"),
    (raw_weights(b'{"a":{"dtype":"F32","shape":[3,1000000],"data_offsets":[0,4]}}', b"1234"), "damaged or not"),
    (raw_weights(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}', b"1234"), "damaged or not"),
    (raw_weights(b'{"a":{"dtype":"PY","shape":[1],"data_offsets":[0,4]}}', b"1234"), "damaged or not"),
    (raw_weights(b'{"a":3}', b"1234"), "damaged or not"),
    (raw_weights(b""), "damaged or not"),
]


@pytest.mark.parametrize(("damage", "words"), REFUSED)
def test_a_wrong_model_gets_one_sentence(folder: Path, damage, words: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)
    assert "tiny" in str(caught.value)


def test_notes_beside_the_weights_are_welcome(folder: Path) -> None:
    (folder / "README.md").write_text("how it was trained")
    (folder / "train.yaml").write_text("seed: 0")
    assert read_model(folder).card.name == "tiny"


@pytest.mark.parametrize(
    ("expected", "sentence"),
    [
        ({"head.weight": (3, 4, 1, 1, 1), "stem.weight": (4, 1, 3, 3, 3), "more": (1,)}, "lack 'more'"),
        ({"head.weight": (4, 4, 1, 1, 1), "stem.weight": (4, 1, 3, 3, 3)}, "'head.weight'"),
        ({"head.weight": (3, 4, 1, 1, 1)}, "hold 'stem.weight'"),
    ],
)
def test_weights_are_compared_with_what_the_network_needs(folder: Path, expected, sentence) -> None:
    model = read_model(folder)
    assert set(read_weights(model, {name: array.shape for name, array in TENSORS.items()})) == set(TENSORS)
    with pytest.raises(UserError, match=sentence):
        read_weights(model, expected)


def test_a_card_that_is_not_valid_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'overlap' is not valid"):
        write_model(tmp_path / "m", {**CARD, "overlap": 2}, TENSORS)
    assert list(tmp_path.iterdir()) == []


def test_models_are_found_by_name_folder_or_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "models")
    assert bundled() == []
    with pytest.raises(UserError, match="no model comes with"):
        find_model(None)
    write_model(tmp_path / "models" / "a", {**CARD, "name": "first"}, TENSORS)
    write_model(tmp_path / "models" / "b", {**CARD, "name": "second", "metrics": {"real_ct_dice": 0.7}}, TENSORS)
    assert [path.name for path in bundled()] == ["b", "a"]
    assert find_model(None).card.name == "second"
    assert find_model("a").card.name == find_model("first").card.name == "first"
    own = write_model(tmp_path / "own", {**CARD, "name": "mine"}, TENSORS)
    assert find_model(str(own.folder)).card.name == "mine"
    with pytest.raises(UserError, match=r"there is no model 'x'.*b, a"):
        find_model("x")
    with pytest.raises(UserError, match="no such model folder"):
        read_model(tmp_path / "gone")
