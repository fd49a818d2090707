"""Adding a model: from a folder or a zip, confined, bounded, whole or not at all."""

import json
import os
import struct
import zipfile

import pytest
from test_models import CARD, TENSORS

from napari_multiphase.errors import UserError
from napari_multiphase.io import models
from napari_multiphase.io.model_add import add_model
from napari_multiphase.io.models import find_model, installed, user_folder, user_models, write_model


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "bundled")


def make(tmp_path, name="tiny"):
    return write_model(tmp_path / "made" / name, {**CARD, "name": name}, TENSORS).folder


def zipped(folder, path, top="", extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, top + file.name)
        for name, block in extra:
            archive.writestr(name, block)
    return path


def nothing_was_left():
    return not user_folder().exists() or list(user_folder().iterdir()) == []


@pytest.mark.parametrize("form", ["folder", "zip", "zip of a folder", "zip made on a Mac"])
def test_an_added_model_is_found_by_name(tmp_path, form):
    source = make(tmp_path)
    if form != "folder":
        top = "" if form == "zip" else "some folder/"
        extra = [("__MACOSX/some folder/._model.json", b"x")] if form == "zip made on a Mac" else []
        source = zipped(source, tmp_path / "m.zip", top, extra)
    model = add_model(source)
    assert model.folder == (user_folder() / "tiny").resolve()
    assert sorted(p.name for p in model.folder.iterdir()) == ["model.json", "weights.safetensors"]
    assert find_model("tiny").folder == model.folder
    assert find_model().folder == model.folder  # nothing is bundled here


def test_a_name_is_taken_once_unless_told(tmp_path):
    folder = make(tmp_path)
    add_model(folder)
    with pytest.raises(UserError, match=r"you have a model 'tiny' already.*--replace"):
        add_model(folder)
    write_model(folder, {**CARD, "name": "tiny", "summary": "better"}, TENSORS)
    assert add_model(folder, replace=True).card.summary == "better"
    assert len(user_models()) == 1


def test_a_bundled_name_is_refused(tmp_path):
    write_model(tmp_path / "bundled" / "x", {**CARD, "name": "tiny"}, TENSORS)
    with pytest.raises(UserError, match="comes with the program"):
        add_model(make(tmp_path), replace=True)


@pytest.mark.parametrize("name", ["pcn phantom", "pcn-phantom", "PCN-Phantom", "pcn/phantom", "best", "Best"])
def test_a_name_that_a_bundled_model_answers_to_is_refused(tmp_path, name):
    write_model(tmp_path / "bundled" / "pcn-phantom", {**CARD, "name": "best"}, TENSORS)
    folder = write_model(tmp_path / "made", {**CARD, "name": name}, TENSORS).folder
    with pytest.raises(UserError, match="comes with the program"):
        add_model(folder, replace=True)
    assert nothing_was_left() and find_model("pcn-phantom").folder.is_relative_to(tmp_path / "bundled")


@pytest.mark.parametrize("replace", [False, True])
def test_a_model_of_another_name_is_never_replaced(tmp_path, replace):
    add_model(write_model(tmp_path / "made", {**CARD, "name": "my model"}, TENSORS).folder)
    folder = write_model(tmp_path / "made", {**CARD, "name": "my-model"}, TENSORS).folder
    with pytest.raises(UserError, match=r"your model 'my model' in .* has nearly the name 'my-model'.*another name"):
        add_model(folder, replace=replace)
    assert [models.card_name(folder) for folder in user_models()] == ["my model"]


def test_a_model_that_was_put_there_by_hand_keeps_its_name(tmp_path):
    write_model(user_folder() / "x", {**CARD, "name": "tiny"}, TENSORS)
    with pytest.raises(UserError, match="nearly the name 'tiny'"):
        add_model(make(tmp_path), replace=True)


def test_a_damaged_model_may_be_replaced_by_a_whole_one(tmp_path):
    folder = make(tmp_path)
    (add_model(folder).folder / "model.json").write_text("{")
    assert add_model(folder, replace=True).card.name == "tiny"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "nomethod"}, r"method 'nomethod' that this version does not have \(pcn, "),
        ({"config": {"x": 1}}, r"settings are not valid for pcn \(config\.x: is not known"),
        ({"config": {"segmentor": {"widths": [4]}}}, r"not valid for pcn \(config\.segmentor\.widths: "),
    ],
)
def test_a_model_that_cannot_run_here_is_refused(tmp_path, changes, words):
    folder = make(tmp_path)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **changes}))
    for source in (folder, zipped(folder, tmp_path / "m.zip")):
        with pytest.raises(UserError, match=words) as caught:
            add_model(source)
        assert "\n" not in str(caught.value) and nothing_was_left()


def test_the_users_models_come_first_newest_on_top(tmp_path):
    write_model(tmp_path / "bundled" / "b", {**CARD, "name": "b"}, TENSORS)
    for age, name in enumerate(("one", "two", "three")):
        card = add_model(make(tmp_path, name)).folder / "model.json"
        os.utime(card, ns=(10**18 - age * 10**9, 10**18 - age * 10**9))
    assert [folder.name for folder in installed()] == ["one", "two", "three", "b"]
    assert find_model().card.name == "b"


def test_what_a_killed_copy_left_behind_is_no_model(tmp_path):
    added = add_model(make(tmp_path)).folder
    added.rename(user_folder() / ".0123456789ab.part")
    assert user_models() == [] and installed() == []
    assert add_model(make(tmp_path)).card.name == "tiny"


def test_a_damaged_model_of_the_users_hides_no_other(tmp_path):
    add_model(make(tmp_path, "one"))
    (add_model(make(tmp_path, "two")).folder / "model.json").write_text("{")
    assert find_model("one").card.name == "one"


def test_a_name_that_is_no_file_name_is_made_one(tmp_path):
    folder = write_model(tmp_path / "made", {**CARD, "name": "../a b/ü"}, TENSORS).folder
    assert add_model(folder).folder == (user_folder() / "a-b").resolve()


HOSTILE = [
    ("../outside.md", "does not lie in the model's folder"),
    ("/outside.md", "does not lie in the model's folder"),
    ("a\\..\\outside.md", "does not lie in the model's folder"),
    ("C:outside.md", "does not lie in the model's folder"),
    ("notes/weights.pt", "can run code"),
    ("run.py", "does not belong"),
    ("other/weights.safetensors2", "does not belong"),
    ("MODEL.json", "names a file twice"),
]


@pytest.mark.parametrize(("name", "words"), HOSTILE)
def test_a_hostile_zip_is_refused_in_words(tmp_path, name, words):
    path = zipped(make(tmp_path), tmp_path / "m.zip", extra=[("readme.txt", b"x"), (name, b"x")])
    with pytest.raises(UserError, match=words):
        add_model(path)
    assert nothing_was_left()
    assert not (tmp_path / "outside.md").exists() and not (tmp_path / "data" / "outside.md").exists()


def test_files_beside_the_only_folder_are_refused(tmp_path):
    path = zipped(make(tmp_path), tmp_path / "m.zip", "top/", [("beside.txt", b"x")])
    with pytest.raises(UserError, match=r"'beside\.txt' does not lie"):
        add_model(path)


def test_two_models_in_one_zip_are_refused(tmp_path):
    path = zipped(make(tmp_path), tmp_path / "m.zip", "a/", [("b/model.json", b"{}")])
    with pytest.raises(UserError, match="holds several models"):
        add_model(path)


def test_a_large_note_is_refused_before_it_is_unpacked(tmp_path):
    path = zipped(make(tmp_path), tmp_path / "m.zip", extra=[("notes.md", b"\0" * (17 << 20))])
    with pytest.raises(UserError, match=r"notes\.md: is larger than 16 MB"):
        add_model(path)
    assert nothing_was_left()


def test_a_member_that_grows_past_its_stated_size_is_stopped(tmp_path):
    path = zipped(make(tmp_path), tmp_path / "m.zip", extra=[("notes.md", b"\0" * (8 << 20))])
    block = bytearray(path.read_bytes())
    entry = block.rindex(b"PK\x01\x02")
    assert b"notes.md" in block[entry : entry + 80]
    block[entry + 24 : entry + 28] = struct.pack("<I", 100)
    path.write_bytes(bytes(block))
    with pytest.raises(UserError, match=r"notes\.md( is larger than it says|.* is damaged)"):
        add_model(path)
    assert nothing_was_left()


def test_damaged_weights_leave_nothing_behind(tmp_path):
    folder = make(tmp_path)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    path = zipped(folder, tmp_path / "good.zip")
    (folder / "weights.safetensors").write_bytes(bytes(weights))
    for source in (folder, zipped(folder, tmp_path / "bad.zip")):
        with pytest.raises(UserError, match="its hash differs"):
            add_model(source)
        assert nothing_was_left()
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 255
    path.write_bytes(bytes(broken))
    with pytest.raises(UserError):
        add_model(path)
    assert nothing_was_left()


@pytest.mark.parametrize("member", ["model.json", "weights.safetensors"])
@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_is_named_however_the_zip_is_packed(tmp_path, packing, member):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        for file in sorted(make(tmp_path).iterdir()):
            archive.write(file, file.name)
        info = archive.getinfo(member)
    block = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(member)
    block[start + 9 : start + info.compress_size] = b"\xff" * (info.compress_size - 9)
    path.write_bytes(bytes(block))
    with pytest.raises(UserError, match=rf"{member} in it is damaged"):
        add_model(path)
    assert nothing_was_left()


def test_a_packing_that_is_not_known_is_said(tmp_path):
    path = zipped(make(tmp_path), tmp_path / "m.zip")
    block = bytearray(path.read_bytes())
    for mark, place in (
        (b"PK\x03\x04", 8),
        (b"PK\x01\x02", 10),
    ):  # deflate becomes Deflate64, Windows' own for large files
        at = block.find(mark)
        while at >= 0:
            block[at + place : at + place + 2] = struct.pack("<H", 9)
            at = block.find(mark, at + 4)
    path.write_bytes(bytes(block))
    with pytest.raises(UserError, match="packed in a way that is not read here; unpack the zip"):
        add_model(path)
    assert nothing_was_left()


def test_a_large_card_is_refused_unread(tmp_path):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b"\0" * (2 << 20))
    with pytest.raises(UserError, match=r"model\.json: is larger than 1 MB"):
        add_model(path)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\0" * 18, b"not a zip"])
def test_what_is_no_zip_of_a_model_is_refused(tmp_path, content):
    path = tmp_path / "m.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable zip|model\.json is missing"):
        add_model(path)
