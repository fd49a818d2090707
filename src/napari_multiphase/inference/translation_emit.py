"""From translated slices on the network's grid to HU on the scan's own grid, slice by slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.resample import axis_weights
from napari_multiphase.imaging.windows import translated_hu
from napari_multiphase.inference.results import Results
from napari_multiphase.inference.scan import Scan

_INT16 = np.iinfo(np.int16)


class HuEmitter:
    """Takes translated slices in ascending z, resamples them as the scan was, and writes int16 HU.

    Held are only the planes that the next slice is made of. What the window cut off comes back as `translated_hu` says;
    outside the body the scan's own HU stand.
    """

    def __init__(self, scan: Scan, source_hu: NDArray[Any], results: Results) -> None:
        self._scan, self._source, self._results = scan, source_hu, results
        self._same = scan.network_grid == scan.grid
        self._weights = [axis_weights(scan.network_grid, scan.grid, axis)[0] for axis in range(3)]
        used = self._weights[0] > 0
        self._first, self._last = used.argmax(1), used.shape[1] - 1 - used[:, ::-1].argmax(1)
        self._held: dict[int, NDArray[np.float32]] = {}
        self._taken = self._given = 0

    def take(self, slices: NDArray[np.float32]) -> None:
        """The next slices (n, h, w) in [-1, 1] of the network's grid."""
        _, by_y, by_x = self._weights
        for plane in slices:
            self._held[self._taken] = plane if self._same else by_y @ plane @ by_x.T
            self._taken += 1
            while self._given < len(self._last) and self._last[self._given] < self._taken:
                self._emit(self._given)
                self._given += 1
            if self._given < len(self._first):
                self._held = {z: kept for z, kept in self._held.items() if z >= self._first[self._given]}

    def _emit(self, z: int) -> None:
        used = slice(self._first[z], self._last[z] + 1)
        planes = np.stack([self._held[plane] for plane in range(used.start, used.stop)])
        x = np.tensordot(self._weights[0][z, used], planes, axes=1)
        inside = self._scan.body.on(self._scan.grid, slice(z, z + 1))[0]
        self._results.append(slice_hu(x, np.asarray(self._source[z]), inside, self._scan.window_hu)[None])


def slice_hu(
    x: NDArray[np.float32], source_hu: NDArray[Any], inside: NDArray[np.bool_], window_hu: tuple[float, float]
) -> NDArray[np.int16]:
    """(H, W) int16 HU of a translated slice `x` in [-1, 1]; outside the body (`inside`) the source's own."""
    hu = np.where(inside, translated_hu(x, source_hu, window_hu), source_hu)
    return np.clip(np.rint(hu), _INT16.min, _INT16.max).astype(np.int16)
