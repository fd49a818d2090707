"""Translate: in one piece and in tiles the same image, on the scan's grid, in HU, cancelled cleanly, planned truly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import translators
from inference_cases import trunk_hu
from translators import ToyTranslatorConfig, write_toy

from napari_multiphase.config import METHOD_CONFIGS, TranslateOptions, method_config
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.imaging.body import find_body
from napari_multiphase.imaging.resample import resample
from napari_multiphase.imaging.windows import translated_hu
from napari_multiphase.inference import translation_plan as plan_room
from napari_multiphase.inference.cost import measured_translation
from napari_multiphase.inference.room import SHARE_OF_FREE
from napari_multiphase.inference.translate import translate
from napari_multiphase.inference.translation_plan import make_translation_plan
from napari_multiphase.io.models import write_model
from napari_multiphase.methods import METHODS
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume

CPU = TranslateOptions(device="cpu")
UNET = {"kind": "unet"}
PASSES = 8
"""Its instance normalisations."""


def tiled(d: int, h: int, w: int) -> TranslateOptions:
    """Tiles that own so many voxels."""
    return TranslateOptions(device="cpu", tile_vox=(d, h, w))


@pytest.fixture
def make_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """A toy model that translates; `card` changes its card, `gain` its last layers."""
    monkeypatch.setitem(METHODS, "toy-translator", translators.METHOD)
    monkeypatch.setitem(METHOD_CONFIGS, "toy-translator", ToyTranslatorConfig)

    def make(card=None, gain=1.0, **config) -> Model:
        return write_toy(tmp_path / "model", ToyTranslatorConfig(**config), card, gain)

    return make


def worst(a: np.ndarray, b: np.ndarray) -> int:
    """Largest difference in HU."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# --- seams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("tile", [(4, 48, 52), (8, 16, 24)])
def test_tiled_and_untiled_agree_within_1_hu(make_model, pair: Study, norm: str, tile) -> None:
    model = make_model(**UNET, norm=norm, gain=60.0)
    whole, parts = translate(pair, model, Phase.VENOUS, CPU), translate(pair, model, Phase.VENOUS, tiled(*tile))
    assert whole.report["plan"]["tiles"] == 1
    assert parts.report["plan"]["tiles"] > 1
    assert (whole.report["statistics_passes"], parts.report["statistics_passes"]) == (
        0,
        PASSES if norm == "instance" else 0,
    )
    body = find_body(pair.volumes[Phase.ARTERIAL].data, pair.volumes[Phase.ARTERIAL].grid)
    inside = whole.image[body.on(pair.volumes[Phase.ARTERIAL].grid)]
    assert inside.std() > 30  # an image, not a grey box
    assert worst(whole.image, parts.image) <= 1


def test_csgan_s_generators_agree_in_tiles_and_in_one_piece(pair: Study, tmp_path: Path) -> None:
    settings = {"segmentor": {"widths": [2, 3]}, "generator": {"widths": [4, 6]}}
    torch.manual_seed(5)
    nets = METHODS["csgan"].nets(method_config("csgan", settings), 2)
    nets["to_arterial"].last.weight.data *= 60
    tensors = {name: value.numpy() for name, value in nets.state_dict().items()}
    model = write_model(tmp_path / "csgan", {**translators.TOY_CARD, "method": "csgan", "config": settings}, tensors)
    whole, parts = (translate(pair, model, Phase.ARTERIAL, options) for options in (CPU, tiled(4, 24, 52)))
    assert (whole.report["plan"]["tiles"], parts.report["plan"]["tiles"]) == (1, 10)
    assert parts.report["statistics_passes"] == PASSES
    assert whole.image.std() > 30
    assert worst(whole.image, parts.image) <= 1


def test_statistics_of_tiles_instead_would_leave_seams(make_model, pair: Study, monkeypatch) -> None:
    model = make_model(**UNET, gain=60.0)
    whole = translate(pair, model, Phase.VENOUS, CPU)
    monkeypatch.setattr(translators.ToyTranslator, "norms", lambda self, to: [])
    monkeypatch.setattr("napari_multiphase.inference.translation_plan.translation_cost", _nothing)
    assert worst(whole.image, translate(pair, model, Phase.VENOUS, tiled(8, 48, 52)).image) > 20


def test_whole_slices_are_the_same_whatever_the_tile(make_model, pair: Study) -> None:
    model = make_model(kind="slices", gain=20.0)
    images = [translate(pair, model, Phase.VENOUS, o).image for o in (tiled(19, 48, 52), tiled(1, 48, 52), CPU)]
    assert make_translation_plan(model, pair, Phase.VENOUS, CPU).tile_vox == (8, 48, 52)
    assert images[0].std() > 30
    assert worst(images[0], images[1]) <= 1
    assert worst(images[0], images[2]) <= 1


# --- HU and grid ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(-1024.0, 976.0), (-100.0, 240.0)])
def test_an_identity_generator_returns_the_scan(make_model, pair: Study, window) -> None:
    for to in Phase:
        result = translate(pair, make_model({"window_hu": window}), to, tiled(6, 20, 20))
        source = pair.volumes[to.other]
        assert (result.source, result.to, result.image.dtype) == (to.other, to, np.int16)
        assert worst(result.image, source.data) == 0


def test_what_the_window_cut_off_comes_back_at_its_ends_alone() -> None:
    source = np.array([-1000, -1000, -100, 50, 700, 700, 700, 700], np.int16)
    x = np.array([-1.0, 0.0, -1.0, 0.5, 1.0, 0.9, 0.75, 0.0], np.float32)
    expected = [-1000, 50, -100, 125, 700, 685, 537.5 - 275 + 200, 50]
    expected[6] = 0.75 * 150 + 50 + 0.5 * 500
    np.testing.assert_allclose(translated_hu(x, source, (-100.0, 200.0)), expected, atol=1e-3)


def test_outside_the_body_the_scan_stays(make_model, pair: Study) -> None:
    source = pair.volumes[Phase.VENOUS]
    result = translate(pair, make_model(kind="constant"), Phase.ARTERIAL, tiled(8, 16, 16)).image
    inside = find_body(source.data, source.grid).on(source.grid)
    np.testing.assert_array_equal(result[~inside], source.data[~inside])
    assert 0.2 < inside.mean() < 0.9


def test_a_finer_scan_is_resampled_and_back(make_model, pair: Study) -> None:
    """Network at 4 mm, scan at 1.5 x 2 x 2 mm: as resampling there and back in one go, in tiles and in one piece."""
    grid = Grid((30, 60, 64), (1.5, 2.0, 2.0), (5.0, -3.0, 2.0))
    volume = Volume.from_array(trunk_hu(grid), grid.spacing_mm, grid.origin_mm)
    study, model = Study("fine", {Phase.ARTERIAL: volume}), make_model()
    seen = make_translation_plan(model, study, Phase.VENOUS, CPU)
    assert seen.resampled
    assert seen.grid.shape == (11, 30, 32)
    there = resample(volume.data, grid, seen.grid)
    back = resample(there.astype(np.float32), seen.grid, grid)
    inside = find_body(volume.data, grid).on(grid)
    for options in (CPU, tiled(4, 8, 8)):
        image = translate(study, model, Phase.VENOUS, options).image
        assert worst(image[inside], np.rint(back[inside])) <= 1
        np.testing.assert_array_equal(image[~inside], volume.data[~inside])


def test_a_coarser_scan_is_averaged_back(make_model) -> None:
    """Thick slices: the network's finer ones are averaged over a slice, not picked."""
    grid = Grid((8, 40, 40), (10.0, 4.0, 4.0))
    volume = Volume.from_array(trunk_hu(grid), grid.spacing_mm)
    study, model = Study("thick", {Phase.VENOUS: volume}), make_model()
    seen = make_translation_plan(model, study, Phase.ARTERIAL, CPU).grid
    assert seen.shape == (20, 40, 40)
    back = resample(resample(volume.data, grid, seen).astype(np.float32), seen, grid)
    inside = find_body(volume.data, grid).on(grid)
    image = translate(study, model, Phase.ARTERIAL, tiled(6, 40, 40)).image
    assert worst(image[inside], np.rint(back[inside])) <= 1


def test_tiles_without_body_are_not_run(make_model, pair: Study, monkeypatch) -> None:
    source = pair.volumes[Phase.VENOUS]
    data = source.data.copy()
    data[:, :, 26:] = -1000
    seen = []
    run = translators.ToyTranslator.translate
    monkeypatch.setattr(translators.ToyTranslator, "translate", lambda self, to, x: seen.append(1) or run(self, to, x))
    study = Study("half", {Phase.VENOUS: source.with_data(data)})
    result = translate(study, make_model(kind="constant"), Phase.ARTERIAL, tiled(20, 48, 12))
    assert result.report["plan"]["tiles"] == 5
    assert len(seen) == 3


# --- plan, progress, memory ----------------------------------------------------------------------------------------


def test_the_plan_says_what_the_run_does(make_model, pair: Study) -> None:
    model, events = make_model(**UNET), list[Event]()
    plan = make_translation_plan(model, pair, Phase.VENOUS, tiled(8, 48, 52))
    assert (plan.tiles, plan.passes, plan.tile_vox, plan.seen_vox) == (3, PASSES, (8, 48, 52), (20, 48, 52))
    assert plan.seconds > 0
    assert any(f"{PASSES} passes gather statistics of the whole scan" in s for s in plan.sentences)
    assert "Makes a synthetic venous scan from the arterial one, on its grid." in plan.sentences
    result = translate(pair, model, Phase.VENOUS, tiled(8, 48, 52), on_event=events.append)
    told = [e for e in events if e.kind == "progress"]
    fractions = [e.fraction for e in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    for number in range(1, PASSES + 1):
        assert any(e.message == f"statistics {number} of {PASSES}, tile 3 of 3" for e in told)
    assert any(e.message == "synthetic venous, tile 3 of 3" for e in told)
    report = json.loads(json.dumps(dict(result.report)))
    assert report["plan"]["tiles"] == 3
    assert report["plan"]["sentences"] == list(plan.sentences)
    assert report["synthetic"] == "venous"
    assert report["window_hu"] == [-1024, 976]
    assert list(report["inputs"]) == ["arterial"]
    assert {"plan", "load", "resample", "translate", "total"} <= set(report["seconds"])
    assert report["peak_memory_mb"] > 0


def test_statistics_follow_the_order_in_which_layers_run(monkeypatch) -> None:
    """Whatever the order in which a translator names them."""
    config = ToyTranslatorConfig(kind="unet", widths=(2, 3, 4))
    translator = translators.ToyTranslator(config, translators.nets(config))
    listed = translator.norms(Phase.VENOUS)
    monkeypatch.setattr(translators.ToyTranslator, "norms", lambda self, to: [listed[1], *listed[:1], *listed[:1:-1]])
    cost = measured_translation(translator, Phase.VENOUS)
    flops = [flop for _, flop in cost.until_norm]
    assert [index for index, _ in cost.until_norm] == [1, 0, *range(13, 1, -1)]
    assert flops == sorted(flops)
    assert 0 < flops[0] < flops[-1] <= cost.whole.flop


class _Process:
    def memory_info(self):
        return SimpleNamespace(rss=300 * 2**20)


def test_short_memory_means_tiles_and_too_little_is_refused_in_words(make_model, pair: Study, monkeypatch) -> None:
    model = make_model(**UNET)
    monkeypatch.setattr(psutil, "Process", _Process)
    one = make_translation_plan(model, pair, Phase.VENOUS, with_memory(100.0))
    assert one.tiles == 1
    few = make_translation_plan(model, pair, Phase.VENOUS, with_memory(0.004))
    assert few.tiles > 1
    monkeypatch.setattr(plan_room, "free_ram_mb", lambda: (one.ram_mb - 2) / SHARE_OF_FREE - 300)
    less = make_translation_plan(model, pair, Phase.VENOUS, with_memory(100.0))
    assert less.tiles > 1
    assert less.ram_mb < one.ram_mb
    assert any("memory is short, so the run uses" in s for s in less.sentences)
    monkeypatch.setattr(plan_room, "free_ram_mb", lambda: -250.0)
    with pytest.raises(UserError, match=r"translating needs about \d+ MB of memory and 50 MB are free; close"):
        make_translation_plan(model, pair, Phase.VENOUS, CPU)


def with_memory(gb: float) -> TranslateOptions:
    """On the processor with so much for the network."""
    return TranslateOptions(device="cpu", memory_gb=gb)


def test_what_the_network_may_take_does_not_grow_with_the_scan(make_model) -> None:
    model, options = make_model(**UNET), with_memory(0.05)
    for depth in (40, 80, 400):
        grid = Grid((depth, 48, 48), (4.0, 4.0, 4.0))
        volume = Volume.from_array(np.full(grid.shape, -1000, np.int16), grid.spacing_mm)
        plan = make_translation_plan(model, Study("long", {Phase.ARTERIAL: volume}), Phase.VENOUS, options)
        per_vox = plan_room._vox_bytes(plan_room.translation_cost(model.card, Phase.VENOUS), torch.float32)
        assert np.prod(plan.seen_vox) * per_vox <= 0.05 * 2**30
    assert plan.tiles > 1


@pytest.mark.parametrize("at_pass", [None, 3])
def test_out_of_memory_goes_on_with_smaller_tiles_and_says_so(make_model, pair: Study, monkeypatch, at_pass) -> None:
    model, events, failed = make_model(**UNET, gain=60.0), list[Event](), []
    whole = translate(pair, model, Phase.VENOUS, CPU)
    run = translators.ToyTranslator.translate

    def scarce(self, to, x):
        statistics = sum(e.message.startswith("statistics") for e in events)
        if not failed and (at_pass is None or statistics == at_pass):
            failed.append(tuple(x.shape))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, to, x)

    monkeypatch.setattr(translators.ToyTranslator, "translate", scarce)
    options = CPU if at_pass is None else tiled(12, 48, 52)
    result = translate(pair, model, Phase.VENOUS, options, on_event=events.append)
    assert len(failed) == 1
    assert any(e.kind == "warning" and "memory ran out; going on with" in e.message for e in events)
    assert any("memory ran out" in note for note in result.notes)
    assert result.report["statistics_passes"] == PASSES
    assert worst(whole.image, result.image) <= 1


def test_no_memory_at_all_is_one_sentence(make_model, pair: Study, tmp_path: Path, monkeypatch) -> None:
    def never(self, to, x):
        raise MemoryError

    monkeypatch.setattr(translators.ToyTranslator, "translate", never)
    monkeypatch.setattr("napari_multiphase.inference.translation_plan.translation_cost", _nothing)
    with pytest.raises(UserError, match="do not fit into memory; close other programs"):
        translate(pair, make_model(), Phase.VENOUS, CPU, scratch=tmp_path / "s")
    assert not (tmp_path / "s").exists() or list((tmp_path / "s").iterdir()) == []


def _nothing(card, to):
    from napari_multiphase.inference.cost import Cost, TranslationCost

    return TranslationCost(Cost(1.0, 1.0))


@pytest.mark.parametrize("stop_at", ["statistics 2 of 8, tile 1", "statistics 8 of 8, tile 3", "synthetic", "plan"])
def test_cancel_leaves_nothing_and_the_generator_as_it_was(make_model, pair: Study, tmp_path, stop_at, monkeypatch):
    cancel, made = Cancel(), []
    init = translators.ToyTranslator.__init__
    monkeypatch.setattr(translators.ToyTranslator, "__init__", lambda self, *a: made.append(self) or init(self, *a))

    def listen(event: Event) -> None:
        if event.message.startswith(stop_at):
            cancel.set()

    with pytest.raises(Cancelled):
        translate(
            pair,
            make_model(**UNET),
            Phase.VENOUS,
            tiled(8, 48, 52),
            on_event=listen,
            cancel=cancel,
            scratch=tmp_path / "s",
        )
    assert not (tmp_path / "s").exists() or list((tmp_path / "s").iterdir()) == []
    for translator in made:
        assert all(norm._given is None and norm._gather is None for norm in translator.norms(Phase.VENOUS))


def test_the_result_is_mapped_from_scratch(make_model, pair: Study, tmp_path: Path) -> None:
    result = translate(pair, make_model(), Phase.VENOUS, CPU, scratch=tmp_path / "s")
    assert isinstance(result.image, np.memmap)
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["synthetic venous_hu.npy"]


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_translate_is_refused(make_model, small_model: Model, pair: Study) -> None:
    for model in (small_model, make_model(kind="none")):
        with pytest.raises(UserError, match=f"the model '{model.card.name}' does not translate"):
            translate(pair, model, Phase.VENOUS, CPU)


def test_a_missing_source_is_refused_with_what_to_do(make_model, pair: Study) -> None:
    alone = Study("alone", {Phase.VENOUS: pair.volumes[Phase.VENOUS]})
    with pytest.raises(
        UserError, match=r"made from the arterial one.*open the arterial scan, or translate to arterial"
    ):
        translate(alone, make_model(), Phase.VENOUS, CPU)
    assert translate(alone, make_model(), Phase.ARTERIAL, CPU).source is Phase.VENOUS


def test_an_output_that_is_no_number_is_refused(make_model, pair: Study, monkeypatch) -> None:
    monkeypatch.setattr(translators.ToyTranslator, "translate", lambda self, to, x: x * torch.nan)
    with pytest.raises(UserError, match="output is not a number"):
        translate(pair, make_model(), Phase.VENOUS, CPU)


def test_notes_say_that_it_is_synthetic_and_what_the_window_is(make_model, pair: Study) -> None:
    notes = translate(pair, make_model({"window_hu": (-100, 240)}), Phase.VENOUS, CPU).notes
    assert any("the venous image is synthetic" in note for note in notes)
    assert any("-100 to 240 HU" in note for note in notes)
    assert any("phantoms only" in note for note in notes)
