"""A scan on a canonical grid, and what is needed to write results back onto the grid it came from.

Canonical axes are superior, posterior, left: index z grows towards the head, y towards the back, x towards the
patient's left. Shown with z as the slider, napari then draws the radiological view. World coordinates are LPS
millimetres in the order (x, y, z) = (left, posterior, superior), as in DICOM and ITK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Phase(StrEnum):
    """When, after the injection of contrast medium, a scan was taken."""

    ARTERIAL = "arterial"
    VENOUS = "venous"

    @property
    def other(self) -> Phase:
        """The phase this one is paired with."""
        return Phase.VENOUS if self is Phase.ARTERIAL else Phase.ARTERIAL


@dataclass(frozen=True)
class Grid:
    """A regular grid along the canonical axes.

    Attributes
    ----------
    shape : (D, H, W) voxels along superior, posterior, left.
    spacing_mm : (z, y, x) distance between voxel centres, all positive.
    origin_mm : (z, y, x) LPS position of the centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine_mm(self) -> NDArray[np.float64]:
        """4 x 4: voxel index (z, y, x, 1) -> LPS mm (x, y, z, 1)."""
        affine = np.zeros((4, 4))
        for axis in range(3):
            affine[2 - axis, axis] = self.spacing_mm[axis]
            affine[2 - axis, 3] = self.origin_mm[axis]
        affine[3, 3] = 1.0
        return affine

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """(z, y, x) size of the grid, voxel borders included."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return z, y, x

    def part(self, axis: int, start: int, stop: int) -> Grid:
        """The voxels from `start` up to `stop` along `axis`, where they lie."""
        shape, origin = list(self.shape), list(self.origin_mm)
        shape[axis], origin[axis] = stop - start, origin[axis] + start * self.spacing_mm[axis]
        (d, h, w), (z, y, x) = shape, origin
        return Grid((d, h, w), self.spacing_mm, (z, y, x))

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids put every voxel at the same place, to `tolerance_mm` at the far corner."""
        if self.shape != other.shape:
            return False
        far = np.array([*(n - 1 for n in self.shape), 1.0])
        near = np.array([0.0, 0.0, 0.0, 1.0])
        return all(np.abs(self.affine_mm @ p - other.affine_mm @ p).max() <= tolerance_mm for p in (near, far))

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by `from_dict`."""
        return {"shape": list(self.shape), "spacing_mm": list(self.spacing_mm), "origin_mm": list(self.origin_mm)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Grid:
        """The grid that `to_dict` described."""
        d, h, w = (int(n) for n in data["shape"])
        sz, sy, sx = (float(s) for s in data["spacing_mm"])
        oz, oy, ox = (float(o) for o in data["origin_mm"])
        return Grid((d, h, w), (sz, sy, sx), (oz, oy, ox))


@dataclass(frozen=True)
class Source:
    """Where a volume came from: enough to write any result onto exactly the grid of the file.

    Attributes
    ----------
    path : the file, DICOM folder or zip that was read.
    format : "nifti", "nrrd", "metaimage", "dicom" or "memory".
    shape : (I, J, K) voxels in the file's own axis order.
    affine_mm : 4 x 4, index (i, j, k, 1) -> LPS mm (x, y, z, 1), as stored.
    dtype : the stored type, as a NumPy name.
    slope, intercept : stored value * slope + intercept = HU.
    sha256 : of the file, or of the series' pixel files in order; empty for "memory".
    resampled : in words, why the canonical grid is not a permutation of the source's (oblique, sheared, tilted,
        missing slices); empty where it is one, and then the round trip is lossless.
    header : further facts as JSON types: patient_id, study_date, acquisition_time, series_uid, series_number,
        acquisition_number, frame_of_reference, modality, description, the NIfTI codes, ...
    """

    path: Path
    format: str
    shape: tuple[int, int, int]
    affine_mm: NDArray[np.float64]
    dtype: str = "int16"
    slope: float = 1.0
    intercept: float = 0.0
    sha256: str = ""
    resampled: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", MappingProxyType(dict(self.header)))

    @property
    def synthetic(self) -> bool:
        """Whether a model made the image: its header says so, or the name of its file."""
        named = self.format != "dicom" and "synthetic" in re.split(r"[\W_\d]+", self.path.name.lower())
        return named or bool(self.header.get("synthetic"))

    def to_dict(self) -> dict[str, Any]:
        """JSON form, read back by `from_dict`."""
        return {
            "path": str(self.path),
            "format": self.format,
            "shape": list(self.shape),
            "affine_mm": np.asarray(self.affine_mm, float).tolist(),
            "dtype": self.dtype,
            "slope": self.slope,
            "intercept": self.intercept,
            "sha256": self.sha256,
            "resampled": self.resampled,
            "header": dict(self.header),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Source:
        """The source that `to_dict` described."""
        i, j, k = (int(n) for n in data["shape"])
        values = {**data, "path": Path(data["path"]), "shape": (i, j, k)}
        values["affine_mm"] = np.asarray(data["affine_mm"], float)
        return Source(**values)


@dataclass(frozen=True)
class Volume:
    """A 3-D image in HU (or labels) on the canonical grid.

    Attributes
    ----------
    data : (D, H, W), int16 HU where the source allows it, float32 otherwise; may be memory-mapped.
    grid : the canonical grid.
    source : where it came from.
    """

    data: NDArray[Any]
    grid: Grid
    source: Source

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise ValueError(f"data has shape {self.data.shape}, its grid {self.grid.shape}")

    @staticmethod
    def from_array(
        data: NDArray[Any],
        spacing_mm: tuple[float, float, float],
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Volume:
        """A volume made in memory: (D, H, W) along superior, posterior, left, with (z, y, x) spacing and origin."""
        d, h, w = data.shape
        grid = Grid((d, h, w), spacing_mm, origin_mm)
        return Volume(data, grid, Source(Path("memory"), "memory", grid.shape, grid.affine_mm, str(data.dtype)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(z, y, x) distance between voxel centres."""
        return self.grid.spacing_mm

    @property
    def affine_mm(self) -> NDArray[np.float64]:
        """4 x 4: voxel index (z, y, x, 1) -> LPS mm (x, y, z, 1)."""
        return self.grid.affine_mm

    def with_data(self, data: NDArray[Any]) -> Volume:
        """The same place and source with other values."""
        return replace(self, data=data)
