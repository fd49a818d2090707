"""One prediction against one reference: a row of figures per structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.components import box_around
from napari_multiphase.labels import BACKGROUND, IGNORE, STRUCTURES, ids_of_group, name_of
from napari_multiphase.metrics.overlap import Overlap, dice_global, dice_per_case
from napari_multiphase.metrics.surface import surface_distances
from napari_multiphase.volume import Grid, Volume


@dataclass(frozen=True)
class StructureScore:
    """Figures of one structure in one case.

    `ids` are the labels that together make it up (liver: 1 and 21). DSC and VOE of a structure that is in neither map
    are 1 and 0 (`overlap.both_empty` says so); surface figures are NaN where either map lacks it. RVD is signed,
    negative for under-segmentation; `rvd_lits` has the LiTS scorer's sign and divisor.
    """

    label: int
    name: str
    ids: tuple[int, ...]
    overlap: Overlap
    prediction_ml: float
    reference_ml: float
    assd_mm: float
    rmsd_mm: float
    hd_mm: float

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient."""
        return self.overlap.dice

    @property
    def voe(self) -> float:
        """Volumetric overlap error."""
        return self.overlap.voe

    @property
    def rvd(self) -> float:
        """Relative volume difference, natural sign."""
        return self.overlap.rvd("natural")

    @property
    def rvd_lits(self) -> float:
        """Relative volume difference as the LiTS scorer prints it."""
        return self.overlap.rvd("lits")

    def to_dict(self) -> dict[str, Any]:
        """JSON form: undefined figures are None."""
        figures = {
            "prediction_ml": self.prediction_ml,
            "reference_ml": self.reference_ml,
            "dsc": self.dsc,
            "voe": self.voe,
            "rvd": self.rvd,
            "rvd_lits": self.rvd_lits,
            "assd_mm": self.assd_mm,
            "rmsd_mm": self.rmsd_mm,
            "hd_mm": self.hd_mm,
        }
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {"label": self.label, "name": self.name, "ids": list(self.ids), **known}


def evaluate(
    prediction: Volume,
    reference: Volume,
    *,
    resample: bool = False,
    structures: Sequence[int] | None = None,
    names: Mapping[int, str] | None = None,
) -> list[StructureScore]:
    """Compare two label maps, (D, H, W) integers, structure by structure.

    Parameters
    ----------
    resample : put a prediction of another grid onto the reference's by nearest neighbour; otherwise that is refused.
    structures : the ids to report; by default those that occur in either map. A structure that contains others
        (liver, pancreas) is scored with them, as in the hpn paper.
    names : of a foreign label table, whose ids then stand for themselves, without groups.

    Voxels that either map marks 255 (nobody reviewed them) are left out.

    Raises
    ------
    UserError : the grids differ, or a map does not hold whole, non-negative label numbers.
    """
    p, g = _labels_of(prediction, "prediction"), _labels_of(reference, "reference")
    if not prediction.grid.matches(reference.grid, tolerance_mm=0.01):
        if not resample:
            raise UserError(_grids_differ(prediction, reference))
        p = _nearest(p, prediction.grid, reference.grid)
    unknown = (p == IGNORE) | (g == IGNORE)
    boxes_p, boxes_g = _boxes(p), _boxes(g)
    present = sorted((set(boxes_p) | set(boxes_g)) - {BACKGROUND, IGNORE})
    rows = []
    for label in structures if structures is not None else _scored(present, grouped=names is None):
        ids = (label,) if names is not None or label not in STRUCTURES else _ids(label)
        box = box_around([b[i] for i in ids for b in (boxes_p, boxes_g) if i in b], p.shape)
        name = name_of(label) if names is None else names.get(label, f"label {label}")
        rows.append(_score(label, name, ids, p[box], g[box], unknown[box], reference.grid))
    return rows


def mean_dice(rows: Iterable[StructureScore]) -> float:
    """Mean DSC over the structures that are in the reference; NaN where none is."""
    values = [row.dsc for row in rows if row.overlap.reference]
    return float(np.mean(values)) if values else float("nan")


FIGURES = ("dice_per_case", "dice_global", "voe", "rvd", "rvd_abs", "rvd_lits", "assd_mm", "rmsd_mm", "hd_mm")
"""Of a summary's row: those that are means."""


def summarise(cases: Sequence[Sequence[StructureScore]], folds: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Per structure over cases: DPC, DG, mean VOE, signed and absolute RVD, surface figures, and who was left out.

    Every case weighs the same. With `folds`, the fold that each of `cases` was held out in, a row also has `fold_mean`:
    the same figures of each fold by itself, averaged over the folds, as papers print them that speak of the mean over
    their test sets (SAM + URIM); DG is then pooled within folds alone.
    Means of surface figures and RVD are over the cases where they are defined; `undefined_surface`, `undefined_rvd`
    and `both_empty` count the others. JSON types.

    Raises
    ------
    ValueError : `folds` and `cases` differ in length.
    """
    by_label: dict[int, list[StructureScore]] = {}
    for row in (row for case in cases for row in case):
        by_label.setdefault(row.label, []).append(row)
    whole = [_summary(label, rows) for label, rows in sorted(by_label.items())]
    if folds is None:
        return whole
    members: dict[int, list[Sequence[StructureScore]]] = {}
    for fold, case in zip(folds, cases, strict=True):
        members.setdefault(fold, []).append(case)
    each = [row for own in members.values() for row in summarise(own)]
    return [row | {"fold_mean": _mean_row([r for r in each if r["label"] == row["label"]])} for row in whole]


def _mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The figures averaged over rows, each over those where it is defined."""
    return {name: _mean([row[name] for row in rows if row[name] is not None]) for name in FIGURES}


def _summary(label: int, rows: Sequence[StructureScore]) -> dict[str, Any]:
    rvd = [row.rvd for row in rows if math.isfinite(row.rvd)]
    near = [row for row in rows if math.isfinite(row.assd_mm)]
    return {
        "label": label,
        "name": rows[0].name,
        "cases": len(rows),
        "dice_per_case": dice_per_case(row.overlap for row in rows),
        "dice_global": dice_global(row.overlap for row in rows),
        "voe": _mean([row.voe for row in rows]),
        "rvd": _mean(rvd),
        "rvd_abs": _mean([abs(value) for value in rvd]),
        "rvd_lits": _mean([row.rvd_lits for row in rows if math.isfinite(row.rvd_lits)]),
        "assd_mm": _mean([row.assd_mm for row in near]),
        "rmsd_mm": _mean([row.rmsd_mm for row in near]),
        "hd_mm": _mean([row.hd_mm for row in near]),
        "undefined_rvd": len(rows) - len(rvd),
        "undefined_surface": len(rows) - len(near),
        "both_empty": sum(row.overlap.both_empty for row in rows),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _score(
    label: int,
    name: str,
    ids: tuple[int, ...],
    prediction: NDArray[Any],
    reference: NDArray[Any],
    unknown: NDArray[np.bool_],
    grid: Grid,
) -> StructureScore:
    p, g = np.isin(prediction, ids) & ~unknown, np.isin(reference, ids) & ~unknown
    overlap = Overlap.of(p, g)
    distances = surface_distances(p, g, grid.spacing_mm, unknown if unknown.any() else None)
    return StructureScore(
        label=label,
        name=name,
        ids=ids,
        overlap=overlap,
        prediction_ml=overlap.prediction * grid.voxel_ml,
        reference_ml=overlap.reference * grid.voxel_ml,
        assd_mm=distances.assd_mm,
        rmsd_mm=distances.rmsd_mm,
        hd_mm=distances.hd_mm,
    )


def _ids(label: int) -> tuple[int, ...]:
    return ids_of_group(label) or (label,)


def _scored(present: Sequence[int], *, grouped: bool) -> list[int]:
    """The ids to report: those present and, by groups, the organs that contain them."""
    organs = {STRUCTURES[i].group for i in present if grouped and i in STRUCTURES}
    return sorted(set(present) | organs)


def _labels_of(volume: Volume, role: str) -> NDArray[Any]:
    """The volume's data as non-negative integers."""
    data = volume.data
    whole = data.dtype.kind in "iub" or (data.dtype.kind == "f" and bool(np.array_equal(data, np.rint(data))))
    if not whole:
        raise UserError(f"the {role} {volume.source.path} holds no labels (its values are not whole numbers)")
    if data.size and (data.min() < 0 or data.max() > 65535):
        raise UserError(f"the {role} {volume.source.path} holds no labels (values {data.min()} to {data.max()})")
    return data if data.dtype in (np.uint8, np.uint16) else data.astype(np.uint16)


def _grids_differ(prediction: Volume, reference: Volume) -> str:
    def words(volume: Volume) -> str:
        shape = " x ".join(str(n) for n in volume.shape)
        spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
        origin = ", ".join(f"{o:.1f}" for o in volume.grid.origin_mm)
        return f"{volume.source.path} has {shape} voxels of {spacing} mm from ({origin})"

    return f"the grids differ: {words(prediction)}, {words(reference)}; compare on one grid or ask to resample"


def _nearest(labels: NDArray[Any], grid: Grid, target: Grid) -> NDArray[Any]:
    """`labels` on `target` by nearest neighbour; background outside. Both grids have the same axes."""
    out = labels
    for axis in range(3):
        at_mm = target.origin_mm[axis] + np.arange(target.shape[axis]) * target.spacing_mm[axis]
        index = np.floor((at_mm - grid.origin_mm[axis]) / grid.spacing_mm[axis] + 0.5).astype(int)
        inside = (index >= 0) & (index < grid.shape[axis])
        out = np.take(out, np.clip(index, 0, grid.shape[axis] - 1), axis=axis)
        if not inside.all():
            out[tuple(~inside if a == axis else slice(None) for a in range(3))] = BACKGROUND
    return out


def _boxes(labels: NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """Bounding box of every label that occurs."""
    found = ndimage.find_objects(labels)
    return {i + 1: box for i, box in enumerate(found) if box is not None}
