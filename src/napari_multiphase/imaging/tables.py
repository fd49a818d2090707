"""Figures per structure: volume, mean HU in each phase, mean confidence. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.fusion import decode_ratio, eq3
from napari_multiphase.labels import BACKGROUND, STRUCTURES, ids_of_group, name_of
from napari_multiphase.volume import Phase

_EQ3 = eq3(decode_ratio(np.arange(256, dtype=np.uint8)).astype(np.float64))


@dataclass(frozen=True)
class StructureRow:
    """One structure of a label map.

    Attributes
    ----------
    id, name : of the label table.
    ml : its volume; for an organ that contains others `group_ml` counts those too (liver with its tumours).
    mean_hu : per phase, None where the phase is absent or does not overlap.
    mean_confidence : mean of Eq. 3's M over its voxels, None without a confidence map.
    centre_vox : (z, y, x) of a voxel in its middle slice, where a viewer should jump.
    """

    id: int
    name: str
    ml: float
    group_ml: float
    mean_hu: Mapping[Phase, float | None]
    mean_confidence: float | None
    centre_vox: tuple[int, int, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "mean_hu": {p.value: v for p, v in self.mean_hu.items()}}


def structure_table(
    labels: NDArray[np.uint8],
    voxel_ml: float,
    hu: Mapping[Phase, NDArray[Any]] | None = None,
    confidence: NDArray[np.uint8] | None = None,
) -> list[StructureRow]:
    """One row per structure that occurs in `labels`, by id.

    Parameters
    ----------
    labels : (D, H, W).
    voxel_ml : volume of one voxel, ``grid.voxel_ml``.
    hu : per phase an image on the labels' grid, NaN or below -2000 where it saw nothing.
    confidence : encoded confidence on the same grid.
    """
    counts, sums, seen = np.zeros(256), {p: np.zeros(256) for p in hu or {}}, {p: np.zeros(256) for p in hu or {}}
    trust, at = np.zeros(256), np.zeros((256, 3))
    for z in range(labels.shape[0]):
        plane = np.ravel(labels[z])
        inside = np.flatnonzero(plane)
        if not len(inside):
            continue
        ids = plane[inside]
        here = np.bincount(ids, minlength=256)
        counts += here
        y, x = np.divmod(inside, labels.shape[2])
        at[:, 0] += here * z
        at[:, 1] += np.bincount(ids, y, 256)
        at[:, 2] += np.bincount(ids, x, 256)
        if confidence is not None:
            trust += np.bincount(ids, _EQ3[np.ravel(confidence[z])[inside]], 256)
        for phase, image in (hu or {}).items():
            values = np.ravel(image[z])[inside].astype(np.float64)
            valid = values > -2000
            sums[phase] += np.bincount(ids[valid], values[valid], 256)
            seen[phase] += np.bincount(ids[valid], minlength=256)
    rows = []
    for label in np.flatnonzero(counts):
        number = int(label)
        if number == BACKGROUND:
            continue
        means = {p: float(sums[p][label] / seen[p][label]) if seen[p][label] else None for p in sums}
        centre = _nearest_voxel(labels, number, at[label] / counts[label])
        trusted = float(trust[label] / counts[label]) if confidence is not None else None
        group_ml = float(counts[list(_members(number))].sum()) * voxel_ml
        rows.append(
            StructureRow(number, name_of(number), float(counts[label]) * voxel_ml, group_ml, means, trusted, centre)
        )
    return rows


def _members(label: int) -> tuple[int, ...]:
    structure = STRUCTURES.get(label)
    return ids_of_group(label) if structure and structure.group == label else (label,)


def _nearest_voxel(labels: NDArray[np.uint8], label: int, centre: NDArray[np.float64]) -> tuple[int, int, int]:
    """A voxel of the structure in the slice nearest its centre of mass that shows it, nearest to that centre."""
    for z in sorted(range(labels.shape[0]), key=lambda i: abs(i - centre[0])):
        y, x = np.nonzero(labels[z] == label)
        if len(y):
            best = int(np.argmin((y - centre[1]) ** 2 + (x - centre[2]) ** 2))
            return z, int(y[best]), int(x[best])
    raise ValueError(f"label {label} does not occur")
