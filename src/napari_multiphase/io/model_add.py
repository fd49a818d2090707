"""A stranger's model becomes one of the user's: copied file by file, confined, bounded, verified before it counts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import Files, open_files
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.model_zip import check_sums
from napari_multiphase.io.models import bundled, card_name, check_file, installed, read_card, read_model, user_folder
from napari_multiphase.model import CARD_FILE, WEIGHTS_FILE, Model, ModelCard

_MOST_FILES = 200
_MOST_BESIDE_BYTES = 64 << 20
"""Of all files but the weights."""
_MOST_RATIO, _RATIO_FROM_BYTES = 50, 16 << 20
"""Numbers that were learned hardly shrink when packed: a large file that shrank more is a zip bomb."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def add_model(source: Path, replace: bool = False) -> Model:
    """Copy a model, a folder or a zip, to the user's models and return it from there.

    A zip may hold the model at its top or in one folder. Nothing is unpacked that does not belong to a model, no member
    leaves the folder or is a link, none grows past the size that the zip's own table states, and where there are
    checksums every file has its own.

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
        top, card = _look(files)
        if place_for(card.name).exists() and not replace:
            raise UserError(
                f"you have a model '{card.name}' already, in {place_for(card.name)}: add --replace to take its place"
            )
        with atomic_folder(place_for(card.name)) as part:
            _unpack(files, top, part)
    return read_model(place_for(card.name))


@contextmanager
def shown_model(source: Path) -> Iterator[Model]:
    """The model in a folder or a zip, verified as `add_model` does, without adding it; one from a zip lies in a
    temporary folder that goes when the block ends.

    Raises
    ------
    UserError : no valid model.
    """
    source = Path(source)
    if source.is_dir():
        yield read_model(source)
        return
    with open_files(source) as files, tempfile.TemporaryDirectory(prefix="multiphase-") as folder:
        top, _ = _look(files)
        yield _unpack(files, top, Path(folder))


def _look(files: Files) -> tuple[PurePosixPath, ModelCard]:
    """The model's folder in `files`, and its card."""
    top = _top(files)
    card, where = str(top / CARD_FILE), f"{files.path}: {CARD_FILE}"
    check_file(CARD_FILE, files.size(card), where)
    return top, read_card(files.read(card), where)


def _unpack(files: Files, top: PurePosixPath, part: Path) -> Model:
    """Copy what belongs to the model into the empty folder `part`, and verify it there."""
    for member in _members(files, top):
        place = part / member.relative_to(top)
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(files, str(member), place)
    check_sums(part, str(files.path))
    return read_model(part)


def _folder_name(name: str) -> str:
    return _UNSAFE.sub("-", name).strip("-.") or "model"


def place_for(name: str) -> Path:
    """Where the user's model of this name lies, or would.

    Raises
    ------
    UserError : another model has that name, or one so like it that both would share a folder, for models are found by
        folder and by name.
    """
    target = user_folder() / _folder_name(name)
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
    return target


def _top(files: Files) -> PurePosixPath:
    """The folder that holds the card: the top, or the only folder there is."""
    paths = [PurePosixPath(name) for name in files.names()]
    cards = [path for path in paths if path.name == CARD_FILE and files.holds(str(path))]
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
    if not all(map(str.isprintable, names)):
        raise UserError(f"{files.path}: holds a file whose name cannot be printed; get it again")
    if len({name.casefold() for name in names}) < len(names):
        raise UserError(f"{files.path}: names a file twice; get it again")
    members = []
    for name in names:
        path = PurePosixPath(name)
        plain = str(path) == name and not set(name) & set("\\:\0")
        stays = plain and not path.is_absolute() and ".." not in path.parts
        if not stays or not path.is_relative_to(top):
            raise UserError(f"{files.path}: '{name}' does not lie in the model's folder; get the model again")
        if files.is_link(name):
            raise UserError(f"{files.path}: '{name}' is a link, not a file; get the model again")
        size = files.size(name)
        check_file(path.name, size, f"{files.path}: {name}")
        if size > _RATIO_FROM_BYTES and size > _MOST_RATIO * files.packed_size(name):
            raise UserError(f"{files.path}: {name} would unpack to {size >> 20} MB of nearly nothing; it is no model")
        members.append(path)
    beside = sum(files.size(str(path)) for path in members if path.name != WEIGHTS_FILE)
    if beside > _MOST_BESIDE_BYTES:
        raise UserError(
            f"{files.path}: holds {beside >> 20} MB beside the weights, too much for a model; get the model again"
        )
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
