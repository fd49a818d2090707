"""How close a synthetic image comes to a real scan: MAE, PSNR, SSIM, HU per structure, S-score. NumPy and SciPy only.

Images are worked on slice by slice, so that a long scan takes no more memory than a short one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.labels import BACKGROUND, UNKNOWN
from napari_multiphase.metrics.overlap import Overlap

SIGMA_PX, TRUNCATE = 1.5, 3.5
"""Of SSIM's Gaussian window (Wang et al. 2004): 11 x 11 pixels."""
_REACH_PX = int(TRUNCATE * SIGMA_PX + 0.5)
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class Closeness:
    """Figures of one image against another.

    Attributes
    ----------
    mae_hu : mean absolute difference in HU.
    psnr_db : peak signal-to-noise ratio in dB; infinite where the images are equal.
    ssim : mean structural similarity, at most 1; NaN where no window lies in view.
    voxels : how many counted.
    """

    mae_hu: float
    psnr_db: float
    ssim: float
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form: what is not finite is None."""
        figures = {"mae_hu": self.mae_hu, "psnr_db": self.psnr_db, "ssim": self.ssim}
        rounded = {name: round(value, 4) if np.isfinite(value) else None for name, value in figures.items()}
        return {**rounded, "voxels": self.voxels}


class Comparing:
    """Takes two images slice by slice and gives their `Closeness`.

    MAE is of the HU as they are. For PSNR and SSIM both are clipped to `window_hu`, and its width is the data range;
    SSIM is that of Wang et al. (2004) in each slice, averaged over the voxels that count.
    """

    def __init__(self, window_hu: tuple[float, float]) -> None:
        self._window_hu = window_hu
        self._absolute = self._squares = self._ssim = 0.0
        self._voxels = self._windows = 0

    def add(
        self, real: NDArray[Any], other: NDArray[Any], inside: NDArray[np.bool_], seen: NDArray[np.bool_] | None = None
    ) -> None:
        """One slice (H, W) of each in HU.

        Parameters
        ----------
        inside : (H, W), which voxels count.
        seen : (H, W), where both images have values; a window of SSIM that reaches beyond does not count.
        """
        if not inside.any():
            return
        box = _around(inside)
        a, b, counts = (np.asarray(image[box]) for image in (real, other, inside))
        a, b = a.astype(np.float32), b.astype(np.float32)
        self._absolute += float(np.abs(a - b)[counts].sum(dtype=np.float64))
        self._voxels += int(np.count_nonzero(counts))
        low, high = self._window_hu
        a, b = np.clip(a, low, high), np.clip(b, low, high)
        self._squares += float(np.square(a - b)[counts].sum(dtype=np.float64))
        if seen is not None and not seen[box].all():
            counts = counts & ~ndimage.maximum_filter(~seen[box], 2 * _REACH_PX + 1)
        self._ssim += float(ssim_map(a, b, high - low)[counts].sum(dtype=np.float64))
        self._windows += int(np.count_nonzero(counts))

    @property
    def result(self) -> Closeness:
        """Of all slices so far."""
        if not self._voxels:
            return Closeness(np.nan, np.nan, np.nan, 0)
        error = self._squares / self._voxels
        width = self._window_hu[1] - self._window_hu[0]
        psnr_db = 10 * np.log10(width * width / error) if error else np.inf
        ssim = self._ssim / self._windows if self._windows else np.nan
        return Closeness(self._absolute / self._voxels, float(psnr_db), ssim, self._voxels)


def closeness(
    real: Iterable[NDArray[Any]],
    other: Iterable[NDArray[Any]],
    inside: Iterable[NDArray[np.bool_]],
    window_hu: tuple[float, float],
) -> Closeness:
    """Of two images (D, H, W) in HU over the voxels of `inside`; see `Comparing`."""
    comparing = Comparing(window_hu)
    for planes in zip(real, other, inside, strict=True):
        comparing.add(*planes)
    return comparing.result


def ssim_map(a: NDArray[Any], b: NDArray[Any], data_range: float) -> NDArray[np.float32]:
    """Structural similarity of two slices (H, W) at every pixel: Wang et al. (2004), Eq. 13, K1 0.01 and K2 0.03.

    The window is Gaussian, 11 x 11 pixels; beyond the borders the image is mirrored.
    """
    middle = np.float32((float(a.mean()) + float(b.mean())) / 2)  # squares then keep their digits in float32
    x, y = a.astype(np.float32) - middle, b.astype(np.float32) - middle
    mean_x, mean_y, xx, yy, xy = (_smooth(image) for image in (x, y, x * x, y * y, x * y))
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    covariance, spread = xy - mean_x * mean_y, xx - mean_x * mean_x + yy - mean_y * mean_y
    mean_x, mean_y = mean_x + middle, mean_y + middle
    bright = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return (bright * (2 * covariance + c2) / (spread + c2)).astype(np.float32)


def _smooth(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(image, SIGMA_PX, truncate=TRUNCATE, output=np.float32)


def _around(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The box of what counts, and what SSIM's windows reach beyond it."""
    slices = []
    for axis, size in enumerate(inside.shape):
        held = np.flatnonzero(inside.any(axis=1 - axis))
        slices.append(slice(max(0, held[0] - 2 * _REACH_PX), min(size, held[-1] + 1 + 2 * _REACH_PX)))
    return slices[0], slices[1]


@dataclass(frozen=True)
class StructureHu:
    """HU of one structure in one image.

    `counts` of voxels lie between `edges_hu`; the outer bins hold what lies beyond. Mean and standard deviation are of
    the HU themselves.
    """

    voxels: int
    mean_hu: float
    sd_hu: float
    edges_hu: NDArray[np.float64]
    counts: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """JSON form: `share` of the voxels in each bin instead of their number."""
        share = [round(float(value), 5) for value in self.counts / max(self.voxels, 1)]
        return {
            "voxels": self.voxels, "mean_hu": round(self.mean_hu, 2), "sd_hu": round(self.sd_hu, 2), "share": share
        }  # fmt: skip


def structure_hu(
    image: Iterable[NDArray[Any]],
    labels: Iterable[NDArray[Any]],
    edges_hu: NDArray[np.float64],
    inside: Iterable[NDArray[np.bool_]] | None = None,
) -> dict[int, StructureHu]:
    """HU of every structure that occurs, by label id.

    Parameters
    ----------
    image, labels : (D, H, W) on one grid; labels below 254 (unknown) and above 0 are structures.
    edges_hu : ascending, evenly spaced.
    inside : (D, H, W), which voxels count; all of them by default.
    """
    bins, low, step = len(edges_hu) - 1, edges_hu[0], edges_hu[1] - edges_hu[0]
    counts = np.zeros((UNKNOWN, bins), np.int64)
    sums, squares = np.zeros(UNKNOWN), np.zeros(UNKNOWN)
    planes = zip(image, labels, strict=True) if inside is None else zip(image, labels, inside, strict=True)
    for hu, ids, *where in planes:
        held = (ids > BACKGROUND) & (ids < UNKNOWN)
        if where:
            held &= where[0]
        if not held.any():
            continue
        values, found = np.asarray(hu)[held].astype(np.float64), np.asarray(ids)[held].astype(np.intp)
        places = np.clip(np.floor((values - low) / step), 0, bins - 1).astype(np.intp)
        counts += np.bincount(found * bins + places, minlength=UNKNOWN * bins).reshape(UNKNOWN, bins)
        sums += np.bincount(found, values, UNKNOWN)
        squares += np.bincount(found, values * values, UNKNOWN)
    out = {}
    for label in np.flatnonzero(counts.any(axis=1)):
        voxels = int(counts[label].sum())
        mean = sums[label] / voxels
        spread = np.sqrt(max(0.0, squares[label] / voxels - mean * mean))
        out[int(label)] = StructureHu(voxels, float(mean), float(spread), edges_hu, counts[label])
    return out


def s_score(found: NDArray[Any], labels: NDArray[Any], known: Collection[int]) -> tuple[float, dict[int, float]]:
    """S-score (PAPER 003, Table 1) of one volume: mean Dice, and Dice of each structure.

    Parameters
    ----------
    found : (D, H, W), what a segmentor of the synthetic phase finds in the synthetic image.
    labels : (D, H, W), of the scan that the image was made from; 254 and 255 are left out.
    known : ids that the segmentor can find; other structures do not count.

    Returns
    -------
    The mean is over the structures that occur in `labels`; NaN where none does.
    """
    reviewed = labels < UNKNOWN
    present = [int(i) for i in np.unique(labels[reviewed]) if i != BACKGROUND and i in known]
    dice = {i: Overlap.of((found == i) & reviewed, labels == i).dice for i in present}
    return (float(np.mean(list(dice.values()))) if dice else float("nan")), dice
