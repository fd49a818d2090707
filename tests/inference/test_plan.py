"""The plan: chosen before the run, in words, and true to what the run then takes."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest
import torch

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import UserError
from napari_multiphase.inference import device as device_room
from napari_multiphase.inference import plan as plan_room
from napari_multiphase.inference.plan import make_plan
from napari_multiphase.inference.room import SHARE_OF_FREE
from napari_multiphase.inference.segment import segment
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase


def test_plan_counts_the_tiles_that_the_run_reports(small_model: Model, pair: Study) -> None:
    plan = make_plan(small_model, pair, SegmentOptions(device="cpu"))
    assert plan.device == "cpu"
    assert plan.tile_vox == (16, 32, 32)
    assert set(plan.phases) == {Phase.ARTERIAL, Phase.VENOUS}
    events = []
    segment(pair, small_model, SegmentOptions(device="cpu"), on_event=events.append)
    for phase, planned in plan.phases.items():
        said = [e.message for e in events if e.message.startswith(f"{phase}, tile")]
        assert said[-1] == f"{phase}, tile {planned.tiles} of {planned.tiles}"
        assert planned.tiles <= planned.possible_tiles
    assert plan.tiles == sum(p.tiles for p in plan.phases.values())


def test_plan_is_json_and_says_itself_in_words(small_model: Model, pair: Study) -> None:
    plan = make_plan(small_model, pair, SegmentOptions(device="cpu"))
    assert json.loads(json.dumps(plan.to_dict()))["tile_vox"] == [16, 32, 32]
    assert plan.sentences[0].startswith("Runs on processor")
    assert "GB of memory" in plan.sentences[2]
    assert plan.seconds > 0
    assert plan.vram_mb == 0


def test_user_overrides_are_taken_and_rounded_to_what_the_network_needs(small_model: Model, pair: Study) -> None:
    options = SegmentOptions(device="cpu", tile_vox=(17, 21, 19), overlap=0.5, batch=3)
    plan = make_plan(small_model, pair, options)
    assert (plan.tile_vox, plan.overlap, plan.batch) == ((16, 20, 18), 0.5, 3)


def test_a_tile_is_never_larger_than_the_scans(small_model: Model, pair: Study) -> None:
    plan = make_plan(small_model, pair, SegmentOptions(device="cpu", tile_vox=(256, 256, 256)))
    assert plan.tile_vox == (20, 48, 52)
    assert plan.tiles == 2


def test_a_run_teaches_the_next_plan(small_model: Model, pair: Study) -> None:
    device, precision = torch.device("cpu"), device_room.choose_precision(torch.device("cpu"))
    device_room.remember_speed(device, precision, small_model.card.name, 1e3)
    slow = make_plan(small_model, pair, SegmentOptions(device="cpu")).seconds
    device_room.remember_speed(device, precision, small_model.card.name, 1e6)
    assert make_plan(small_model, pair, SegmentOptions(device="cpu")).seconds < slow / 10
    segment(pair, small_model, SegmentOptions(device="cpu"))
    assert device_room.speed_vox_s(device, precision, small_model.card.name, 1.0) != 1e6


def test_short_memory_steps_down_in_the_plan_and_refuses_in_words(
    small_model: Model, pair: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SegmentOptions(device="cpu", batch=8, tile_vox=(20, 48, 52))
    monkeypatch.setattr(psutil, "Process", _Process)
    wanted_mb = make_plan(small_model, pair, options).ram_mb
    monkeypatch.setattr(plan_room, "free_ram_mb", lambda: (wanted_mb - 10) / SHARE_OF_FREE)
    plan = make_plan(small_model, pair, options)
    assert plan.batch < 8
    assert plan.ram_mb <= wanted_mb - 9
    assert any("memory is short, so the run uses tiles of" in s for s in plan.sentences)
    monkeypatch.setattr(plan_room, "free_ram_mb", lambda: 100.0)
    with pytest.raises(UserError, match=r"needs about \d+ MB of memory and 100 MB are free"):
        make_plan(small_model, pair, options)


class _Process:
    rss = 0

    def memory_info(self) -> _Process:
        return self


def test_devices_that_are_not_there_are_refused(small_model: Model, pair: Study) -> None:
    for name in ("cuda", "mps"):
        if name == "cuda" and torch.cuda.is_available():
            continue
        if name == "mps" and torch.backends.mps.is_available():
            continue
        with pytest.raises(UserError, match=f"no {name} device"):
            make_plan(small_model, pair, SegmentOptions(device=name))


def test_a_model_of_the_other_phase_is_refused(small_model: Model, pair: Study) -> None:
    venous_only = Model(small_model.folder, small_model.card.model_copy(update={"phases": (Phase.VENOUS,)}))
    alone = Study("alone", {Phase.ARTERIAL: pair.volumes[Phase.ARTERIAL]})
    with pytest.raises(UserError, match="segments venous scans, the study holds arterial"):
        make_plan(venous_only, alone, SegmentOptions(device="cpu"))
    plan = make_plan(venous_only, pair, SegmentOptions(device="cpu"))
    assert set(plan.phases) == {Phase.VENOUS}
    assert any("does not segment the arterial scan" in s for s in plan.sentences)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("x"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_out_of_memory_is_recognised(error: Exception) -> None:
    assert device_room.is_out_of_memory(error)
    assert not device_room.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not device_room.is_out_of_memory(ValueError("out of memory"))


_MEASURE = """
import sys, json, numpy as np, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from inference_cases import trunk_hu
from napari_multiphase.config import PcnConfig, SegmentOptions
from napari_multiphase.inference.plan import make_plan
from napari_multiphase.inference.room import SHARE_OF_FREE
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import write_model
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.methods.pcn import PcnSegmentors
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume
from pathlib import Path
card = dict(name="measured", method="pcn", config={}, labels=[0, *STRUCTURES], phases=["arterial", "venous"],
    window_hu=[-200, 600], spacing_mm=[3, 2, 2], tile_vox=[64, 96, 96], overlap=0.25, summary="x", training_data="x",
    phantoms_only=True, licence="x")
nets = PcnSegmentors(PcnConfig(), 24)
model = write_model(Path(sys.argv[2]) / "m", card, {k: v.numpy() for k, v in nets.state_dict().items()})
grid = Grid((64, 150, 150), (3.0, 2.0, 2.0))
study = Study("s", {Phase.VENOUS: Volume.from_array(trunk_hu(grid), grid.spacing_mm)})
options = SegmentOptions(device="cpu")
plan = make_plan(model, study, options)
report = segment(study, model, options).report
print(json.dumps([plan.ram_mb, report["peak_memory_mb"]]))
"""


def test_planned_memory_is_near_what_is_measured(tmp_path, request: pytest.FixtureRequest) -> None:
    """In a process of its own, with the network of the bundled size: within a factor of 1.5 either way."""
    here = str(request.path.parent)
    done = subprocess.run([sys.executable, "-c", _MEASURE, here, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    planned_mb, peak_mb = json.loads(done.stdout.splitlines()[-1])
    print(f"planned {planned_mb:.0f} MB, measured {peak_mb:.0f} MB")
    assert peak_mb / 1.5 < planned_mb < 1.5 * peak_mb
