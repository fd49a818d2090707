"""Models that read both phases at once: one result on the venous grid, carried to the arterial one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toys
from inference_cases import CARD, LABELS, WINDOW_HU, trunk_hu

from napari_multiphase.config import METHOD_CONFIGS, SegmentOptions
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.imaging.fusion import carry_maps
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.inference.plan import make_plan
from napari_multiphase.inference.save import save_prediction
from napari_multiphase.inference.segment import fuse_phases, segment
from napari_multiphase.io.models import write_model
from napari_multiphase.jobs import tasks
from napari_multiphase.methods import METHODS
from napari_multiphase.model import Model
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Grid, Phase, Volume

CPU = SegmentOptions(device="cpu")


@pytest.fixture
def make_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """A model of the toy method with the traits asked for, at 4 mm."""
    monkeypatch.setitem(METHODS, "toy", toys.METHOD)
    monkeypatch.setitem(METHOD_CONFIGS, "toy", toys.ToyConfig)

    def make(**traits) -> Model:
        config = toys.ToyConfig(**traits)
        toy = {"name": "toy", "method": "toy", "config": config.model_dump(mode="json"), "phantoms_only": False}
        tensors = {name: p.numpy() for name, p in toys.ToyNets(config).state_dict().items()}
        return write_model(tmp_path / "model", {**CARD, **toy}, tensors)

    return make


@pytest.fixture
def moved(pair: Study) -> Study:
    """The pair, its arterial scan seen 8 mm further down and 4 mm further back."""
    matrix = np.eye(4)
    matrix[2, 3], matrix[1, 3] = 8.0, -4.0
    return pair.with_transform(PhaseTransform(matrix, "rigid"))


def test_the_network_sees_both_phases_on_the_venous_grid(make_model, moved: Study) -> None:
    prediction = segment(moved, make_model(reads="pair"), CPU)
    venous, arterial = (moved.volumes[p].data for p in (Phase.VENOUS, Phase.ARTERIAL))
    # Venous (z, y, x) lies at arterial (z + 2 - 1, y - 1, x): the arterial grid starts one slice above the venous one.
    seen = np.full(venous.shape, -1024, np.int16)
    seen[:18, 1:] = arterial[1:19, :-1]
    mixed = 0.7 * normalise(seen, WINDOW_HU) - 0.4 * normalise(venous, WINDOW_HU)
    logits = mixed * np.array(toys.SLOPE)[:, None, None, None] + np.array(toys.OFFSET)[:, None, None, None]
    order = np.sort(logits, axis=0)
    result = prediction.phases[Phase.VENOUS]
    clear = (order[-1] - order[-2] > 0.2) & (result.two_best.p_first < 255)
    assert clear.sum() > 5000
    np.testing.assert_array_equal(result.labels[clear], np.array(LABELS)[logits.argmax(0)][clear])


def test_one_result_is_the_fused_one_and_is_carried_to_the_arterial_grid(make_model, moved: Study) -> None:
    prediction = segment(moved, make_model(reads="pair"), CPU)
    assert list(prediction.phases) == [Phase.ARTERIAL, Phase.VENOUS]
    assert prediction.one_map
    venous, arterial = prediction.phases[Phase.VENOUS], prediction.phases[Phase.ARTERIAL]
    np.testing.assert_array_equal(prediction.fused_labels, venous.labels)
    np.testing.assert_array_equal(prediction.fused_confidence, venous.confidence)
    assert arterial.two_best is None
    assert arterial.labels.shape == moved.volumes[Phase.ARTERIAL].shape
    # Arterial (z, y, x) lies at venous (z - 1, y + 1, x).
    np.testing.assert_array_equal(arterial.labels[1:, :-1], venous.labels[:18, 1:])
    np.testing.assert_array_equal(arterial.confidence[1:, :-1], venous.confidence[:18, 1:])
    assert not arterial.labels[0].any()
    assert not arterial.confidence[0].any()
    _, labels, confidence = fuse_phases(moved, prediction.phases, 1.0)
    np.testing.assert_array_equal(labels, venous.labels)
    np.testing.assert_array_equal(confidence, venous.confidence)


def test_carrying_is_nearest_neighbour_between_unlike_grids() -> None:
    rng = np.random.default_rng(0)
    source, target = Grid((6, 7, 8), (3.0, 2.0, 2.5)), Grid((9, 5, 6), (2.0, 3.0, 2.9), (1.0, 2.0, -3.0))
    values = rng.integers(0, 20, source.shape).astype(np.uint8)
    (carried,) = carry_maps((values,), source, target, np.eye(4))
    for index in np.ndindex(target.shape):
        at = [
            (o + i * s) / n
            for o, i, s, n in zip(target.origin_mm, index, target.spacing_mm, source.spacing_mm, strict=True)
        ]
        near = [int(np.floor(a + 0.5)) for a in at]
        inside = all(0 <= n < count for n, count in zip(near, source.shape, strict=True))
        assert carried[index] == (values[tuple(near)] if inside else 0)


def test_notes_and_report_say_how_it_was_made(make_model, moved: Study, pair: Study) -> None:
    prediction = segment(moved, make_model(reads="pair"), CPU)
    assert any("reads both phases at once; aligned by a rigid transform" in note for note in prediction.notes)
    report = json.loads(json.dumps(dict(prediction.report)))
    assert report["network_inputs"]["reads"] == "pair"
    assert report["network_inputs"]["aligned_by"] == "rigid"
    assert report["plan"]["reads"] == "pair"
    assert list(report["plan"]["phases"]) == ["venous"]
    assert {"segment venous", "carry"} <= set(report["seconds"])
    row = next(entry for entry in report["structures"] if "venous" in entry["ml"])
    assert set(row["ml"]) >= {"venous", "fused"}
    assert row["ml"]["venous"] == row["ml"]["fused"]
    unregistered = segment(pair, make_model(reads="pair"), CPU)
    assert any("not registered" in note for note in unregistered.notes)


@pytest.mark.parametrize("phase", list(Phase))
def test_one_phase_is_refused_with_what_to_do(make_model, pair: Study, phase: Phase) -> None:
    alone = Study("alone", {phase: pair.volumes[phase]})
    with pytest.raises(UserError, match=f"only the {phase} scan; open the {phase.other} scan as well"):
        segment(alone, make_model(reads="pair"), CPU)


def test_fusing_again_is_refused_in_words(make_model, pair: Study) -> None:
    prediction = segment(pair, make_model(reads="pair"), CPU)
    with pytest.raises(UserError, match="reads both phases at once and gives one result"):
        tasks.fuse(None, prediction, pair, 0.3)  # type: ignore[arg-type]


def test_files_are_those_of_any_model(make_model, moved: Study, tmp_path: Path) -> None:
    prediction = segment(moved, make_model(reads="pair"), CPU, scratch=tmp_path / "scratch")
    assert isinstance(prediction.phases[Phase.ARTERIAL].labels, np.memmap)
    names = {p.name for p in save_prediction(prediction, moved, tmp_path / "out")}
    kinds = ("labels", "confidence")
    assert names == {f"{n}_{k}.nii.gz" for n in (*Phase, "fused") for k in kinds} | {"report.json"}


@pytest.mark.parametrize("stop_at", ["region, tile 2", "venous, tile 1", "carrying", "fusing"])
def test_cancel_leaves_nothing(make_model, moved: Study, tmp_path: Path, stop_at: str) -> None:
    cancel = Cancel()

    def listen(event: Event) -> None:
        if event.message.startswith(stop_at):
            cancel.set()

    with pytest.raises(Cancelled):
        segment(
            moved, make_model(reads="pair", region=True), CPU, on_event=listen, cancel=cancel, scratch=tmp_path / "s"
        )
    assert not (tmp_path / "s").exists() or list((tmp_path / "s").iterdir()) == []


def test_all_traits_at_once_from_end_to_end(make_model, moved: Study) -> None:
    model = make_model(reads="pair", region=True, members=2, context_vox=1, standardise=True, divisor=(1, 8, 8))
    plan, events = make_plan(model, moved, CPU), list[Event]()
    prediction = segment(moved, model, CPU, on_event=events.append)
    assert plan.tile_vox == (8, 48, 56)
    assert plan.phases[Phase.VENOUS].region_tiles == 3
    assert any("First finds the region" in s for s in plan.sentences)
    assert any("Reads both phases at once" in s for s in plan.sentences)
    fractions = [e.fraction for e in events if e.fraction is not None]
    assert fractions == sorted(fractions)
    said = " ".join(e.message for e in events)
    assert "region, tile 3 of 3" in said
    assert "venous, tile" in said
    assert 0 < np.count_nonzero(prediction.fused_labels) < 0.5 * prediction.fused_labels.size


def test_an_empty_region_is_said(make_model, moved: Study) -> None:
    dark = {p: v.with_data(np.minimum(v.data, 60)) for p, v in moved.volumes.items()}
    prediction = segment(replace(moved, volumes=dark), make_model(reads="pair", region=True), CPU)
    assert not prediction.fused_labels.any()
    assert not prediction.phases[Phase.ARTERIAL].labels.any()
    assert any("region that this model works in was not found" in note for note in prediction.notes)


def test_a_finer_scan_than_the_network(make_model) -> None:
    """Network at 4 mm, scans at 2: the pair is resampled once, the result comes back on the scans' own grids."""
    grid = Grid((20, 64, 60), (2.0, 2.0, 2.0))
    volumes = {p: Volume.from_array(trunk_hu(grid, i), grid.spacing_mm) for i, p in enumerate(Phase)}
    study = Study("fine", volumes, transform=PhaseTransform.identity())
    prediction = segment(study, make_model(reads="pair", region=True), CPU)
    assert prediction.fused_labels.shape == grid.shape
    np.testing.assert_array_equal(prediction.phases[Phase.ARTERIAL].labels, prediction.fused_labels)


def test_the_plan_counts_members_and_channels(make_model, pair: Study) -> None:
    one = make_plan(make_model(reads="pair"), pair, CPU).ram_mb
    many = make_plan(make_model(reads="pair", members=40), pair, CPU).ram_mb
    slab_mb = 16 * 40 * 48 * (len(LABELS) + 1) * 4 / 2**20
    assert many - one > 39 * slab_mb * 0.8


def test_live_numbers_and_operations_are_counted() -> None:
    import torch
    from torch import nn

    from napari_multiphase.inference.cost import _Counter

    net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv3d(8, 2, 1, bias=False))
    x = torch.zeros(1, 1, 4, 5, 6)
    with torch.no_grad(), _Counter() as counter:
        net(x)
    assert counter.flop == 2 * 120 * (27 * 8 + 8 * 2)
    assert counter.peak == 120 * 16
