"""Model folders: read only after card, sizes and hash were verified; written whole. Never pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import save

from napari_multiphase.config import METHOD_CONFIGS, TranslatorTraits, method_config, translator_traits_of
from napari_multiphase.config.words import in_words
from napari_multiphase.errors import UserError
from napari_multiphase.io.atomic import atomic_folder
from napari_multiphase.io.places import data_folder
from napari_multiphase.io.values import sha256_of
from napari_multiphase.model import CARD_FILE, WEIGHTS_FILE, Model, ModelCard

BUNDLED = Path(__file__).resolve().parents[1] / "models"
"""The folder of the models that come with the package."""

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".dill", ".h5"}
_TEXT = {".md", ".txt", ".json", ".yaml", ".yml", ".png", ".svg", ""}
_CARD_LIMIT = 1 << 20
_TEXT_LIMIT = 16 << 20
_HEADER_LIMIT = 16 << 20
_WEIGHTS_LIMIT = 4 << 30
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_model(folder: Path) -> Model:
    """The model in `folder`, its card valid and its weights the ones the card names.

    Raises
    ------
    UserError : missing or foreign files (pickles above all), links out of the folder, wrong sizes, a card that is not
        valid, a method or settings of it that are not known here, weights with another hash. Whether they fit the
        card's method is seen when they are read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such model folder; `multiphase models list` shows what there is")
    _check_files(folder)
    card = read_card((folder / CARD_FILE).read_bytes(), str(folder / CARD_FILE))
    _check_method(card, str(folder / CARD_FILE))
    model = Model(folder.resolve(), card)
    tensor_shapes(model)
    if sha256_of(model.weights) != card.weights_sha256:
        raise UserError(f"{model.weights}: is not the file that {CARD_FILE} describes (its hash differs); get it again")
    return model


def _check_files(folder: Path) -> None:
    root = folder.resolve()
    for name in (CARD_FILE, WEIGHTS_FILE):
        if not (folder / name).exists():
            raise UserError(f"{folder}: is not a complete model, {name} is missing; get the folder again")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.resolve().is_relative_to(root):
            raise UserError(f"{path}: points outside the model's folder; copy the files themselves into it")
        if path.is_dir():
            continue
        if not path.is_file():
            raise UserError(f"{path}: is no plain file; remove it or get the model again")
        check_file(path.name, path.stat().st_size, str(path))


def check_file(name: str, size: int, where: str) -> None:
    """Raise a UserError unless a file of this name and size may lie in a model's folder."""
    suffix = PurePath(name).suffix.lower()
    if suffix in _PICKLES:
        raise UserError(f"{where}: such files can run code when opened and are not accepted in a model; remove it")
    if suffix not in _TEXT and name != WEIGHTS_FILE:
        raise UserError(f"{where}: does not belong into a model folder; remove it or get the model again")
    limit = {CARD_FILE: _CARD_LIMIT, WEIGHTS_FILE: _WEIGHTS_LIMIT}.get(name, _TEXT_LIMIT)
    if size > limit:
        raise UserError(f"{where}: is larger than {limit >> 20} MB, too large for a model; get the model again")


def read_card(block: bytes, where: str) -> ModelCard:
    """The card in `block`, the bytes of a ``model.json``; a UserError says what is wrong in `where`."""
    try:
        values = json.loads(block.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not valid JSON; get the model again") from error
    return _card(values, where)


def card_name(folder: Path) -> str:
    """The name on a model's card; empty where the card cannot be read."""
    path = folder / CARD_FILE
    try:
        return read_card(path.read_bytes(), str(path)).name if path.stat().st_size <= _CARD_LIMIT else ""
    except (OSError, UserError):
        return ""


def _card(values: Any, name: str) -> ModelCard:
    try:
        return ModelCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{name}: its entry '{where}' is not valid ({reason}); get the model again") from error


def _check_method(card: ModelCard, where: str) -> None:
    if card.method not in METHOD_CONFIGS:
        raise UserError(
            f"{where}: is of a method '{card.method}' that this version does not have ({', '.join(METHOD_CONFIGS)}); "
            "update the program or choose another model"
        )
    try:
        method_config(card.method, card.config)
    except ValidationError as error:
        words = in_words(error, card.config)
        raise UserError(
            f"{where}: its settings are not valid for {card.method} (config.{words}); get the model again"
        ) from error


def tensor_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of the weights, from the verified safetensors header; no tensor is loaded.

    Raises
    ------
    UserError : where the header is no valid safetensors header for a file of this size.
    """
    path = model.weights
    try:
        header, data_bytes = _header(path)
        shapes = {name: _checked_shape(entry, data_bytes) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged or not a safetensors file; get the model again") from error
    if not shapes:
        raise UserError(f"{path}: holds no weights; get the model again")
    return shapes


def _header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with path.open("rb") as handle:
        count = int.from_bytes(handle.read(8), "little")
        if size < 10 or count > min(_HEADER_LIMIT, size - 8):
            raise ValueError("header longer than the file")
        header = json.loads(handle.read(count))
    if not isinstance(header, dict):
        raise ValueError("header is no table")
    return header, size - 8 - count


def _checked_shape(entry: Mapping[str, Any], data_bytes: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in entry["shape"])
    begin, end = (int(n) for n in entry["data_offsets"])
    if min(shape, default=1) < 0 or not 0 <= begin <= end <= data_bytes:
        raise ValueError("tensor outside the file")
    if end - begin != math.prod(shape) * _ITEM_BYTES[entry["dtype"]]:
        raise ValueError("tensor of another size")
    return shape


def write_model(folder: Path, card_without_sha: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Model:
    """Write card and weights as a new folder (replacing one that is there), and read it back verified.

    Raises
    ------
    UserError : a card that is not valid, a folder that cannot be written.
    """
    folder = Path(folder)
    with atomic_folder(folder) as part:
        content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
        (part / WEIGHTS_FILE).write_bytes(content)  # save_file would leave it readable for its owner alone
        card = _card({**card_without_sha, "weights_sha256": sha256_of(part / WEIGHTS_FILE)}, CARD_FILE)
        text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (part / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        read_model(part)
    return read_model(folder)


def bundled() -> list[Path]:
    """The folders of the models that come with the package, the default first.

    The default is the one with the best figure on real CT (``metrics["real_ct_dice"]``), then by name.
    """
    folders = sorted(path.parent for path in BUNDLED.glob(f"*/{CARD_FILE}"))
    return sorted(folders, key=lambda folder: (-_real_dice(folder), folder.name))


def user_folder() -> Path:
    """The folder of the models that the user added."""
    return data_folder() / "models"


def user_models() -> list[Path]:
    """The folders of the models that the user added, newest first."""
    cards = user_folder().glob(f"[!.]*/{CARD_FILE}")  # what a killed copy left behind begins with a dot
    return [card.parent for card in sorted(cards, key=lambda card: (-card.stat().st_mtime_ns, card))]


def installed() -> list[Path]:
    """Every model folder that is known by name: the user's, newest first, then the bundled ones."""
    return [*user_models(), *bundled()]


def default_model() -> Path | None:
    """The model that is used where none is named: the best bundled one, else the user's newest."""
    return next(iter([*bundled(), *user_models()]), None)


def _real_dice(folder: Path) -> float:
    try:
        value = json.loads((folder / CARD_FILE).read_text(encoding="utf-8")).get("metrics", {}).get("real_ct_dice", 0)
        return float(value) if isinstance(value, (int, float)) else 0.0
    except (OSError, ValueError, AttributeError):
        return 0.0


def translates(card: ModelCard) -> bool:
    """Whether a model makes one phase from the other."""
    return translator_traits_of(card.method, card.config) is not None


def translator_traits(card: ModelCard) -> TranslatorTraits:
    """What Translate must know of a model's generators; UserError where it has none."""
    traits = translator_traits_of(card.method, card.config)
    if traits is None:
        raise UserError(
            f"the model '{card.name}' does not translate between the phases; `multiphase models list` shows which do"
        )
    return traits


def find_translator(name_or_dir: str | None = None) -> Model:
    """As `find_model`; None takes the first bundled model that translates, else the user's newest that does.

    Raises
    ------
    UserError : where none does, or the one named does not; and as `read_model`.
    """
    if name_or_dir is not None:
        model = find_model(name_or_dir)
        translator_traits(model.card)
        return model
    for folder, card in _cards():
        if translates(card):
            return read_model(folder)
    raise UserError(
        "no model here translates between the phases: train one (method pcn with translators, or csgan), or name the "
        "folder of one with --model"
    )


def with_synthetic_branch() -> list[str]:
    """Names of the models, bundled ones first, that segment a synthetic image of the other phase beside each scan."""
    return [card.name for _, card in _cards() if method_config(card.method, card.config).traits.synthetic]


def _cards() -> Iterator[tuple[Path, ModelCard]]:
    """Folders and cards of models that are not verified yet, bundled ones first; those that cannot be read are left
    out."""
    for folder in (*bundled(), *user_models()):
        try:
            card = read_card((folder / CARD_FILE).read_bytes(), str(folder / CARD_FILE))
            _check_method(card, str(folder / CARD_FILE))
        except (OSError, UserError):
            continue
        yield folder, card


def find_model(name_or_dir: str | None = None) -> Model:
    """The model of that name or in that folder; None takes the default.

    Raises
    ------
    UserError : where there is none, with the names there are; and as `read_model`.
    """
    if name_or_dir is None:
        default = default_model()
        if default is None:
            raise UserError("no model comes with this installation; name a model folder with --model")
        return read_model(default)
    folders = installed()
    for folder in folders:
        if name_or_dir in (folder.name, card_name(folder)):
            return read_model(folder)
    if Path(name_or_dir).is_dir():
        return read_model(Path(name_or_dir))
    names = ", ".join(folder.name for folder in folders) or "none is bundled"
    raise UserError(f"there is no model '{name_or_dir}': give a model folder or one of these names: {names}")
