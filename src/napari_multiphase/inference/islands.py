"""What cannot be, left out: parts of an organ apart from it, and organs in a scan that shows no abdomen.

A network sees a tile at a time; it may take the bladder for a liver, or a loop of bowel for a kidney.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.imaging.components import box_around, components, large_components
from napari_multiphase.labels import BACKGROUND, IDS_BY_NAME, STRUCTURES, ids_of_group, name_of
from napari_multiphase.study import PhasePrediction, TwoBest
from napari_multiphase.volume import Grid, Phase

SOLID = tuple(IDS_BY_NAME[name] for name in ("liver", "spleen", "right kidney", "left kidney"))
SOLID_SHARE, SHARE = 0.5, 0.1
"""A part stays that has at least this share of the voxels of the largest one: of solid organs; of others, which are
long, thin or pinched and break more easily."""
OTHER_SHARE = 0.3
"""A part that goes is another structure's where so much of what touches it is that structure, and so many of its voxels
had that structure as their second class, on the mean of both shares."""
COMPANY_ML = {"spleen": 40.0, "right kidney": 40.0, "left kidney": 40.0, "aorta": 5.0}
"""Whoever has two of these shows an abdomen; a kidney beside the lungs is none."""
LUNGS_CM2 = 40.0
"""Slices with more of the lungs than this show them, not their lowest corners."""
ORGANS = tuple(s.id for s in STRUCTURES.values() if s.id == s.group and s.name not in ("spine and bones", "lungs"))
"""All that a scan of another part of the body does not show,"""
CHEST = tuple(IDS_BY_NAME[name] for name in ("aorta", "heart", "oesophagus"))
"""but for these, where it shows the aorta: a chest."""
_HALF = (128, 127)
"""Probabilities (of 255) of what an island becomes and of what it was taken for: nobody knows."""
_UNSURE = 1
"""Encoded confidence of an island's voxels: the least that is not "never seen"."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class LeftOut:
    """What went, ml by organ; `abdomen` is whether the scan shows one."""

    ml: Mapping[int, float]
    abdomen: bool = True

    def words(self, phase: Phase) -> str:
        """In a sentence; there is nothing to say of less than a millilitre."""
        if not self.abdomen:
            return f"{phase}: the scan does not seem to show an abdomen, so no abdominal organ is labelled in it"
        parts = [f"{name_of(organ)} {volume:.0f} ml" for organ, volume in self.ml.items() if volume >= 1]
        return f"{phase}: parts apart from their organ do not count as it ({', '.join(parts)})" if parts else ""


@dataclass(frozen=True)
class _Island:
    """Voxels `inside` a `box` of the label map that were taken for `organ`; the box holds all that touches them."""

    organ: int
    box: Box
    inside: NDArray[np.bool_]


def without_islands(found: PhasePrediction, organs: Sequence[int], grid: Grid) -> tuple[PhasePrediction, LeftOut]:
    """`found` without the islands of `organs`, changed where it lies, in memory or in its files; and what was left out.

    Of an organ with its lesions, the part with the most voxels stays, and so does each that is not much smaller
    (`SOLID_SHARE`, `SHARE`). Each other part becomes another structure (`OTHER_SHARE`) or background, with the least
    confidence, so that it stands high among the uncertain regions; what a voxel was taken for is its second class from
    then on. Where fewer than two of `COMPANY_ML` are there, though the model knows them, no organ stays, or those of
    the chest alone.
    """
    assert found.two_best is not None
    by_slice_ml = np.stack([np.bincount(z.ravel(), minlength=256) for z in found.labels]) * grid.voxel_ml
    abdomen = _shows_abdomen(by_slice_ml, grid.spacing_mm[0], organs)
    chest = CHEST if by_slice_ml[:, IDS_BY_NAME["aorta"]].sum() >= COMPANY_ML["aorta"] else ()
    boxes = ndimage.find_objects(found.labels)
    kept = dict.fromkeys(organs, True) if abdomen else {organ: organ in chest for organ in ORGANS}
    islands = [i for organ, stays in kept.items() for i in _islands(found.labels, organ, boxes, stays)]
    if not islands:
        return found, LeftOut({}, abdomen)
    best = found.two_best
    arrays = (found.labels, best.second, best.p_first, best.p_second, found.confidence)
    first, second, p_first, p_second, confidence = map(_writable, arrays)
    ml = dict.fromkeys((island.organ for island in islands), 0.0)
    votes = []
    for island in islands:
        box, inside = island.box, island.inside
        ml[island.organ] += float(inside.sum()) * grid.voxel_ml
        votes.append(_shares(second[box][inside]))
        second[box][inside] = first[box][inside]
        first[box][inside], confidence[box][inside] = BACKGROUND, _UNSURE
        p_first[box][inside], p_second[box][inside] = _HALF
    for island, vote in zip(islands, votes, strict=True) if abdomen else ():
        box, inside = island.box, island.inside
        vote += _shares(first[box][ndimage.binary_dilation(inside, np.ones((3, 3, 3), bool)) & ~inside])
        vote[[BACKGROUND, *ids_of_group(island.organ)]] = 0
        if vote.max() / 2 >= OTHER_SHARE:
            first[box][inside] = vote.argmax()
    return PhasePrediction(first, confidence, TwoBest(first, second, p_first, p_second)), LeftOut(ml, abdomen)


def _writable(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The array itself, its file mapped to be changed, or a copy of what is neither."""
    if array.flags.writeable:
        return array
    path = array.filename if isinstance(array, np.memmap) else None
    return np.array(array) if path is None else np.load(path, mmap_mode="r+")


def _shows_abdomen(by_slice_ml: NDArray[Any], slice_mm: float, organs: Sequence[int]) -> bool:
    """Whether two of `COMPANY_ML` are there; ml by slice and label id. True where the model is not known to find them.

    A kidney does not count that lies by more than half in slices with lungs: a bright heart was taken for one.
    """
    company = {IDS_BY_NAME[name]: least for name, least in COMPANY_ML.items()}
    ml = by_slice_ml.sum(0)
    in_chest = by_slice_ml[10 * by_slice_ml[:, IDS_BY_NAME["lungs"]] > LUNGS_CM2 * slice_mm].sum(0)
    for name in ("right kidney", "left kidney"):
        if 2 * in_chest[IDS_BY_NAME[name]] > ml[IDS_BY_NAME[name]]:
            ml[IDS_BY_NAME[name]] = 0
    return not company.keys() <= set(organs) or bool(sum(ml[label] >= least for label, least in company.items()) > 1)


def _islands(labels: NDArray[np.uint8], organ: int, boxes: Sequence[Box | None], stays: bool) -> Iterator[_Island]:
    """The parts of `organ` that are too small beside its largest, or all of them; `boxes` holds label 1's first."""
    ids = ids_of_group(organ)
    its = [box for i, box in enumerate(boxes, 1) if i in ids and box is not None]
    whole = box_around(its, labels.shape)
    mask = np.isin(labels[whole], ids)
    if stays:
        mask &= ~large_components(mask, SOLID_SHARE if organ in SOLID else SHARE, 26)
    parts, _ = components(mask)
    for part, at in enumerate(ndimage.find_objects(parts), 1):
        near = box_around([at], parts.shape)
        box = tuple(slice(o.start + s.start, o.start + s.stop) for o, s in zip(whole, near, strict=True))
        yield _Island(organ, box, parts[near] == part)


def _shares(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Which part of `labels` each label is; 0 where there is none."""
    return np.bincount(labels, minlength=256) / max(1, labels.size)
