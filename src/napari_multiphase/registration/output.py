"""What a registration is judged and kept by: labels of both scans before and after, and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.imaging.resample import resample
from napari_multiphase.io.atomic import write_whole
from napari_multiphase.io.images import write_on_source
from napari_multiphase.io.transforms import write_transform
from napari_multiphase.metrics import evaluate
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase, Volume


def compare_labels(transform: PhaseTransform, arterial: Volume, venous: Volume) -> list[dict[str, Any]]:
    """How structures of two label maps meet before and after, on the venous grid; a row each, JSON types.

    `arterial` and `venous` hold label ids (D, H, W). A row has "name", "id", "dice_before", "dice_after" and the mean
    distance of the surfaces "surface_mm_before", "surface_mm_after"; "before" is as
    the scanner placed both. Structures that only one map holds are left out: nothing can be compared.
    """
    rows: dict[int, dict[str, Any]] = {}
    for when, through in (("before", np.eye(4)), ("after", transform.into(Phase.ARTERIAL))):
        carried = resample(arterial.data, arterial.grid, venous.grid, 0, through)
        for score in evaluate(venous.with_data(carried), venous):
            row = rows.setdefault(score.label, {"id": score.label, "name": score.name})
            row[f"dice_{when}"], row[f"surface_mm_{when}"] = round(score.dsc, 4), round(score.assd_mm, 3)
            row["in_both"] = row.get("in_both", False) or bool(score.prediction_ml and score.reference_ml)
    return [{k: v for k, v in row.items() if k != "in_both"} for row in rows.values() if row["in_both"]]


def save_registration(study: Study, transform: PhaseTransform, out: Path, fixed: Phase = Phase.VENOUS) -> list[Path]:
    """Write both transforms, ``registration.json`` and the other scan as seen on the grid of the one that stays.

    The image is named ``arterial_on_venous.nii.gz`` (or the reverse) and lies on exactly the source grid of `fixed`.
    All files or none; other files in `out` stay.

    Raises
    ------
    UserError : `out` cannot be written.
    """
    moving, still = study.volumes[fixed.other], study.volumes[fixed]
    seen = resample(moving.data, moving.grid, still.grid, 1, transform.into(fixed.other))
    image = f"{fixed.other}_on_{fixed}.nii.gz"

    def write(part: Path) -> list[str]:
        files = write_transform(part, replace(transform, quality={**transform.quality, "fixed": str(fixed)}))
        words = f"{fixed.other} scan on the {fixed} grid ({transform.method})"
        write_on_source(part / image, seen, still, kind="image", description=words)
        return [*(file.name for file in files), image]

    return write_whole(Path(out), write)
