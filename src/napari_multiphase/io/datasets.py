"""Data sets to train on: which files belong to which case, and what their label values stand for.

Three forms are read: an nnU-Net folder (version 1 or 2), a Medical Segmentation Decathlon folder (two channels may
share one 4-D file), and this project's own case list, a YAML file. No image is opened here beyond its header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from napari_multiphase.config import DatasetConfig
from napari_multiphase.config.words import in_words
from napari_multiphase.errors import UserError
from napari_multiphase.io.nifti import count_channels
from napari_multiphase.labels import BACKGROUND, IDS_BY_NAME, IGNORE, STRUCTURES, UNKNOWN
from napari_multiphase.volume import Phase

DATASET_FILE = "dataset.json"
_MOST_NAMED = 5


@dataclass(frozen=True)
class PhaseFiles:
    """One phase of a case: its image (one `channel` of it where it is 4-D), labels on the same grid, and where a person
    looked at them (`reviewed`, on that grid too; None: everywhere)."""

    image: Path
    labels: Path | None = None
    channel: int | None = None
    reviewed: Path | None = None


@dataclass(frozen=True)
class DatasetCase:
    """One case of a data set.

    Attributes
    ----------
    id, patient : names.
    scans : the files of each phase; a phase may be missing.
    annotated : ids of the label table that somebody drew in this case.
    told : ids that the label values tell apart besides, wherever they are not 254 or 255.
    changed : of a corrected case: by id, the share of a structure's predicted voxels that was changed to it or from it.
    values : value in the label files -> id of the label table, 254 (left out) or 255 (ignored).
    transform : a file (ITK, venous point -> arterial point), "identity" where both phases lie in one space, or None
        where nobody has registered them.
    """

    id: str
    patient: str
    scans: Mapping[Phase, PhaseFiles]
    annotated: frozenset[int]
    values: Mapping[int, int]
    transform: Path | Literal["identity"] | None = None
    told: frozenset[int] = frozenset()
    changed: Mapping[int, float] = field(default_factory=dict)


def read_dataset(config: DatasetConfig) -> list[DatasetCase]:
    """The cases of a data set in the order of the list (folders without one: by name).

    Raises
    ------
    UserError : it cannot be found or understood, or holds labels that nobody mapped to the label table.
    """
    path = Path(config.path).expanduser()
    if path.is_dir():
        path = path / DATASET_FILE
    if not path.is_file():
        raise UserError(
            f"{config.path}: there is no data set; name a folder with {DATASET_FILE}, that file, or a case list (YAML)"
        )
    cases = _from_json(path, config) if path.suffix.lower() == ".json" else _from_list(path, config)
    if not cases:
        raise UserError(f"{path}: names no training cases; add some")
    twice = sorted({case.id for case in cases if [c.id for c in cases].count(case.id) > 1})
    if twice:
        raise UserError(f"{path}: names {_words(twice)} twice; give each case an id of its own")
    return cases


# --- label values --------------------------------------------------------------------------------------------------


def _values(path: Path, names: Mapping[int, str], config: DatasetConfig) -> dict[int, int]:
    """Value -> id of the label table, by the data set's names and the user's mapping."""
    values, unknown = {BACKGROUND: BACKGROUND, IGNORE: IGNORE}, []
    for value, name in names.items():
        if value == BACKGROUND:
            continue
        meant = _meant(name, value, config)
        if meant is None:
            unknown.append(name)
        else:
            values[value] = meant
    unused = sorted(config.structures.keys() - {*names.values(), *map(str, names)})
    if unused:
        raise UserError(f"{path}: has no label {_words(unused)}, which data.structures names; correct data.structures")
    if unknown:
        raise UserError(
            f"{path}: {_words(unknown)} {'is' if len(unknown) == 1 else 'are'} not in the label table; say in "
            "data.structures which id each stands for, or null to leave it out"
        )
    return values


def _meant(name: str, value: int, config: DatasetConfig) -> int | None:
    """Id of the label table, 254 for what is left out, 255 for what is ignored; None where nobody said."""
    for key in (name, str(value)):
        if key in config.structures:
            chosen = config.structures[key]
            if chosen is not None and chosen != BACKGROUND and chosen not in STRUCTURES:
                raise UserError(f"data.structures maps '{key}' to {chosen}, which is not an id of the label table")
            return UNKNOWN if chosen is None else chosen
    if name.strip().lower() == "ignore":
        return IGNORE
    return IDS_BY_NAME.get(name.strip().lower().replace("_", " "))


def _drawn(values: Mapping[int, int]) -> frozenset[int]:
    return frozenset(values.values()) & frozenset(STRUCTURES)


# --- nnU-Net and MSD folders ---------------------------------------------------------------------------------------


class _Explicit(BaseModel):
    images: list[str]
    label: str


class _Entry(BaseModel):
    image: str
    label: str


class _Described(BaseModel):
    """What is needed of a dataset.json; other entries are passed over."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    channel_names: dict[str, str] | None = None
    modality: dict[str, str] | None = None
    labels: dict[str, Any]
    file_ending: str = ".nii.gz"
    training: Annotated[list[_Entry] | None, BeforeValidator(lambda v: v if isinstance(v, list) else None)] = None
    dataset: dict[str, _Explicit] | None = None


def _from_json(path: Path, config: DatasetConfig) -> list[DatasetCase]:
    given: Any = None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        described = _Described.model_validate(given)
    except (OSError, ValueError, RecursionError) as error:
        words = in_words(error, given)
        raise UserError(
            f"{path}: is not the {DATASET_FILE} of an nnU-Net or MSD folder ({words}); correct it"
        ) from error
    channels = _channels(path, described.channel_names or described.modality or {})
    values = _values(path, _names(path, described.labels), config)
    cases = []
    for case_id, images, labels in _listed(path, described):
        scans = _scans(images, channels, labels)
        cases.append(DatasetCase(case_id, case_id, scans, _drawn(values), values, "identity"))
    return cases


def _channels(path: Path, named: Mapping[str, str]) -> dict[Phase, int]:
    """Which channel holds which phase, by its name."""
    channels: dict[Phase, int] = {}
    for number, name in named.items():
        words = str(name).lower()
        phase = Phase.ARTERIAL if "arterial" in words else Phase.VENOUS if "venous" in words else None
        if phase is None:
            continue
        if not number.isdecimal():
            raise UserError(f"{path}: gives the {phase} channel the number '{number}'; number channels 0, 1, ...")
        if phase in channels:
            raise UserError(f"{path}: names two {phase} channels; keep the name '{phase}' for the one to use")
        channels[phase] = int(number)
    if not channels:
        found = _words(str(name) for name in named.values()) or "none"
        raise UserError(f"{path}: its channels are {found}; name them 'arterial' and 'venous' so that phases are known")
    return channels


def _names(path: Path, labels: Mapping[str, Any]) -> dict[int, str]:
    """Value -> name of version 1 and MSD ({"1": "liver"}) or version 2 ({"liver": 1})."""
    if all(key.isdecimal() for key in labels):
        return {int(value): str(name) for value, name in labels.items()}
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise UserError(f"{path}: {_words(regions)} unite several values; only exclusive labels can be trained on")
    odd = [name for name, value in labels.items() if not str(value).isdecimal()]
    if odd:
        raise UserError(f"{path}: gives {_words(odd)} no number; write one as in 'labels': {{'liver': 1}}")
    return {int(value): name for name, value in labels.items()}


def _listed(path: Path, described: _Described) -> Iterable[tuple[str, Mapping[int, Path] | Path, Path]]:
    """Id, images (by channel, or one file for all) and labels of each training case.

    Files that are named need not be there, so that reading the case says which one is missing.
    """
    folder, ending = path.parent, described.file_ending
    if described.dataset:  # version 2 with explicit files
        for name, files in described.dataset.items():
            images = [_below(folder, image, path) for image in files.images]
            yield name, dict(enumerate(images)), _below(folder, files.label, path)
    elif described.training is not None:  # version 1 and MSD
        beside: dict[Path, dict[str, dict[int, Path]]] = {}
        for entry in described.training:
            image, labels = _below(folder, entry.image, path), _below(folder, entry.label, path)
            stem = image.name.removesuffix(ending)
            if image.parent not in beside:
                beside[image.parent] = _by_channel(image.parent, ending)
            split = None if image.is_file() else beside[image.parent].get(stem)
            yield stem, split or image, labels
    else:
        found = _by_channel(folder / "imagesTr", ending)
        drawn = {
            file.name.removesuffix(ending): file
            for file in sorted((folder / "labelsTr").glob(f"*{ending}"))
            if not file.name.startswith(".")
        }
        bare = sorted(found.keys() - drawn.keys())
        if bare:
            names = _words(bare[:_MOST_NAMED]) + (f" and {len(bare) - _MOST_NAMED} more" * (len(bare) > _MOST_NAMED))
            raise UserError(
                f"{folder}: imagesTr holds {names} without a file in labelsTr; add the labels, or move the images away "
                "(a case list may hold scans without labels)"
            )
        for stem, labels in drawn.items():
            yield stem, found.get(stem, {}), labels


def _by_channel(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    """Stem -> channel -> file, of the files that are there; a channel without one is a missing phase."""
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.glob(f"*_[0-9][0-9][0-9][0-9]{ending}")):
        if not file.name.startswith("."):
            stem, _, channel = file.name.removesuffix(ending).rpartition("_")
            found.setdefault(stem, {})[int(channel)] = file
    return found


def _scans(images: Mapping[int, Path] | Path, channels: Mapping[Phase, int], labels: Path) -> dict[Phase, PhaseFiles]:
    if isinstance(images, Path):
        several = images.is_file() and images.name.endswith((".nii", ".nii.gz")) and count_channels(images) > 1
        if len(channels) > 1 and images.is_file() and not several:
            raise UserError(f"{images}: should hold {len(channels)} channels and holds one image; correct the channels")
        return {p: PhaseFiles(images, labels, channel if several else None) for p, channel in channels.items()}
    return {p: PhaseFiles(images[channel], labels) for p, channel in channels.items() if channel in images}


# --- the project's case list ---------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class _PhaseEntry(_Part):
    image: str
    labels: str | None = None
    reviewed: str | None = None


class _CaseEntry(_Part):
    id: str = Field(min_length=1)
    patient: str = ""
    arterial: _PhaseEntry | None = None
    venous: _PhaseEntry | None = None
    annotated: list[str] | None = None
    told: list[str] = Field(default_factory=list)
    changed: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    transform: str | None = None


class _CaseList(_Part):
    labels: dict[int, str] | None = None
    annotated: list[str] | None = None
    cases: list[_CaseEntry]


def _from_list(path: Path, config: DatasetConfig) -> list[DatasetCase]:
    given: Any = None
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        listed = _CaseList.model_validate(given)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: is not a case list ({in_words(error, given)}); see docs/datasets.md") from error
    names = listed.labels if listed.labels is not None else {s.id: s.name for s in STRUCTURES.values()}
    values = {UNKNOWN: UNKNOWN, **_values(path, names, config)}
    return [_case(path, entry, listed, names, values) for entry in listed.cases]


def _case(
    path: Path, entry: _CaseEntry, listed: _CaseList, names: Mapping[int, str], values: Mapping[int, int]
) -> DatasetCase:
    scans = {}
    for phase, files in ((Phase.ARTERIAL, entry.arterial), (Phase.VENOUS, entry.venous)):
        if files is not None:
            image, labels, reviewed = (
                None if name is None else _below(path.parent, name, path, absolute=True)
                for name in (files.image, files.labels, files.reviewed)
            )
            assert image is not None
            scans[phase] = PhaseFiles(image, labels, reviewed=reviewed)
    transform: Path | Literal["identity"] | None = None
    if entry.transform is not None:
        own = entry.transform.strip().lower() == "identity"
        transform = "identity" if own else _below(path.parent, entry.transform, path, absolute=True)
    annotated = _annotated(path, entry, listed, names, values)
    told = _ids(path, entry, entry.told, names, values)
    if all(files.labels is None for files in scans.values()):
        annotated = told = frozenset()
    changed = {label: share for n, share in entry.changed.items() for label in _ids(path, entry, [n], names, values)}
    return DatasetCase(entry.id, entry.patient or entry.id, scans, annotated, values, transform, told, changed)


def _annotated(
    path: Path, entry: _CaseEntry, listed: _CaseList, names: Mapping[int, str], values: Mapping[int, int]
) -> frozenset[int]:
    said = entry.annotated if entry.annotated is not None else listed.annotated
    if said is None:
        if listed.labels is None:
            raise UserError(
                f"{path}: does not say which structures were annotated in case {entry.id}; add "
                "'annotated: [liver, ...]' to the case or to the list"
            )
        return _drawn(values)
    return _ids(path, entry, said, names, values)


def _ids(
    path: Path, entry: _CaseEntry, said: Sequence[str], names: Mapping[int, str], values: Mapping[int, int]
) -> frozenset[int]:
    """Ids of the label table by names of the list or the table, or numbers of the table."""
    ids = {name: values[value] for value, name in names.items() if value in values}
    known = {**IDS_BY_NAME, **{str(label): label for label in STRUCTURES}, **ids}
    unknown = [name for name in said if name not in known]
    if unknown:
        raise UserError(f"{path}: case {entry.id} says {_words(unknown)} was annotated, which is no label; correct it")
    return frozenset(known[name] for name in said) & frozenset(STRUCTURES)


# --- paths and words -----------------------------------------------------------------------------------------------


def _below(folder: Path, text: str, where: Path, *, absolute: bool = False) -> Path:
    """`text` relative to `folder`; a path that leaves it is refused unless it is absolute and may be."""
    path = Path(str(text))
    if path.is_absolute() and absolute:
        return path
    normal = os.path.normpath(str(PurePosixPath(str(text))))
    if path.is_absolute() or "\0" in str(text) or normal.startswith(".."):
        instead = "name it in full" if absolute else "write a case list, which may name files anywhere"
        raise UserError(f"{where}: '{text}' leaves the data set's folder; move the file below it, or {instead}")
    return folder / normal


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
