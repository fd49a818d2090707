"""How good a result is: of a segmentation overlap, surface distances, a row per structure; of an image its error."""

from napari_multiphase.metrics.image import Closeness, Comparing, closeness, s_score, structure_hu
from napari_multiphase.metrics.overlap import Overlap, dice_global, dice_per_case
from napari_multiphase.metrics.report import StructureScore, evaluate, mean_dice, summarise
from napari_multiphase.metrics.surface import SurfaceDistances, surface, surface_distances

__all__ = [
    "Closeness",
    "Comparing",
    "Overlap",
    "StructureScore",
    "SurfaceDistances",
    "closeness",
    "dice_global",
    "dice_per_case",
    "evaluate",
    "mean_dice",
    "s_score",
    "structure_hu",
    "summarise",
    "surface",
    "surface_distances",
]
