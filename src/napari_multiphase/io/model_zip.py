"""A model as one zip: card, weights, notes, and ``checksums.json``, a small manifest that names each with its hash."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from napari_multiphase.errors import UserError
from napari_multiphase.io.archive import open_files
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.models import check_file, read_model
from napari_multiphase.io.values import sha256_of
from napari_multiphase.model import CARD_FILE, WEIGHTS_FILE, Model

SUMS_FILE = "checksums.json"
_FORMAT = "napari-multiphase model"
_VERSION = 1


def export_model(model: Model, out: Path) -> Path:
    """Write all of a model into the zip `out`; the same model gives the same bytes, wherever and whenever.

    Raises
    ------
    UserError : a name that does not end in .zip, a model that no longer verifies, a place that cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out}: a model is exported as one zip; choose a name that ends in .zip")
    read_model(model.folder)
    with open_files(model.folder) as files:
        names = files.names()
    names = [CARD_FILE, *(n for n in names if n not in (CARD_FILE, WEIGHTS_FILE, SUMS_FILE)), WEIGHTS_FILE]
    with atomic_path(out) as part, zipfile.ZipFile(part, "w") as archive:
        sums = json.dumps(_sums(model, names), indent=2, ensure_ascii=False) + "\n"
        archive.writestr(_entry(SUMS_FILE), sums)
        for name in names:
            with (
                (model.folder / name).open("rb") as source,
                archive.open(_entry(name), "w", force_zip64=True) as inside,
            ):
                shutil.copyfileobj(source, inside, 1 << 20)
    return out


def check_sums(folder: Path, where: str) -> None:
    """Raise a UserError, naming `where`, unless the files in `folder` are those its checksums name; without any, pass.

    The checksums are removed: they are of the zip, and the model may get notes of the user's own.
    """
    path = folder / SUMS_FILE
    if not path.is_file():
        return
    named = _named(path, where)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {SUMS_FILE}
    for name in sorted(set(named) ^ found):
        what = "is missing" if name in named else f"is not named in {SUMS_FILE}"
        raise UserError(f"{where}: {name} {what}; get the model again")
    for name, sha256 in named.items():
        if sha256_of(folder / name) != sha256:
            raise UserError(f"{where}: {name} is not the file that {SUMS_FILE} names (its hash differs); get it again")
    path.unlink()


def _named(path: Path, where: str) -> dict[str, str]:
    """Hash by name."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ValueError("another format")
        if int(values["version"]) > _VERSION:
            raise UserError(f"{where}: was written by a newer version of this program: update it to add the model")
        return {str(name): str(entry["sha256"]) for name, entry in values["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: its {SUMS_FILE} is damaged; get the model again") from error


def _sums(model: Model, names: list[str]) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for name in names:
        path = model.folder / name
        check_file(path.name, path.stat().st_size, str(path))
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return {"format": _FORMAT, "version": _VERSION, "name": model.card.name, "files": files}


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the time or the owner of the file it is made from. Weights hardly shrink and are stored."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name == WEIGHTS_FILE else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
