"""What a partly corrected label map teaches: labels where they can be trusted, 254 or 255 where they cannot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.components import bounding_box
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.labels import IGNORE, UNKNOWN

Unreviewed = Literal["sure", "unknown", "ignore"]
"""What voxels that nobody looked at teach: the prediction where it is sure; that none of the complete structures is
there, more is not known (254, PaNN makes its own labels); nothing (255)."""
SURE_RATIO = 9.0
"""A prediction is sure where its best class is so many times as probable as the next."""
MISTAKE_REACH_MM = 10.0
"""How far around a mistake that somebody put right the same prediction is doubted."""


def near_mistakes(
    labels: NDArray[np.uint8],
    reviewed: NDArray[np.bool_],
    predicted: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    reach_mm: float = MISTAKE_REACH_MM,
) -> NDArray[np.bool_]:
    """Voxels within a box of `reach_mm` to each side of a corrected one, predicted to be what that one was not.

    A person corrects a part of a mistake; a model that was wrong there is wrong beside it, often without a doubt.

    Parameters
    ----------
    labels : (D, H, W), corrected so far.
    reviewed : (D, H, W), where somebody looked.
    predicted : (D, H, W), what the correcting started from.
    spacing_mm : (z, y, x).
    """
    from scipy import ndimage  # not before it is needed: the window starts without it

    wrong = reviewed & (labels != predicted)
    near = np.zeros(wrong.shape, bool)
    reach = [int(reach_mm / spacing) for spacing in spacing_mm]
    for label in np.unique(predicted[wrong]):
        mistaken = wrong & (predicted == label)
        found = bounding_box(mistaken)
        assert found is not None
        box = tuple(slice(max(0, part.start - r), part.stop + r) for part, r in zip(found, reach, strict=True))
        around = mistaken[box].view(np.uint8)
        for axis, r in enumerate(reach):
            around = ndimage.maximum_filter1d(around, 2 * r + 1, axis, mode="constant")
        near[box] |= around.view(bool) & (predicted[box] == label)
    return near & ~reviewed


def training_labels(
    labels: NDArray[np.uint8],
    reviewed: NDArray[np.bool_],
    complete: Collection[int],
    confidence: NDArray[np.uint8] | None,
    unreviewed: Unreviewed = "sure",
    *,
    left_out: Collection[int] = (),
    doubted: NDArray[np.bool_] | None = None,
    whole: bool = False,
) -> NDArray[np.uint8]:
    """The map to learn from, (D, H, W) uint8: ids of the label table, 254 unknown, 255 ignored.

    What a person reviewed counts as it is, and so does every voxel of a structure that is complete. Elsewhere
    `unreviewed` decides.

    Parameters
    ----------
    labels : (D, H, W), corrected so far.
    reviewed : (D, H, W), voxels that a person changed or marked as looked at.
    complete : ids of the structures that are drawn everywhere in this scan.
    confidence : (D, H, W), encoded as in a prediction's file, of what the correcting started from; None where there is
        none: nothing is sure then.
    left_out : ids of structures that are not annotated: what the labels say of them counts nowhere but where reviewed.
    doubted : (D, H, W), where the prediction teaches nothing however sure it was (`near_mistakes`).
    whole : every structure is complete, so every voxel counts, the background too.

    Raises
    ------
    UserError : shapes that differ, or an `unreviewed` that there is not.
    """
    if unreviewed not in get_args(Unreviewed):
        raise UserError(f"unreviewed is '{unreviewed}': choose one of {', '.join(get_args(Unreviewed))}")
    others = [array for array in (reviewed, confidence, doubted) if array is not None]
    if any(array.shape != labels.shape for array in others):
        raise UserError(f"what was reviewed or its confidence is not of the labels' shape {labels.shape}: predict anew")
    if whole:
        return labels.copy()
    known = reviewed | np.isin(labels, list(complete))
    if unreviewed == "sure" and confidence is not None:
        sure = confidence >= encode_confidence(np.array([SURE_RATIO]))
        if doubted is not None:
            sure &= ~doubted
        known |= sure & ~np.isin(labels, list(left_out))
    return np.where(known, labels, np.uint8(UNKNOWN if unreviewed == "unknown" else IGNORE))
