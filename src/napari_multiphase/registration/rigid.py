"""Rigid registration of the arterial scan to the venous one, robust to contrast.

Mattes mutual information inside the body, on images clipped to [-200, 300] HU: bone, soft tissue, fat and air decide,
while vessels that are 500 HU in one phase only weigh no more than bone. Deterministic: every voxel of the coarse grid
is used, or a seeded choice of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io.transforms import matrix_of
from napari_multiphase.registration.quality import Figures, compare, measure, unlike
from napari_multiphase.registration.thumb import Thumb
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Volume

GRID_MM = 3.0
SHRINKS = (3, 2, 1)
SMOOTHING_MM = (4.0, 2.0, 0.0)
ITERATIONS = 60
BINS = 32
SAMPLES = 150_000
"""Voxels per level that the metric looks at."""
SEED = 20
MOST_BONE_LOSS_MM = 4.0
"""Bones may fit this much worse: when breathing moved the organs against the spine, the organs are what is fused."""
NEAR_MM = 5.0
STARTS_Z_MM = (0.0, -12.0, 12.0, -24.0, 24.0, -40.0, 40.0)
"""Shifts along the body that are tried before the search starts: breathing and a table moved between the scans."""


@dataclass
class _Progress:
    """Turns the optimiser's iterations into events and stops it when asked to."""

    method: sitk.ImageRegistrationMethod
    on_event: OnEvent
    cancel: Cancel | None
    level: int = -1

    def attach(self) -> None:
        self.method.AddCommand(sitk.sitkMultiResolutionIterationEvent, self._next_level)
        self.method.AddCommand(sitk.sitkIterationEvent, self._step)

    def _next_level(self) -> None:
        self.level += 1

    def _step(self) -> None:
        if self.cancel is not None and self.cancel.requested:
            self.method.StopRegistration()
            return
        iteration = self.method.GetOptimizerIteration()
        if iteration % 5 == 0:
            share = (max(self.level, 0) + min(1.0, iteration / ITERATIONS)) / len(SHRINKS)
            message = f"registering, level {max(self.level, 0) + 1} of {len(SHRINKS)}"
            self.on_event(Event("progress", message, 0.1 + 0.8 * share))


def register_rigid(
    venous: Volume, arterial: Volume, *, on_event: OnEvent = ignore, cancel: Cancel | None = None
) -> PhaseTransform:
    """The rigid map from venous to arterial points (LPS mm) that aligns two CT volumes in HU.

    `quality` of the result holds, before and after: mutual information ("mi_*"), correlation ("ncc_*"), mean distance
    of the venous bone surface to the arterial one ("bone_mm_*"), Dice of the bodies where both scans reach
    ("body_dice_*"); and "translation_mm" (of the venous grid's centre), "rotation_deg", and "sentence". Where the
    search made things worse the method is "identity" and the sentence says so.

    Raises
    ------
    UserError : one of the scans shows no body, or they do not overlap.
    Cancelled : `cancel` was set.
    """
    on_event(Event("progress", "registering, preparing", 0.0))
    fixed, moving = Thumb.of(venous, GRID_MM), Thumb.of(arterial, GRID_MM)
    for thumb, volume in ((fixed, venous), (moving, arterial)):
        if np.count_nonzero(thumb.body) < 500:
            raise UserError(f"{volume.source.path} cannot be registered: no body is seen in it")
    method = _method(fixed)
    start = _start(method, fixed, moving)
    _Progress(method, on_event, cancel).attach()
    if cancel is not None:
        cancel.check()
    matrix = _search(method, start, fixed, moving)
    if cancel is not None:
        cancel.check()
    on_event(Event("progress", "registering, measuring the fit", 0.92))
    result = _judge(matrix, fixed, moving)
    on_event(Event("progress", "registered", 1.0))
    return result


def _method(fixed: Thumb) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(fixed.mask_image())
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricSamplingStrategy(method.REGULAR)
    sizes = [fixed.hu.size / shrink**3 for shrink in SHRINKS]
    method.SetMetricSamplingPercentagePerLevel([min(1.0, SAMPLES / size) for size in sizes], SEED)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.01, numberOfIterations=ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(SHRINKS))
    method.SetSmoothingSigmasPerLevel(list(SMOOTHING_MM))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _start(method: sitk.ImageRegistrationMethod, fixed: Thumb, moving: Thumb) -> sitk.Euler3DTransform:
    """The best of a few shifts along the body, each with and without bringing the bodies' centres together."""
    small_fixed, small_moving = (sitk.Shrink(t.image(), [2, 2, 1]) for t in (fixed, moving))
    side = moving.body_centre_mm() - fixed.body_centre_mm()
    best, best_value = _euler(fixed, np.zeros(3)), math.inf
    shifts = [np.zeros(3)]
    if np.hypot(side[0], side[1]) > NEAR_MM:
        shifts.append(np.array([side[0], side[1], 0.0]))
    for shift in shifts:
        for dz in STARTS_Z_MM:
            candidate = _euler(fixed, shift + np.array([0.0, 0.0, dz]))
            method.SetInitialTransform(candidate, inPlace=False)
            try:
                value = method.MetricEvaluate(small_fixed, small_moving)
            except RuntimeError:  # too few voxels of both scans meet there
                continue
            if value < best_value - (0.0 if dz == 0 else 0.01):
                best, best_value = candidate, value
    if math.isinf(best_value):
        raise UserError("the two scans cannot be registered: no part of the body is in both")
    return best


def _euler(fixed: Thumb, shift_mm: NDArray[np.float64]) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter([float(c) for c in fixed.body_centre_mm()])
    transform.SetTranslation([float(s) for s in shift_mm])
    return transform


def _search(
    method: sitk.ImageRegistrationMethod, start: sitk.Euler3DTransform, fixed: Thumb, moving: Thumb
) -> NDArray[np.float64]:
    """4 x 4 of the optimum; the start itself where the optimiser lost all overlap."""
    method.SetInitialTransform(sitk.Euler3DTransform(start), inPlace=True)
    try:
        found = method.Execute(fixed.image(), moving.image())
    except RuntimeError:
        found = start
    return matrix_of(found)


def _judge(matrix: NDArray[np.float64], fixed: Thumb, moving: Thumb) -> PhaseTransform:
    """The transform with its figures, or the identity where it is no better."""
    before, after = measure(np.eye(4), fixed, moving), measure(matrix, fixed, moving)
    worse = after.mi <= before.mi or after.ncc < before.ncc - 0.01 or after.bone_mm > before.bone_mm + MOST_BONE_LOSS_MM
    kept = np.eye(4) if worse else matrix
    centre = np.append(fixed.body_centre_mm(), 1.0)
    shift_mm = float(np.linalg.norm((kept @ centre - centre)[:3]))
    turn_deg = math.degrees(math.acos(max(-1.0, min(1.0, (np.trace(kept[:3, :3]) - 1) / 2))))
    quality: dict[str, Any] = compare(before, after) | {
        "translation_mm": round(shift_mm, 2),
        "rotation_deg": round(turn_deg, 2),
    }
    quality |= unlike(before if worse else after)
    quality["sentence"] = _sentence(before, after, shift_mm, turn_deg, worse)
    return PhaseTransform(kept, "identity" if worse else "rigid", quality)


def _sentence(before: Figures, after: Figures, shift_mm: float, turn_deg: float, worse: bool) -> str:
    if worse:
        return (
            "Rigid only, and nothing fitted better than the scanner's own positions, which are kept "
            f"(bone surfaces {before.bone_mm:.1f} mm apart)."
        )
    found = (
        f"Rigid only: moved {shift_mm:.1f} mm, turned {turn_deg:.1f} degrees; correlation {before.ncc:.3f} before, "
        f"{after.ncc:.3f} after; bone surfaces {before.bone_mm:.1f} mm apart before, {after.bone_mm:.1f} mm after."
    )
    if after.bone_mm > before.bone_mm + 0.5:
        return f"{found} It follows the soft organs, which breathing moved against the bones."
    return f"{found} What breathing moved otherwise is not aligned."
