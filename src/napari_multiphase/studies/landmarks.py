"""The few landmarks that tell a contrast phase, found by plain image analysis: spine, aorta, liver, kidneys.

No network and no atlas: the spine is the densest bone near the posterior midline; the aorta is the homogeneous disc of
at least 11 mm, darker around and without bone around, that can be followed from slice to slice in front of it; the
liver is the largest homogeneous soft tissue on the right; the kidneys are the bright lumps beside the spine. Works at
about 2 mm in the slice and 5 mm along it, so that any scan takes well under three seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.volume import Volume

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

STEP_MM = (5.0, 2.0, 2.0)
AORTA_RADIUS_MM = 5.5
RING_RADII_MM = (11.0, 14.0, 18.0)
"""How far from the aorta's centre its surroundings are looked at: small, usual and wide aortas."""
AORTA_WINDOW_MM = (-70.0, 15.0, -25.0, 45.0)
"""Front, back, right, left of the vertebra's centre."""
STRAY_MM = 4.0
"""Usual shift of the aorta's centre from one slice to the next."""
SHORTEST_AORTA_MM = 30.0
SMALLEST_PELVIS_ML = 0.25
MOST_BONE = 0.12
"""Share of the body above 300 HU beyond which this is a head or a limb, not a trunk."""


@dataclass(frozen=True)
class Coarse:
    """A scan at about `STEP_MM`: `hu` and `body` (D, H, W), `spacing_mm` (z, y, x)."""

    hu: Image
    body: Mask
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Kidney:
    """One kidney: its size, parenchyma, the spread inside it, and its pelvis where that is brighter than any tissue."""

    ml: float
    parenchyma_hu: float
    cortex_medulla_hu: float
    pelvis_hu: float | None


@dataclass(frozen=True)
class Landmarks:
    """What was found; None where something was not."""

    aorta_hu: float | None
    liver_hu: float | None
    kidneys: tuple[Kidney, ...]


def find_landmarks(volume: Volume) -> Landmarks:
    """Measure a CT volume (HU). Never raises for an odd field of view: what is not there is None."""
    coarse = coarsen(volume)
    inside = coarse.hu[coarse.body]
    if inside.size < 500 or np.count_nonzero(inside > 300) > MOST_BONE * inside.size:
        return Landmarks(None, None, ())
    spine = find_spine(coarse)
    liver_hu = find_liver(coarse, spine)
    aorta_hu = find_aorta(coarse, spine)
    kidneys = find_kidneys(coarse, spine, liver_hu) if aorta_hu is not None else ()
    return Landmarks(aorta_hu, liver_hu, kidneys)


def coarsen(volume: Volume) -> Coarse:
    """Average in the slice, pick slices along it: noise falls, memory stays small."""
    steps = [max(1, round(want / have)) for want, have in zip(STEP_MM, volume.spacing_mm, strict=True)]
    steps = [min(step, size) for step, size in zip(steps, volume.shape, strict=True)]
    _, height, width = (size // step * step for size, step in zip(volume.shape, steps, strict=True))
    picked = np.asarray(volume.data[:: steps[0], :height, :width])
    blocks = picked.reshape(len(picked), height // steps[1], steps[1], width // steps[2], steps[2])
    hu = np.nan_to_num(blocks.mean(axis=(2, 4), dtype=np.float32), nan=-1024.0, posinf=3071.0, neginf=-1024.0)
    sz, sy, sx = (have * step for have, step in zip(volume.spacing_mm, steps, strict=True))
    return Coarse(hu, np.stack([body_of_slice(plane) for plane in hu]), (sz, sy, sx))


def body_of_slice(hu: Image) -> Mask:
    """The largest lump of tissue without its holes; the table is cut off by the opening."""
    labels, count = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    if not count:
        return np.zeros(hu.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(labels == sizes.argmax()), bool)


def find_spine(coarse: Coarse) -> NDArray[np.float64]:
    """(D, 2) the vertebra's centre (y, x) in each slice, in coarse voxels."""
    sz, sy, sx = coarse.spacing_mm
    bone = ((coarse.hu > 180) & coarse.body).astype(np.float32)
    bone = ndimage.gaussian_filter(bone, (20 / sz, 10 / sy, 10 / sx))
    height, width = coarse.hu.shape[1:]
    y, x = np.mgrid[:height, :width]
    centres = np.full((len(bone), 2), np.nan)
    for k, body in enumerate(coarse.body):
        if np.count_nonzero(body) < 50:
            continue
        rows, columns = np.nonzero(body)
        front, back = np.percentile(rows, [1, 99])
        depth = max(back - front, 1.0)
        prior = np.exp(-0.5 * ((x - columns.mean()) * sx / 30) ** 2)
        prior *= np.exp(-0.5 * ((y - (front + 0.68 * depth)) / (0.13 * depth)) ** 2)
        centres[k] = np.unravel_index(int((bone[k] * prior).argmax()), body.shape)
    known = ~np.isnan(centres[:, 0])
    for axis in range(2):
        centres[:, axis] = np.interp(np.arange(len(centres)), np.flatnonzero(known), centres[known, axis])
    return np.asarray(ndimage.median_filter(centres, (9, 1), mode="nearest"))


def find_aorta(coarse: Coarse, spine: NDArray[np.float64]) -> float | None:
    """Median HU of the aorta over the stretch where it is seen well, or None where no tube of contrast is."""
    score, mean = _tube_scores(coarse, spine)
    path = _best_path(score, coarse.spacing_mm)
    at = (np.arange(len(score)), path[:, 0], path[:, 1])
    stretch = _longest_stretch(score[at], mean[at])
    needed_mm = min(SHORTEST_AORTA_MM, 0.6 * len(score) * coarse.spacing_mm[0])
    if len(stretch) * coarse.spacing_mm[0] < needed_mm:
        return None
    hu = float(np.median(mean[at][stretch]))
    return hu if hu >= 95 else None


def _tube_scores(coarse: Coarse, spine: NDArray[np.float64]) -> tuple[Image, Image]:
    """Per slice of the window in front of the spine: how much each point looks like the aorta's centre, and its HU."""
    _, sy, sx = coarse.spacing_mm
    front, back, right, left = (
        int(limit / step) for limit, step in zip(AORTA_WINDOW_MM, (sy, sy, sx, sx), strict=True)
    )
    margin = int(np.ceil(max(RING_RADII_MM) / min(sy, sx))) + 1
    disc = _disc(AORTA_RADIUS_MM, sy, sx).astype(np.float32)
    disc /= disc.sum()
    wide = margin + max(-front, back, -right, left)
    scores, means = [], []
    for plane, (y, x) in zip(coarse.hu, np.rint(spine).astype(int), strict=True):
        padded = np.clip(np.pad(plane, wide, constant_values=-1000.0), -200, 700)
        rows = slice(y + wide + front - margin, y + wide + back + margin)
        columns = slice(x + wide + right - margin, x + wide + left + margin)
        window = padded[rows, columns]
        mean = ndimage.convolve(window, disc)
        deviation = np.sqrt(np.maximum(ndimage.convolve(window * window, disc) - mean * mean, 0))
        core = (slice(margin, -margin), slice(margin, -margin))
        surround = _surround(window, mean[core], margin, (sy, sx))
        brightness = np.clip((mean[core] - 90) / 60, -1, 2)
        scores.append(brightness + 4 * (surround - 0.6) - deviation[core] / np.maximum(20, 0.1 * mean[core]))
        means.append(mean[core])
    return np.stack(scores).astype(np.float32), np.stack(means).astype(np.float32)


def _surround(window: Image, mean: Image, margin: int, step_mm: tuple[float, float]) -> Image:
    """Share of a ring around each point that is clearly darker, less twice the share (above 15 %) that is bone."""
    height, width = mean.shape
    best = np.full(mean.shape, -2.0, np.float32)
    for radius in RING_RADII_MM:
        darker, brighter = np.zeros(mean.shape, np.float32), np.zeros(mean.shape, np.float32)
        for angle in np.arange(24) * (2 * np.pi / 24):
            dy = margin + round(radius * np.sin(angle) / step_mm[0])
            dx = margin + round(radius * np.cos(angle) / step_mm[1])
            there = window[dy : dy + height, dx : dx + width]
            darker += there < mean - np.maximum(40, 0.15 * mean)
            brighter += there > mean + 60
        np.maximum(best, darker / 24 - 2 * np.maximum(brighter / 24 - 0.15, 0), out=best)
    return best


def _best_path(score: Image, spacing_mm: tuple[float, float, float]) -> NDArray[np.int64]:
    """(D, 2) the path through all slices with the highest sum of scores less the price of straying."""
    reach = 3
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    price = ((y * spacing_mm[1]) ** 2 + (x * spacing_mm[2]) ** 2) / (4 * STRAY_MM**2)
    everywhere = np.ones(price.shape, bool)
    total = [score[0]]
    for plane in score[1:]:
        total.append(ndimage.grey_dilation(total[-1], footprint=everywhere, structure=-price) + plane)
    point = np.unravel_index(int(total[-1].argmax()), score.shape[1:])
    path = [point]
    for plane in total[-2::-1]:
        around = np.pad(plane, reach, constant_values=-np.inf)
        near = around[point[0] : point[0] + 2 * reach + 1, point[1] : point[1] + 2 * reach + 1] - price
        dy, dx = np.unravel_index(int(near.argmax()), near.shape)
        point = (point[0] + dy - reach, point[1] + dx - reach)
        path.append(point)
    return np.array(path[::-1], int)


def _longest_stretch(score: Image, mean: Image) -> NDArray[np.int64]:
    """The slices of the longest run that looks like one vessel: good scores, HU changing little, one slice forgiven."""
    best: list[int] = []
    run: list[int] = []
    for k in range(len(score)):
        good = score[k] > 0.8 and (not run or abs(mean[k] - np.median(mean[run])) < 0.25 * np.median(mean[run]))
        if good and (not run or k - run[-1] <= 2):
            run.append(k)
        elif good or (run and k - run[-1] > 1):
            run = [k] if score[k] > 0.8 else []
        best = max(best, run, key=len)
        best = list(best)
    return np.array(best, int)


def find_liver(coarse: Coarse, spine: NDArray[np.float64]) -> float | None:
    """Median HU of the largest homogeneous soft tissue right of the spine; None below 150 ml."""
    sz, sy, sx = coarse.spacing_mm
    step = max(1, round(4.0 / sx))
    hu = ndimage.uniform_filter(coarse.hu, (1, step, step))[:, ::step, ::step]
    mean = ndimage.uniform_filter(hu, 3)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(hu * hu, 3) - mean * mean, 0))
    right = np.arange(hu.shape[2])[None, None] * step < spine[:, 1][:, None, None] + 15 / sx
    soft = coarse.body[:, ::step, ::step] & right & (mean > 0) & (mean < 230) & (deviation < 22)
    labels, count = ndimage.label(ndimage.binary_erosion(soft))
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    liver = labels == sizes.argmax()
    ml = float(sizes.max()) * sz * sy * sx * step * step / 1000
    return float(np.median(hu[liver])) if ml >= 150 else None


def find_kidneys(coarse: Coarse, spine: NDArray[np.float64], liver_hu: float | None) -> tuple[Kidney, ...]:
    """Up to two kidneys, the right one first. Needs contrast: without it kidneys are as dark as muscle."""
    sz, sy, sx = coarse.spacing_mm
    smooth = ndimage.gaussian_filter(coarse.hu, (0, 2.5 / sy, 2.5 / sx))
    y = (np.arange(smooth.shape[1])[None, :, None] - spine[:, 0][:, None, None]) * sy
    x = (np.arange(smooth.shape[2])[None, None] - spine[:, 1][:, None, None]) * sx
    beside = (np.abs(x) > 25) & (np.abs(x) < 115) & (y > -60) & (y < 50)
    bright = (smooth > max(85.0, (liver_hu or 0.0) + 15)) & (smooth < 450) & beside & coarse.body
    labels, _ = ndimage.label(ndimage.binary_opening(bright, np.ones((1, 3, 3)), iterations=2))
    found: dict[int, tuple[float, int, tuple[slice, ...]]] = {}
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        lump = labels[box] == index
        ml = float(np.count_nonzero(lump)) * sz * sy * sx / 1000
        k, j, i = (int(c.mean()) + s.start for c, s in zip(np.nonzero(lump), box, strict=True))
        dy, dx = (j - spine[k, 0]) * sy, (i - spine[k, 1]) * sx
        if 30 <= ml <= 400 and 30 < abs(dx) < 100 and -35 < dy < 30:
            side, fitness = int(np.sign(dx)), min(ml, 200) - 2 * abs(dy)
            if side not in found or fitness > found[side][0]:
                found[side] = (fitness, index, box)
    return tuple(_measure_kidney(coarse, labels[box] == index, box) for _, (_, index, box) in sorted(found.items()))


def _measure_kidney(coarse: Coarse, lump: Mask, box: tuple[slice, ...]) -> Kidney:
    """Figures of one lump; the pelvis is what a disc of 14 mm closes."""
    sz, sy, sx = coarse.spacing_mm
    disc = _disc(14.0, sy, sx)
    pad = disc.shape[0] // 2 + 1
    closed = [ndimage.binary_closing(np.pad(plane, pad), disc)[pad:-pad, pad:-pad] for plane in lump]
    hu = coarse.hu[box]
    inner = ndimage.binary_erosion(lump, np.ones((1, 3, 3)))
    values: NDArray[Any] = hu[inner if inner.any() else lump]
    parenchyma = float(np.median(values))
    low, high = np.percentile(values, [10, 90])
    pelvis = hu[np.stack(closed) & (hu > max(1.5 * parenchyma, 220.0))]
    ml = sz * sy * sx / 1000
    excreted = float(np.median(pelvis)) if pelvis.size * ml >= SMALLEST_PELVIS_ML else None
    return Kidney(float(np.count_nonzero(lump)) * ml, parenchyma, float(high - low), excreted)


def _disc(radius_mm: float, sy: float, sx: float) -> Mask:
    """Voxels within `radius_mm` of the centre of a small odd-sized plane."""
    reach = int(np.ceil(radius_mm / min(sy, sx)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray((y * sy) ** 2 + (x * sx) ** 2 <= radius_mm**2, bool)
