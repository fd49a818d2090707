"""Rigid first, then every organ its own way, with figures before and after; imports torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import RegisterOptions
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.registration.quality import Figures, compare, measure, unlike
from napari_multiphase.registration.rigid import GRID_MM, register_rigid
from napari_multiphase.registration.thumb import Thumb
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Phase, Volume

RIGID_SHARE = 0.15
"""Of the time that both together take."""
MOST_MI_LOSS = 0.005
"""Nats of mutual information that a deformation may cost against the rigid start before it is left out."""


def register(
    venous: Volume,
    arterial: Volume,
    options: RegisterOptions | None = None,
    *,
    organs: NDArray[np.integer[Any]] | None = None,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> PhaseTransform:
    """The map between the phases that aligns two CT volumes in HU, and its inverse.

    `organs` : labels (D, H, W) on the grid of the scan that stays, whose surfaces "demons" does not smooth across.

    `quality` of the result holds `register_rigid`'s figures, "mi", "ncc", "bone_mm" and "body_dice" before and after;
    a "warning" where both scans are hardly one patient's;
    with a dense map also those of the rigid start ("mi_rigid", ...) and `register_deformable`'s. Where deforming did
    not help, or folds, the rigid map comes back and the sentence says so.

    Raises
    ------
    UserError : one of the scans shows no body, they do not overlap, or there is no such device.
    Cancelled : `cancel` was set.
    """
    options = options or RegisterOptions()
    if options.fixed is Phase.ARTERIAL:
        found = _swapped(_register(arterial, venous, options, organs, on_event, cancel))
    else:
        found = _register(venous, arterial, options, organs, on_event, cancel)
    if "warning" in found.quality:
        on_event(Event("warning", found.quality["warning"]))
    return found


def _register(
    fixed: Volume,
    moving: Volume,
    options: RegisterOptions,
    organs: NDArray[np.integer[Any]] | None,
    on_event: OnEvent,
    cancel: Cancel | None,
) -> PhaseTransform:
    """`register` of any two scans: `to_arterial` is the map into the moving one."""
    if options.method == "rigid":
        return register_rigid(fixed, moving, on_event=on_event, cancel=cancel)
    from napari_multiphase.registration.deformable import register_deformable

    rigid = register_rigid(fixed, moving, on_event=_share(on_event, 0.0, RIGID_SHARE), cancel=cancel)
    dense = register_deformable(
        fixed,
        moving,
        rigid.venous_to_arterial_mm,
        method=options.method,
        organs=organs,
        device=options.device,
        on_event=_share(on_event, RIGID_SHARE, 0.97),
        cancel=cancel,
    )
    result = _judged(rigid, dense, fixed, moving) if dense.dense else _kept_rigid(rigid, dense.quality["sentence"])
    on_event(Event("progress", "registered", 1.0))
    return result


def _judged(rigid: PhaseTransform, dense: PhaseTransform, fixed: Volume, moving: Volume) -> PhaseTransform:
    """The dense map with all figures, or the rigid one where it fits less well or folds."""
    thumbs = Thumb.of(fixed, GRID_MM), Thumb.of(moving, GRID_MM)
    maps = (np.eye(4), rigid.into(Phase.ARTERIAL), dense.into(Phase.ARTERIAL))
    before, start, after = (measure(through, *thumbs) for through in maps)
    if dense.quality["folded_share"] > 0:
        return _kept_rigid(rigid, f"Deforming folded {dense.quality['folded_share']:.2%} of the body and was left out.")
    if after.mi < start.mi - MOST_MI_LOSS:
        return _kept_rigid(rigid, "Deforming made the scans less alike and was left out.")
    quality = {**rigid.quality, **dense.quality, **compare(before, after)}
    quality |= {f"{name}_rigid": rigid.quality[f"{name}_after"] for name in ("mi", "ncc", "bone_mm", "body_dice")}
    quality.pop("warning", None)  # the rigid start's, which breathing may have caused
    quality |= unlike(start, after) | {"sentence": _sentence(quality, start, after)}
    return replace(dense, quality=quality)


def _kept_rigid(rigid: PhaseTransform, why: str) -> PhaseTransform:
    return replace(rigid, quality={**rigid.quality, "sentence": f"{rigid.quality['sentence']} {why}"})


def _sentence(quality: dict[str, Any], start: Figures, after: Figures) -> str:
    return (
        f"Moved {quality['translation_mm']:.1f} mm as a whole, then each place by {quality['moved_mean_mm']:.1f} mm on "
        f"average ({quality['moved_max_mm']:.0f} at most). Correlation {quality['ncc_before']:.3f} before, "
        f"{start.ncc:.3f} rigid, {after.ncc:.3f} now; bone surfaces {quality['bone_mm_before']:.1f}, "
        f"{start.bone_mm:.1f}, {after.bone_mm:.1f} mm apart. Nothing folds (smallest Jacobian "
        f"{quality['jacobian_min']:.2f}); there and back misses by {quality['inverse_mean_mm']:.2f} mm."
    )


def _swapped(found: PhaseTransform) -> PhaseTransform:
    """What was found from the arterial scan to the venous one, by its usual names."""
    matrix = np.asarray(np.linalg.inv(found.venous_to_arterial_mm), float)
    return PhaseTransform(matrix, found.method, found.quality, found.to_venous, found.to_arterial)


def _share(on_event: OnEvent, low: float, high: float) -> OnEvent:
    """Events of a part of the work that lies between two shares of it; its last word is not the last one."""

    def tell(event: Event) -> None:
        if event.fraction == 1.0:
            return
        done = None if event.fraction is None else low + (high - low) * event.fraction
        on_event(replace(event, fraction=done))

    return tell
