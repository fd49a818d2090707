"""A stranger's model becomes one of the user's: copied file by file, confined, bounded, verified before it counts."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files, open_files
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.models import bundled, card_name, check_file, installed, read_card, read_model, user_folder
from napari_multiphase.model import CARD_FILE, Model

_MOST_FILES = 200
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def add_model(source: Path, replace: bool = False) -> Model:
    """Copy a model, a folder or a zip, to the user's models and return it from there.

    A zip may hold the model at its top or in one folder. Nothing is unpacked that does not belong to a model, no member
    leaves the folder, none grows past the size that the zip's own table states.

    Parameters
    ----------
    replace : take the place of a model of exactly the same name.

    Raises
    ------
    UserError : no valid model (see `read_model`), a name that is taken, a folder that cannot be written.
    """
    source = Path(source)
    if source.is_dir():
        read_model(source)
    with open_files(source) as files:
        top = _top(files)
        card, where = str(top / CARD_FILE), f"{files.path}: {CARD_FILE}"
        check_file(CARD_FILE, files.size(card), where)
        name = read_card(files.read(card), where).name
        target = user_folder() / _folder_name(name)
        _check_free(name, target, replace)
        with atomic_folder(target) as part:
            for member in _members(files, top):
                place = part / member.relative_to(top)
                place.parent.mkdir(parents=True, exist_ok=True)
                _copy(files, str(member), place)
            read_model(part)
    return read_model(target)


def _folder_name(name: str) -> str:
    return _UNSAFE.sub("-", name).strip("-.") or "model"


def _check_free(name: str, target: Path, replace: bool) -> None:
    """Names that share a folder count as one, for models are found by folder and by name."""
    key = target.name.casefold()
    like = [f for f in installed() if key in (f.name.casefold(), _folder_name(card_name(f)).casefold())]
    if set(like) & set(bundled()):
        raise UserError(f"a model '{name}' comes with the program: give yours another name (name in {CARD_FILE})")
    for folder in like:
        if folder != target or card_name(folder) not in (name, ""):
            raise UserError(
                f"your model '{card_name(folder) or folder.name}' in {folder} has nearly the name '{name}': give this "
                f"one another name (name in {CARD_FILE}), or remove that folder"
            )
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


def _copy(files: Files, name: str, place: Path) -> None:
    """Copy at most as many bytes as are promised."""
    left = files.size(name)
    with place.open("wb") as outside:
        for block in files.blocks(name):
            left -= len(block)
            if left < 0:
                raise UserError(f"{files.path}: {name} is larger than it says; get the model again")
            outside.write(block)
