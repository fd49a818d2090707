"""A scan made small for registration: averaged to a few mm, with its body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from napari_multiphase.studies.landmarks import body_of_slice
from napari_multiphase.volume import Grid, Volume

CLIP_HU = (-200.0, 300.0)


@dataclass(frozen=True)
class Thumb:
    """`hu` (D, H, W) float32 unclipped, `body` (D, H, W) bool, on `grid` (canonical axes, LPS mm)."""

    hu: NDArray[np.float32]
    body: NDArray[np.bool_]
    grid: Grid

    @staticmethod
    def of(volume: Volume, target_mm: float) -> Thumb:
        """Blocks of voxels averaged to about `target_mm` (coarser sides stay); remainders at the ends fall off."""
        steps = [max(1, round(target_mm / s)) for s in volume.spacing_mm]
        steps = [min(step, size) for step, size in zip(steps, volume.shape, strict=True)]
        d, h, w = (size // step for size, step in zip(volume.shape, steps, strict=True))
        hu = np.empty((d, h, w), np.float32)
        for k in range(d):  # slice by slice: a large scan is never copied whole
            block = volume.data[k * steps[0] : (k + 1) * steps[0], : h * steps[1], : w * steps[2]]
            hu[k] = block.reshape(steps[0], h, steps[1], w, steps[2]).mean(axis=(0, 2, 4), dtype=np.float32)
        hu = np.nan_to_num(hu, nan=-1024.0, posinf=3071.0, neginf=-1024.0)
        sz, sy, sx = (s * step for s, step in zip(volume.spacing_mm, steps, strict=True))
        oz, oy, ox = (
            o + 0.5 * (step - 1) * s for o, step, s in zip(volume.grid.origin_mm, steps, volume.spacing_mm, strict=True)
        )
        body = np.stack([body_of_slice(plane) for plane in hu])
        return Thumb(hu, body, Grid((d, h, w), (sz, sy, sx), (oz, oy, ox)))

    def image(self) -> sitk.Image:
        """The clipped image as ITK sees it, in LPS mm."""
        return self._itk(np.clip(self.hu, *CLIP_HU))

    def mask_image(self) -> sitk.Image:
        """The body, a little wider so that the skin counts."""
        wide = ndimage.binary_dilation(self.body, np.ones((1, 3, 3), bool), iterations=2)
        return self._itk(wide.astype(np.uint8))

    def _itk(self, data: NDArray[np.float32] | NDArray[np.uint8]) -> sitk.Image:
        image = sitk.GetImageFromArray(data)
        image.SetSpacing([float(s) for s in self.grid.spacing_mm[::-1]])
        image.SetOrigin([float(o) for o in self.grid.origin_mm[::-1]])
        return image

    def at_mm(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N, 3) LPS mm (x, y, z) of (N, 3) voxel indices (z, y, x)."""
        return (index * np.array(self.grid.spacing_mm) + np.array(self.grid.origin_mm))[:, ::-1]

    def sample(self, data: NDArray[np.float32], points_mm: NDArray[np.float64], outside: float) -> NDArray[np.float32]:
        """`data` of this grid at (N, 3) LPS mm (x, y, z), linear; `outside` beyond the grid."""
        index = (points_mm[:, ::-1] - self.grid.origin_mm) / self.grid.spacing_mm
        return np.asarray(ndimage.map_coordinates(data, index.T, order=1, cval=outside), np.float32)

    def body_centre_mm(self) -> NDArray[np.float64]:
        """(x, y, z) centre of the body, in LPS mm."""
        return np.asarray((self.grid.affine_mm @ np.append(np.argwhere(self.body).mean(axis=0), 1.0))[:3])
