"""Where training cases come from, before anything is resampled: phantoms or files, seen alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.io.datasets import DatasetCase
from napari_multiphase.io.images import files_of, read_image, read_labels
from napari_multiphase.io.transforms import read_itk_matrix
from napari_multiphase.labels import BACKGROUND, IGNORE, STRUCTURES, UNKNOWN
from napari_multiphase.volume import Phase, Volume


@dataclass(frozen=True)
class RawCase:
    """A case as it was scanned.

    Attributes
    ----------
    volumes : per phase, HU on its own grid.
    labels : per phase (D, H, W) uint8 on a grid that should be the volume's: ids of the label table, 254 where nothing
        is known, 255 to be ignored. A phase may have none.
    foreign : per phase, label values of the files that stand for nothing (they are 255 in `labels`).
    transform : 4 x 4, venous point -> arterial point in LPS mm; None where nobody gave one.
    reviewed : per phase (D, H, W), not 0 where a person looked at the labels, on their grid; everywhere if not given.
    """

    volumes: Mapping[Phase, Volume]
    labels: Mapping[Phase, Volume]
    foreign: Mapping[Phase, tuple[int, ...]] = field(default_factory=dict)
    transform: NDArray[np.float64] | None = None
    reviewed: Mapping[Phase, Volume] = field(default_factory=dict)


class CaseSource(Protocol):
    """One case that can be read; small, so that it can be sent to another process."""

    @property
    def id(self) -> str:
        """Its name, unlike any other's."""

    @property
    def patient(self) -> str:
        """Cases of one patient are never split."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases it has."""

    @property
    def annotated(self) -> frozenset[int]:
        """Ids of the label table that somebody drew; what else lies in the scan is not known."""

    @property
    def told(self) -> frozenset[int]:
        """Ids that the labels tell apart wherever they are not 254 or 255; `annotated` and maybe more."""

    @property
    def labelled(self) -> tuple[Phase, ...]:
        """The phases that have labels."""

    @property
    def corrected(self) -> bool:
        """Whether its labels are corrected predictions, of which a person looked at a part."""

    @property
    def changed(self) -> Mapping[int, float]:
        """Of corrected predictions: by id, the share of a structure's voxels that was changed to it or from it."""

    def fingerprint(self) -> Any:
        """JSON that changes whenever what `read` returns may have changed."""

    def read(self) -> RawCase:
        """The scans and labels; a UserError says what is wrong with a file."""


def channel_table(labels: tuple[int, ...], annotated: frozenset[int]) -> NDArray[np.uint8]:
    """(256,) uint8: id of the label table -> channel of the run's `labels`, 254 unknown, 255 ignore.

    `annotated` : what the label values tell apart (`CaseSource.told`).

    A lesion that the run does not tell apart counts as its organ (21 as 1; 22 and 23 as 6); any other structure that
    the run does not have counts as background. Background is known only where all of the run's structures are
    annotated.
    """
    complete = bool(annotated_channels(labels, annotated)[0])
    channel = {label: number for number, label in enumerate(labels)}
    table = np.full(256, BACKGROUND if complete else UNKNOWN, np.uint8)
    for structure in STRUCTURES.values():
        counts_as = structure.id if structure.id in channel else structure.group
        if structure.id in annotated or counts_as in annotated & channel.keys():
            table[structure.id] = channel.get(counts_as, BACKGROUND)
    table[UNKNOWN], table[IGNORE] = UNKNOWN, IGNORE
    return table


def annotated_channels(labels: tuple[int, ...], annotated: frozenset[int]) -> NDArray[np.bool_]:
    """(K,) bool: which channels are annotated; channel 0 where all are."""
    known = np.array([label in annotated for label in labels])
    known[0] = known[1:].all()
    return known


@dataclass(frozen=True)
class DatasetSource:
    """A case of a data set on disk."""

    case: DatasetCase

    @property
    def id(self) -> str:
        """As the data set names it."""
        return self.case.id

    @property
    def patient(self) -> str:
        """As the data set names it."""
        return self.case.patient

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Arterial first."""
        return tuple(phase for phase in Phase if phase in self.case.scans)

    @property
    def annotated(self) -> frozenset[int]:
        """As the data set says."""
        return self.case.annotated

    @property
    def told(self) -> frozenset[int]:
        """As the data set says."""
        return self.case.annotated | self.case.told

    @property
    def labelled(self) -> tuple[Phase, ...]:
        """Those with a file of labels."""
        return tuple(phase for phase in self.phases if self.case.scans[phase].labels is not None)

    @property
    def corrected(self) -> bool:
        """Whether the data set says where a person looked."""
        return any(files.reviewed is not None for files in self.case.scans.values())

    @property
    def changed(self) -> Mapping[int, float]:
        """As the data set says."""
        return self.case.changed

    def fingerprint(self) -> Any:
        """Every file with its size and time of change, and the meaning of the label values."""
        case = self.case
        files = {
            phase.value: [_stamp(case.scans[phase].image), _stamp(case.scans[phase].labels), case.scans[phase].channel]
            for phase in self.phases
        }
        transform = _stamp(case.transform) if isinstance(case.transform, Path) else case.transform
        values = sorted((value, meant) for value, meant in case.values.items() if value != UNKNOWN)
        found = {"files": files, "values": values, "transform": transform}
        corrected = {phase.value: _stamp(case.scans[phase].reviewed) for phase in self.phases}
        return found if not any(corrected.values()) else found | {"reviewed": corrected}

    def read(self) -> RawCase:
        """Every file, labels in ids of the label table."""
        volumes, labels, foreign, reviewed = {}, {}, {}, {}
        for phase in self.phases:
            files = self.case.scans[phase]
            volumes[phase] = read_image(files.image, files.channel)
            if files.labels is not None:
                labels[phase], foreign[phase] = _in_table(read_labels(files.labels), self.case.values)
            if files.reviewed is not None:
                reviewed[phase] = read_labels(files.reviewed)
        return RawCase(volumes, labels, foreign, self._matrix(), reviewed)

    def _matrix(self) -> NDArray[np.float64] | None:
        if self.case.transform is None:
            return None
        return np.eye(4) if self.case.transform == "identity" else read_itk_matrix(Path(self.case.transform))


def _stamp(path: Path | None) -> list[str | int] | None:
    if path is None:
        return None
    stamp: list[str | int] = []
    for file in files_of(path):
        try:
            found = file.stat()
        except OSError:
            return [str(path), -1, -1]  # reading it will say so
        stamp += [str(file.resolve()), found.st_size, found.st_mtime_ns]
    return stamp


def _in_table(labels: Volume, values: Mapping[int, int]) -> tuple[Volume, tuple[int, ...]]:
    """Labels as ids of the label table, and the values that stand for nothing (255 then)."""
    table = np.full(int(labels.data.max(initial=0)) + 1, IGNORE, np.uint8)
    for value, meant in values.items():
        if value < len(table):
            table[value] = meant
    present = np.flatnonzero(np.bincount(labels.data.ravel(), minlength=len(table)))
    foreign = tuple(int(value) for value in present if int(value) not in values)
    return labels.with_data(table[labels.data]), foreign
