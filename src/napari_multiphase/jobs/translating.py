"""Jobs around a synthetic image: a slice at once, figures against the real scan, the S-score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import SegmentOptions, TranslateOptions
from napari_multiphase.jobs.server import Context
from napari_multiphase.model import Model
from napari_multiphase.study import Study, Translation
from napari_multiphase.volume import Phase

Labels = Mapping[Phase, Path | NDArray[np.uint8]]
"""Label maps by the phase of the scan they lie on: arrays, or files."""


def preview_translation(
    context: Context, study: Study, to: Phase, model: Model, slice: int, options: TranslateOptions | None = None
) -> dict[str, Any]:
    """Slice `slice` of the source as it would be translated, beside the real one; see `inference.preview`."""
    from napari_multiphase.inference.preview import preview_slice

    return preview_slice(study, Phase(to), model, slice, options, context.cancel)


def compare_translation(
    context: Context, study: Study, translation: Translation, labels: Labels | None = None
) -> tuple[dict[str, Any], NDArray[np.int16]]:
    """Figures against the real scan, and the difference; see `inference.comparison`."""
    from napari_multiphase.inference.comparison import compare_translation as run

    maps = {Phase(phase): _map(study, Phase(phase), given) for phase, given in (labels or {}).items()}
    return run(
        study, translation, maps, on_event=context.on_event, cancel=context.cancel, scratch=context.scratch
    )  # fmt: skip


def judge_translation(
    context: Context,
    study: Study,
    translation: Translation,
    labels: Path | NDArray[np.uint8],
    judge: Model | None = None,
    options: SegmentOptions | None = None,
) -> dict[str, Any]:
    """The S-score by `judge`, the default model without, against labels of the scan that was translated."""
    from napari_multiphase.inference.comparison import judge_translation as run
    from napari_multiphase.io.models import find_model

    known = _map(study, translation.source, labels)
    return run(
        study, translation, judge or find_model(), known, options, on_event=context.on_event, cancel=context.cancel
    )  # fmt: skip


def _map(study: Study, phase: Phase, labels: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(labels, Path):
        from napari_multiphase.inference.comparison import labels_for

        return labels_for(study, phase, labels)
    return labels


TRANSLATION_TASKS: Mapping[str, Callable[..., Any]] = {
    "preview_translation": preview_translation,
    "compare_translation": compare_translation,
    "judge_translation": judge_translation,
}
