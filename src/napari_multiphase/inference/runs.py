"""One run of a method: the region first where it works in one, then its networks, in rounds where it refines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.inference.engine import Networks, Settings, predict
from napari_multiphase.inference.region import REGION, find_region
from napari_multiphase.inference.rounds import refine
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.sizes import in_sizes
from napari_multiphase.methods.base import CoarseToFineSegmentor, RegionSegmentor, Segmentor
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Phase

PassTiles = Callable[[str, int, int], None]
"""Called after each batch with (pass: the scan's name, "region", "coarse" or "round 1", tiles done, tiles to do)."""


def run_method(
    segmentor: Segmentor,
    phase: Phase,
    scan: Scan,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_tiles: PassTiles,
    cancel: Cancel,
    scratch: Path | None,
) -> tuple[PhasePrediction, Settings]:
    """What `segmentor` says about `scan`, on ``scan.grid``, and the settings that worked; raises as `predict`."""
    traits = segmentor.traits
    if traits.region:
        tell = partial(on_tiles, REGION)
        finder = cast(RegionSegmentor, segmentor)
        mask, settings = find_region(finder, scan, settings, on_event=on_event, on_tiles=tell, cancel=cancel)
        scan = scan.within(mask)
        if not mask.any():
            text = f"the region that this model works in was not found in the {phase} scan: the result is empty"
            on_event(Event("warning", text))
    if traits.rounds is not None:
        finer = cast(CoarseToFineSegmentor, segmentor)
        return refine(
            finer, phase, scan, settings, on_event=on_event, on_tiles=on_tiles, cancel=cancel, scratch=scratch
        )
    members = tuple(
        in_sizes(partial(segmentor.logits, phase, member=member), settings.further_sizes, settings.divisor)
        for member in range(traits.members)
    )
    networks, tell = Networks(members, segmentor.combine), partial(on_tiles, scan.name)
    return predict(networks, scan, settings, on_event=on_event, on_tiles=tell, cancel=cancel, scratch=scratch)
