"""A write is whole or did not happen."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_folder, atomic_path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_sibling_keeps_the_suffixes_and_becomes_the_target(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.nii.gz"
    with atomic_path(target) as part:
        assert part.parent == target.parent
        assert part.name.endswith(".nii.gz")
        part.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"
    assert names(target.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError("defect"), KeyboardInterrupt()])
def test_any_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def work() -> None:
        with atomic_path(target) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        work()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "may not write"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "check the folder"),
    ],
)
@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_what_the_system_refuses_is_said_in_words(tmp_path: Path, number: int, words: str, writer) -> None:
    def work() -> None:
        with writer(tmp_path / "a") as part:
            (part / "x" if part.is_dir() else part).write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=words) as caught:
        work()
    assert str(tmp_path / "a") in str(caught.value)
    assert names(tmp_path) == []


def test_a_full_device_is_reported_in_words() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full, which only Linux has")
    with pytest.raises(UserError, match="disk is full"):
        write_to(full)


def write_to(device: Path) -> None:
    with atomic_path(device.parent / "shm" / "multiphase-test") as part:
        part.symlink_to(device)
        with part.open("wb") as handle:
            handle.write(bytes(100))


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("x")
    with atomic_folder(target) as part:
        (part / "sub").mkdir()
        (part / "sub" / "new").write_text("y")
        assert names(target) == ["old"]
    assert names(target) == ["sub"]
    assert names(tmp_path) == ["model"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("x")

    def work() -> None:
        with atomic_folder(target) as part:
            (part / "new").write_text("y")
            raise RuntimeError("defect")

    with pytest.raises(RuntimeError):
        work()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    def work() -> None:
        with atomic_path(tmp_path / "a") as part:
            part.write_text("x")

    with pytest.raises(UserError, match="folder of that name"):
        work()
