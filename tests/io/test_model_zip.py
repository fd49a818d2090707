"""A model as one zip: what goes out comes in again, and nothing that was changed on the way does."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_models import CARD, TENSORS

from napari_multiphase.errors import UserError
from napari_multiphase.io import models
from napari_multiphase.io.model_add import add_model, shown_model
from napari_multiphase.io.model_zip import SUMS_FILE, export_model
from napari_multiphase.io.models import read_model, user_folder, write_model


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIPHASE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "bundled")


@pytest.fixture
def model(tmp_path):
    made = write_model(tmp_path / "made" / "tiny", {**CARD, "summary": "für Tests"}, TENSORS)
    (made.folder / "notes").mkdir()
    (made.folder / "notes" / "README.md").write_text("how it was made")
    (made.folder / ".DS_Store").write_bytes(b"x")
    return made


def rewritten(path: Path, out: Path, change) -> Path:
    """The zip with its members, a dictionary name -> bytes, changed by `change`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(out, "w") as archive:
        for name, block in members.items():
            archive.writestr(name, block)
    return out


def nothing_was_left() -> bool:
    return not user_folder().exists() or list(user_folder().iterdir()) == []


def test_what_was_exported_is_added_byte_for_byte(model, tmp_path):
    path = export_model(model, tmp_path / "tiny.zip")
    added = add_model(path)
    assert added.card == model.card
    names = {p.relative_to(added.folder).as_posix() for p in added.folder.rglob("*") if p.is_file()}
    assert names == {"model.json", "weights.safetensors", "notes/README.md"}
    for name in names:
        assert (added.folder / name).read_bytes() == (model.folder / name).read_bytes()
    assert export_model(added, tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_a_zip_unpacked_by_hand_is_a_model_too(model, tmp_path):
    with zipfile.ZipFile(export_model(model, tmp_path / "tiny.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert read_model(tmp_path / "unpacked").card == model.card
    assert add_model(tmp_path / "unpacked").card == model.card


def test_a_zip_is_looked_into_without_being_added(model, tmp_path):
    path = export_model(model, tmp_path / "tiny.zip")
    with shown_model(path) as shown:
        assert shown.card == model.card and shown.weights.is_file()
        place = shown.folder
    assert nothing_was_left() and not place.exists()


def test_only_a_zip_is_written(model, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.zip"):
        export_model(model, tmp_path / "tiny.tar")
    model.weights.write_bytes(b"x" * 20)
    with pytest.raises(UserError):
        export_model(model, tmp_path / "tiny.zip")
    assert not (tmp_path / "tiny.zip").exists()


def sums_of(members):
    return json.loads(members[SUMS_FILE])


def edit_sums(**values):
    return lambda members: members.update({SUMS_FILE: json.dumps({**sums_of(members), **values}).encode()})


CHANGED = [
    (lambda m: m.update({"notes/README.md": b"other words"}), r"README\.md is not the file that checksums\.json names"),
    (lambda m: m.pop("notes/README.md"), r"README\.md is missing"),
    (lambda m: m.update({"more.txt": b"x"}), r"more\.txt is not named"),
    (lambda m: m.update({SUMS_FILE: b"{"}), r"checksums\.json is damaged"),
    (lambda m: m.update({SUMS_FILE: b"[" * 50_000}), r"checksums\.json is damaged"),
    (lambda m: m.update({SUMS_FILE: b"\xff\xfe"}), r"checksums\.json is damaged"),
    (edit_sums(files=[]), r"checksums\.json is damaged"),
    (edit_sums(files={"model.json": "x"}), r"checksums\.json is damaged"),
    (edit_sums(format="other"), r"checksums\.json is damaged"),
    (edit_sums(version=2), "newer version"),
    (lambda m: m.update({"model.json": m["model.json"].replace(b"none", b"many")}), r"model\.json is not the file"),
]


@pytest.mark.parametrize(("change", "words"), CHANGED)
def test_a_zip_that_was_changed_on_the_way_is_refused(model, tmp_path, change, words):
    path = rewritten(export_model(model, tmp_path / "tiny.zip"), tmp_path / "changed.zip", change)
    for look in (add_model, lambda p: shown_model(p).__enter__()):
        with pytest.raises(UserError, match=words) as caught:
            look(path)
        assert "\n" not in str(caught.value) and nothing_was_left()


def test_a_link_in_a_zip_is_refused(model, tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model.json", "weights.safetensors"):
            archive.writestr(name, (model.folder / name).read_bytes())
        entry = zipfile.ZipInfo("README.md")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match=r"'README\.md' is a link"):
        add_model(path)
    assert nothing_was_left()


def test_a_bomb_is_refused_unread(model, tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", (model.folder / "model.json").read_bytes())
        archive.writestr("weights.safetensors", b"\0" * (40 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match="would unpack to 40 MB of nearly nothing"):
        add_model(path)
    assert nothing_was_left()


def test_many_notes_are_bounded_together(model, tmp_path):
    block = bytes(range(256)) * (15 << 12)
    path = tmp_path / "notes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model.json", "weights.safetensors"):
            archive.writestr(name, (model.folder / name).read_bytes())
        for number in range(5):
            archive.writestr(f"{number}.txt", block)
    with pytest.raises(UserError, match="75 MB beside the weights"):
        add_model(path)
    assert nothing_was_left()


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_is_kept(model, tmp_path, data):
    """Bytes changed, dropped or doubled anywhere: the model comes in as it was, or a sentence says why not."""
    path = tmp_path / "tiny.zip"
    whole = bytearray((path if path.exists() else export_model(model, path)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "double"]))
        if how == "change":
            whole[at] ^= data.draw(st.integers(1, 255))
        else:
            end = min(len(whole), at + data.draw(st.integers(1, 40)))
            whole[at:end] = whole[at:end] * 2 if how == "double" else b""
        if len(whole) < 2:
            break
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(bytes(whole))
    try:
        added = add_model(damaged, replace=True)
    except UserError as error:
        added, sentence = None, str(error)
    if added is None:
        assert "\n" not in sentence
    else:
        assert added.card == model.card
        assert added.weights.read_bytes() == model.weights.read_bytes()


NAMES = st.lists(
    st.sampled_from(["..", ".", "", "a", "b", "C:", "\\", "/", "model.json", "README.md", "x\0y", "ü", "CON", "~"]),
    min_size=1,
    max_size=4,
).map("/".join)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(names=st.lists(NAMES, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_member_leaves_the_folder(model, tmp_path, names):
    path, before = tmp_path / "names.zip", sorted(tmp_path.rglob("*"))
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as archive:
        for name in ("model.json", "weights.safetensors"):
            archive.writestr(name, (model.folder / name).read_bytes())
        for name in dict.fromkeys(names):
            archive.writestr(name or "x", b"stranger")
    path.write_bytes(block.getvalue())
    try:
        target = add_model(path, replace=True).folder
    except UserError:
        target = None
    made = {p for p in tmp_path.rglob("*") if p not in before and p != path and (tmp_path / "data") not in p.parents}
    assert made <= {tmp_path / "data"}
    for kept in user_folder().rglob("*") if user_folder().exists() else ():
        assert target is None or kept == target or target in kept.parents or kept == user_folder()
