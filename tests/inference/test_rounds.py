"""From coarse to fine, with toy networks whose every round can be worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from inference_cases import WINDOW_HU, everywhere
from torch import Tensor

from napari_multiphase.config import Rounds, Traits
from napari_multiphase.errors import Cancelled
from napari_multiphase.events import Cancel, Event
from napari_multiphase.imaging.components import bounding_box, large_components
from napari_multiphase.inference.plan import choose_settings
from napari_multiphase.inference.runs import run_method
from napari_multiphase.inference.scan import Scan
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Grid, Phase

GRID = Grid((20, 24, 28), (4.0, 4.0, 4.0))
HALF = slice(8, 12), slice(8, 16), slice(8, 20)
"""Where the coarse network sees the structure."""


def log_pair(p: Tensor) -> Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return torch.stack([torch.log1p(-p), p.log()], dim=1)


@dataclass
class Refiner:
    """Coarse: the image, whose HU say the probability. Fine: the last round's, moved by `shifts` in x, one a round."""

    shifts: Sequence[int] = (0,)
    members: int = 1
    rounds: Rounds = field(default_factory=Rounds)
    seen: list[tuple[int, ...]] = field(default_factory=list)
    calls: int = 0

    @property
    def traits(self) -> Traits:
        return Traits(divisor=(1, 1, 1), context_vox=2, members=self.members, rounds=self.rounds)

    def coarse_logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        assert x.shape[1] == 1
        p = (x[:, 0, 2:-2] + 1) / 2
        return log_pair(p if member == 0 else torch.full_like(p, 0.5))

    def logits(self, phase: Phase, x: Tensor, member: int = 0) -> Tensor:
        self.seen.append(tuple(x.shape))
        p, mask = (x[:, channel, 2:-2] for channel in (1, 2))
        assert torch.equal(mask, (mask > 0.5).float()) and (p[mask > 0.5] >= 0.5).all()
        return log_pair(torch.roll(p * mask, self._shift(), dims=-1))

    def _shift(self) -> int:
        return self.shifts[min(self.calls, len(self.shifts) - 1)]

    def combine(self, means: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(means)).mean(0)


def scan_of(p: np.ndarray) -> Scan:
    """HU that the coarse network reads as these probabilities (D, H, W)."""
    hu = np.round(WINDOW_HU[0] + p * (WINDOW_HU[1] - WINDOW_HU[0])).astype(np.int16)
    return Scan("venous", (hu,), GRID, GRID, everywhere(GRID), WINDOW_HU, (0, 6), context_vox=2)


def blob(p: float = 0.9) -> np.ndarray:
    out = np.full(GRID.shape, 0.1)
    out[HALF] = p
    return out


def run(
    refiner: Refiner, scan: Scan, events: list[Event] | None = None, cancel: Cancel | None = None
) -> tuple[PhasePrediction, list[str]]:
    """The result and the names of its passes."""
    passes: list[str] = []

    def tiles(name: str, done: int, of: int) -> None:
        if done == of:
            passes.append(name)
            refiner.calls += name.startswith("round")

    settings = choose_settings(
        refiner.traits, torch.device("cpu"), torch.float32, None, (8, 24, 28), GRID.shape, 0.25, 2
    )
    told = [] if events is None else events
    result, _ = run_method(
        refiner, Phase.VENOUS, scan, settings, on_event=told.append, on_tiles=tiles, cancel=cancel or Cancel(),
        scratch=None,
    )  # fmt: skip
    return result, passes


def test_a_result_that_stays_as_it_is_stops_after_one_round():
    result, passes = run(Refiner(), scan_of(blob()))
    assert passes == ["coarse", "round 1"]
    np.testing.assert_array_equal(result.labels == 6, blob() > 0.5)
    assert abs(int(result.two_best.p_first[9, 9, 9]) - 0.9 * 255) <= 1


def test_it_goes_on_until_two_masks_in_a_row_hardly_differ():
    refiner = Refiner(shifts=(4, 2, 1, 0))
    result, passes = run(refiner, scan_of(blob()))
    assert passes == ["coarse", "round 1", "round 2", "round 3", "round 4"]
    np.testing.assert_array_equal(result.labels == 6, np.roll(blob() > 0.5, 7, axis=2))
    # A shift of 1 in 12 leaves a Dice of 11/12.
    assert len(run(Refiner(shifts=(4, 2, 1, 0), rounds=Rounds(stop_dice=0.9)), scan_of(blob()))[1]) == 4


def test_it_never_takes_more_than_the_most_rounds():
    passes = run(Refiner(shifts=(3, -3, 3, -3, 3, -3), rounds=Rounds(most=4)), scan_of(blob()))[1]
    assert passes[-1] == "round 4" and len(passes) == 5


def test_nothing_found_is_an_empty_result_and_is_said():
    refiner, events = Refiner(), list[Event]()
    result, passes = run(refiner, scan_of(blob(0.4)), events)
    assert passes == ["coarse"] and not refiner.seen
    assert not result.labels.any()
    assert [e.message for e in events if e.kind == "warning"] == [
        "the structure was not found in the venous scan: the result is empty"
    ]


def test_what_a_round_loses_ends_in_an_empty_result():
    refiner = Refiner()
    refiner.logits = lambda phase, x, member=0: log_pair(torch.zeros_like(x[:, 0, 2:-2]))  # type: ignore[method-assign]
    result, passes = run(refiner, scan_of(blob()))
    assert passes == ["coarse", "round 1"] and not result.labels.any()


def test_small_parts_are_dropped_in_every_round_and_from_the_result():
    p = blob()
    p[9, 2, 2:5] = 0.8
    result, _ = run(Refiner(), scan_of(p))
    np.testing.assert_array_equal(result.labels == 6, blob() > 0.5)


def test_a_round_runs_only_where_stacks_meet_the_mask():
    refiner = Refiner()
    run(refiner, scan_of(blob()))
    depths = sorted(shape[2] for shape in refiner.seen)
    # Slices 6 to 13 are needed; tiles of 8 slices begin at 0, 8 and 12.
    assert sum(d - 4 for d in depths) < GRID.shape[0] + 8 and all(shape[3:] == (24, 28) for shape in refiner.seen)


def test_branches_are_fused_before_the_threshold():
    """0.9 and 0.5 in the coarse pass: 0.7; 0.4 more would be lost by a vote, 0.62 with 0.5 is found."""
    result, _ = run(Refiner(members=2), scan_of(blob(0.62)))
    assert (result.labels[HALF] == 6).all()
    assert abs(int(result.two_best.p_first[9, 9, 9]) - 0.56 * 255) <= 2
    result, _ = run(Refiner(members=2), scan_of(blob(0.45)))
    assert not result.labels.any()


def test_it_can_be_cancelled_between_tiles():
    cancel = Cancel()
    refiner = Refiner(shifts=(3, -3) * 5)
    original = refiner.logits

    def logits(phase, x, member=0):
        cancel.set()
        return original(phase, x, member)

    refiner.logits = logits  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        run(refiner, scan_of(blob()), cancel=cancel)
    assert len(refiner.seen) <= 2


def test_large_components_and_their_box():
    mask = np.zeros((4, 6, 9), bool)
    assert bounding_box(mask) is None and not large_components(mask, 0.5).any()
    mask[1, 1, 1:5] = mask[2, 4, 6:8] = True
    mask[0, 0, 8] = True
    assert bounding_box(mask) == (slice(0, 3), slice(0, 5), slice(1, 9))
    assert bounding_box(mask, margin=2) == tuple(
        slice(0, min(stop + 2, n)) for stop, n in zip((3, 5, 9), mask.shape, strict=True)
    )
    kept = large_components(mask, 0.5)
    assert kept.sum() == 6 and not kept[0, 0, 8]
    diagonal = np.zeros((2, 2, 2), bool)
    diagonal[0, 0, 0] = diagonal[1, 1, 1] = True
    assert large_components(diagonal, 1.0).sum() == 2  # by faces: two parts of equal size


def test_the_result_lies_on_the_scans_own_grid():
    fine = Grid((40, 48, 56), (2.0, 2.0, 2.0), (-1.0, -1.0, -1.0))
    scan = scan_of(blob())
    own = Scan("venous", scan.images_hu, GRID, fine, everywhere(GRID), WINDOW_HU, (0, 6), context_vox=2)
    result, _ = run(Refiner(), own)
    assert result.labels.shape == fine.shape
    expected = blob() > 0.5
    expected[8, 8, 8] = False  # the corner: (3/4)^3 of 0.9 and the rest of 0.1, interpolated before the threshold
    np.testing.assert_array_equal(result.labels[::2, ::2, ::2] == 6, expected)
