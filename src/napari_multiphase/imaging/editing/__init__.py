"""Tools that change one structure of a label map: pure functions on uint8 arrays (D, H, W), spacing in mm.

Each works in the box it needs and returns (box, new values of that box), or None where nothing changes, so that
undoing is small. The structure being edited takes background, and voxels of another structure only where `over` names
that one. Voxels that it gives up become background.
"""

from napari_multiphase.imaging.editing.between import fill_between, slices_of
from napari_multiphase.imaging.editing.brush import brush
from napari_multiphase.imaging.editing.growing import grow_from, learn_range
from napari_multiphase.imaging.editing.parts import keep_largest, remove_small
from napari_multiphase.imaging.editing.region import Box, Change, box_around
from napari_multiphase.imaging.editing.shape import grow, smooth
from napari_multiphase.imaging.editing.take import take

__all__ = [
    "Box",
    "Change",
    "box_around",
    "brush",
    "fill_between",
    "grow",
    "grow_from",
    "keep_largest",
    "learn_range",
    "remove_small",
    "slices_of",
    "smooth",
    "take",
]
