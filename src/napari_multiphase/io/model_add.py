"""A stranger's model becomes one of the user's: copied file by file, confined, bounded, verified before it counts."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files, open_files
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.models import bundled, card_name, check_file, read_card, read_model, user_folder
from napari_multiphase.model import CARD_FILE, Model

_MOST_FILES = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_BLOCK = 1 << 20


def add_model(source: Path, replace: bool = False) -> Model:
    """Copy a model, a folder or a zip, to the user's models and return it from there.

    A zip may hold the model at its top or in one folder. Nothing is unpacked that does not belong to a model, no member
    leaves the folder, none grows past the size that the zip's own table states.

    Parameters
    ----------
    replace : take the place of a model of the same name.

    Raises
    ------
    UserError : no valid model (see `read_model`), a name that is taken, a folder that cannot be written.
    """
    source = Path(source)
    if source.is_dir():
        read_model(source)
    with open_files(source) as files:
        top = _top(files)
        name = read_card(files.read(str(top / CARD_FILE)), f"{files.path}: {CARD_FILE}").name
        target = user_folder() / (_UNSAFE.sub("-", name).strip("-.") or "model")
        _check_free(name, target, replace)
        with atomic_folder(target) as part:
            for member in _members(files, top):
                place = part / member.relative_to(top)
                place.parent.mkdir(parents=True, exist_ok=True)
                with files.open(str(member)) as inside, place.open("wb") as outside:
                    _copy(inside, outside, files, str(member))
            read_model(part)
    return read_model(target)


def _check_free(name: str, target: Path, replace: bool) -> None:
    if any(name == card_name(folder) for folder in bundled()):
        raise UserError(f"a model '{name}' comes with the program: give yours another name (name in {CARD_FILE})")
    if target.exists() and not replace:
        raise UserError(f"you have a model '{name}' already, in {target}: add --replace to take its place")


def _top(files: Files) -> PurePosixPath:
    """The folder that holds the card: the top, or the only folder there is."""
    cards = [PurePosixPath(name) for name in files.names() if PurePosixPath(name).name == CARD_FILE]
    nearest = sorted((card.parent for card in cards if len(card.parts) <= 2), key=lambda top: len(top.parts))
    if not nearest:
        raise UserError(f"{files.path}: is not a complete model, {CARD_FILE} is missing; get it again")
    if nearest[0].parts and len(nearest) > 1:
        raise UserError(f"{files.path}: holds several models; unpack it and add the folder of one")
    return nearest[0]


def _members(files: Files, top: PurePosixPath) -> list[PurePosixPath]:
    """The files to copy, each inside `top`, of a kind that a model has and not too large."""
    names = files.names()
    if len(names) > _MOST_FILES:
        raise UserError(f"{files.path}: holds {len(names)} files, too many for a model; get it again")
    if len({name.casefold() for name in names}) < len(names):
        raise UserError(f"{files.path}: names a file twice; get it again")
    members = []
    for name in names:
        path = PurePosixPath(name)
        stays = not path.is_absolute() and ".." not in path.parts and not set(name) & set("\\:\0")
        if not stays or not path.is_relative_to(top):
            raise UserError(f"{files.path}: '{name}' does not lie in the model's folder; get the model again")
        check_file(path.name, files.size(name), f"{files.path}: {name}")
        members.append(path)
    return members


def _copy(inside: IO[bytes], outside: IO[bytes], files: Files, name: str) -> None:
    """Copy at most as many bytes as are promised."""
    left = files.size(name)
    try:
        while block := inside.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise UserError(f"{files.path}: {name} is larger than it says; get the model again")
            outside.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{files.path}: {name} in it is damaged; get the model again") from error
