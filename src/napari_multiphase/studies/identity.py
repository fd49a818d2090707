"""What names a patient, and texts without it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from napari_multiphase.io.images import SUFFIXES
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase, Source

LEFT_OUT = "[left out]"
_FACTS = (
    "patient_id", "patient_name", "study_uid", "series_uid", "frame_of_reference", "study_date", "acquisition_time",
    "description",
)  # fmt: skip
_PLAIN = {*(str(phase) for phase in Phase), *(s.name for s in STRUCTURES.values()), "scan", "phase", "abdomen", "dicom"}
"""Words of this program: a file that is called like one names nobody."""
_LEAST = 3
"""Shorter ones are left out only in brackets, where findings put them: "1" is a patient's number and a millimetre."""


class Identity:
    """What may tell whose study it is: paths, names of files and folders, what the scans' headers say."""

    def __init__(self, study: Study, *folders: Path) -> None:
        found: set[str] = {str(Path.home())}
        for volume in study.volumes.values():
            found |= _of_source(volume.source)
        for folder in folders:
            found |= {str(folder), folder.name}
        words = {text.strip() for text in found if text.strip() and text.strip().lower() not in _PLAIN}
        self.words = tuple(sorted(words, key=len, reverse=True))
        spellings = [re.escape(word) for word in self.words if len(word) >= _LEAST]
        spellings += [rf"(?<=\(){re.escape(word)}(?=\))" for word in self.words if len(word) < _LEAST]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(spellings)})(?!\w)", re.IGNORECASE) if spellings else None

    def without(self, value: Any) -> Any:
        """`value`, JSON types, with every text in it free of these words."""
        if isinstance(value, str):
            return self._pattern.sub(LEFT_OUT, value) if self._pattern else value
        if isinstance(value, Mapping):
            return {self.without(key): self.without(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.without(inner) for inner in value]
        return value

    def sentences(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The same sentences, each once, without these words."""
        return tuple(dict.fromkeys(str(self.without(text)) for text in texts))


def _of_source(source: Source) -> set[str]:
    path = Path(source.path)
    stem = path.name
    for end in sorted((*SUFFIXES, ".zip"), key=len, reverse=True):
        if stem.lower().endswith(end):
            stem = stem[: -len(end)]
            break
    found = {str(path), path.name, stem, *(str(parent) for parent in path.parents if len(parent.parts) > 1)}
    found |= set(path.parts[1:-1][-2:])
    header = source.header
    found |= {str(header[key]) for key in _FACTS if header.get(key)}
    found |= {str(name) for name in (header.get("files") or ())[:1]}
    return found
