"""How good a segmentation is: overlap, surface distances, and a row per structure."""

from napari_multiphase.metrics.overlap import Overlap, dice_global, dice_per_case
from napari_multiphase.metrics.report import StructureScore, evaluate, mean_dice, summarise
from napari_multiphase.metrics.surface import SurfaceDistances, surface, surface_distances

__all__ = [
    "Overlap",
    "StructureScore",
    "SurfaceDistances",
    "dice_global",
    "dice_per_case",
    "evaluate",
    "mean_dice",
    "summarise",
    "surface",
    "surface_distances",
]
