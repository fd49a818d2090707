"""Data sets to train on: which files belong to which case, and what their label values stand for.

Three forms are read: an nnU-Net folder (version 1 or 2), a Medical Segmentation Decathlon folder (two channels may
share one 4-D file), and this project's own case list, a YAML file. No image is opened here beyond its header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_multiphase.config import DatasetConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.nifti import count_channels
from napari_multiphase.labels import BACKGROUND, IDS_BY_NAME, IGNORE, STRUCTURES, UNKNOWN
from napari_multiphase.volume import Phase

DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class PhaseFiles:
    """One phase of a case: its image (one `channel` of it where it is 4-D) and labels on the same grid."""

    image: Path
    labels: Path | None = None
    channel: int | None = None


@dataclass(frozen=True)
class DatasetCase:
    """One case of a data set.

    Attributes
    ----------
    id, patient : names.
    scans : the files of each phase; a phase may be missing.
    annotated : ids of the label table that somebody drew in this case.
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


def _from_json(path: Path, config: DatasetConfig) -> list[DatasetCase]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        channels = _channels(path, described.get("channel_names") or described.get("modality") or {})
        values = _values(path, _names(path, described["labels"]), config)
        listed = list(_listed(path, described))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is not the {DATASET_FILE} of an nnU-Net or MSD folder ({error}); check it") from error
    cases = []
    for case_id, images, labels in listed:
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
        if phase in channels:
            raise UserError(f"{path}: names two {phase} channels; keep the name '{phase}' for the one to use")
        channels[phase] = int(number)
    if not channels:
        found = _words(str(name) for name in named.values()) or "none"
        raise UserError(f"{path}: its channels are {found}; name them 'arterial' and 'venous' so that phases are known")
    return channels


def _names(path: Path, labels: Mapping[str, Any]) -> dict[int, str]:
    """Value -> name of version 1 and MSD ({"1": "liver"}) or version 2 ({"liver": 1})."""
    if all(str(key).isdigit() for key in labels):
        return {int(value): str(name) for value, name in labels.items()}
    regions = [name for name, value in labels.items() if not isinstance(value, int | str)]
    if regions:
        raise UserError(f"{path}: {_words(regions)} unite several values; only exclusive labels can be trained on")
    return {int(value): str(name) for name, value in labels.items()}


def _listed(path: Path, described: Mapping[str, Any]) -> Iterable[tuple[str, list[Path] | Path, Path]]:
    """Id, images (one per channel, or one file for all) and labels of each training case."""
    folder, ending = path.parent, str(described.get("file_ending", ".nii.gz"))
    if described.get("dataset"):  # version 2 with explicit files
        for name, files in described["dataset"].items():
            yield str(name), [_below(folder, f, path) for f in files["images"]], _below(folder, files["label"], path)
    elif isinstance(described.get("training"), list):  # version 1 and MSD
        for entry in described["training"]:
            image, labels = _below(folder, entry["image"], path), _below(folder, entry["label"], path)
            stem = _stem(image.name, ending)
            split = sorted(image.parent.glob(f"{_literal(stem)}_[0-9][0-9][0-9][0-9]{ending}"))
            yield stem, image if image.is_file() or not split else _by_channel(image.parent, stem, ending), labels
    else:
        for labels in sorted((folder / "labelsTr").glob(f"*{ending}")):
            if not labels.name.startswith("."):
                stem = _stem(labels.name, ending)
                yield stem, _by_channel(folder / "imagesTr", stem, ending), labels


def _by_channel(folder: Path, stem: str, ending: str) -> list[Path]:
    """Files of channels 0, 1, ... whether they are there or not; a missing one is a missing phase."""
    there = [int(p.name[len(stem) + 1 :][:4]) for p in folder.glob(f"{_literal(stem)}_[0-9][0-9][0-9][0-9]{ending}")]
    return [folder / f"{stem}_{channel:04d}{ending}" for channel in range(max(there, default=-1) + 1)]


def _scans(images: list[Path] | Path, channels: Mapping[Phase, int], labels: Path) -> dict[Phase, PhaseFiles]:
    if isinstance(images, Path):
        several = images.is_file() and images.name.endswith((".nii", ".nii.gz")) and count_channels(images) > 1
        if len(channels) > 1 and not several:
            raise UserError(f"{images}: should hold {len(channels)} channels and holds one image; correct the channels")
        return {p: PhaseFiles(images, labels, channel if several else None) for p, channel in channels.items()}
    there = {p: images[channel] for p, channel in channels.items() if channel < len(images)}
    return {phase: PhaseFiles(image, labels) for phase, image in there.items() if image.exists()}


def _stem(name: str, ending: str) -> str:
    return name.removesuffix(ending)


def _literal(stem: str) -> str:
    return stem.replace("[", "[[]")


# --- the project's case list ---------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class _PhaseEntry(_Part):
    image: str
    labels: str | None = None


class _CaseEntry(_Part):
    id: str = Field(min_length=1)
    patient: str = ""
    arterial: _PhaseEntry | None = None
    venous: _PhaseEntry | None = None
    annotated: list[str] | None = None
    transform: str | None = None


class _CaseList(_Part):
    labels: dict[int, str] | None = None
    annotated: list[str] | None = None
    cases: list[_CaseEntry]


def _from_list(path: Path, config: DatasetConfig) -> list[DatasetCase]:
    try:
        listed = _CaseList.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: is not a case list ({_first(error)}); see docs/datasets.md") from error
    names = listed.labels if listed.labels is not None else {s.id: s.name for s in STRUCTURES.values()}
    values = _values(path, names, config)
    return [_case(path, entry, listed, names, values) for entry in listed.cases]


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"
    return str(error).splitlines()[0]


def _case(
    path: Path, entry: _CaseEntry, listed: _CaseList, names: Mapping[int, str], values: Mapping[int, int]
) -> DatasetCase:
    scans = {}
    for phase, files in ((Phase.ARTERIAL, entry.arterial), (Phase.VENOUS, entry.venous)):
        if files is not None:
            labels = None if files.labels is None else _below(path.parent, files.labels, path, absolute=True)
            scans[phase] = PhaseFiles(_below(path.parent, files.image, path, absolute=True), labels)
    transform: Path | Literal["identity"] | None = None
    if entry.transform is not None:
        own = entry.transform.strip().lower() == "identity"
        transform = "identity" if own else _below(path.parent, entry.transform, path, absolute=True)
    annotated = _annotated(path, entry, listed, names, values)
    if all(files.labels is None for files in scans.values()):
        annotated = frozenset()
    return DatasetCase(entry.id, entry.patient or entry.id, scans, annotated, values, transform)


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
        raise UserError(f"{where}: '{text}' leaves the data set's folder; move the file below it or list it absolutely")
    return folder / normal


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
