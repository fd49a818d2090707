"""Every trait a method may have, tiled by the engine, against the whole scan run at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_cases import WINDOW_HU, trunk_hu
from scipy import ndimage
from toys import CLASSES, ToySegmentor, toy

from napari_multiphase.imaging.body import find_body
from napari_multiphase.imaging.windows import mean_and_std, normalise
from napari_multiphase.inference.arrays import predict_arrays
from napari_multiphase.inference.engine import Settings
from napari_multiphase.inference.plan import choose_settings
from napari_multiphase.volume import Grid, Phase

GRID = Grid((21, 56, 60), (4.0, 4.0, 4.0))
CPU = torch.device("cpu")


def scans() -> dict[Phase, np.ndarray]:
    return {phase: trunk_hu(GRID, seed) for seed, phase in enumerate(Phase)}


def run(segmentor: ToySegmentor, tile=(16, 24, 24), **changes) -> dict[Phase, np.ndarray]:
    inputs = changes.pop("inputs", None) or scans()
    stats = {phase: mean_and_std(hu, WINDOW_HU) for phase, hu in inputs.items()}
    return predict_arrays(segmentor, inputs, GRID.spacing_mm, WINDOW_HU, tile, 0.25, CPU, torch.float32, stats)


def whole(segmentor: ToySegmentor, inputs: dict[Phase, np.ndarray], phase: Phase, region=None) -> np.ndarray:
    """Probabilities (K, D, H, W) without tiles, worked out from the trait's definition."""
    traits = segmentor.traits
    channels = []
    for one in tuple(Phase) if traits.reads == "pair" else (phase,):
        x = normalise(inputs[one], WINDOW_HU).astype(np.float64)
        channels.append((x - x.mean()) / x.std() if traits.standardise else x)
    if region is not None:
        channels.append(region.astype(np.float64))
    x = np.pad(np.stack(channels), [(0, 0), (traits.context_vox,) * 2, (0, 0), (0, 0)], "edge")
    x = torch.from_numpy(x).float()[None]
    means = [torch.softmax(segmentor.logits(phase, x, m)[0].double(), 0) for m in range(traits.members)]
    return segmentor.combine(means).numpy()


def agree(labels: np.ndarray, p: np.ndarray, where: np.ndarray) -> None:
    order = np.sort(p, axis=0)
    clear = where & (order[-1] - order[-2] > 1e-4)
    assert clear.sum() > 0.98 * where.sum()
    assert len(np.unique(labels[clear])) > 1
    np.testing.assert_array_equal(labels[clear], p.argmax(0)[clear])


KINDS = {
    "each": {},
    "pair": {"reads": "pair"},
    "context": {"context_vox": 1},
    "context, slices apart": {"context_vox": 1, "divisor": (1, 4, 4), "reads": "pair"},
    "members": {"members": 2},
    "standardise": {"standardise": True, "reads": "pair"},
    "all but region": {"reads": "pair", "context_vox": 1, "members": 2, "standardise": True, "divisor": (2, 4, 8)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_tiled_is_untiled(kind: str) -> None:
    segmentor, inputs = toy(**KINDS[kind]), scans()
    results = run(segmentor)
    assert set(results) == ({Phase.VENOUS} if segmentor.traits.reads == "pair" else set(Phase))
    for phase, labels in results.items():
        assert (labels.dtype, labels.shape) == (np.uint8, GRID.shape)
        inside = find_body(inputs[phase], GRID).on(GRID)
        agree(labels, whole(toy(**KINDS[kind]), inputs, phase), inside)
        assert (labels[~inside] == 0).all()


def region_of(hu: np.ndarray) -> np.ndarray:
    """The toy's region, by SciPy: above the window's middle, largest part, cavities filled."""
    inside = find_body(hu, GRID).on(GRID)
    parts, count = ndimage.label((normalise(hu, WINDOW_HU) > 0) & inside)
    sizes = ndimage.sum_labels(np.ones(hu.shape), parts, range(1, count + 1))
    return ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))


@pytest.mark.parametrize("kind", [{"reads": "pair"}, {"reads": "pair", "context_vox": 1, "divisor": (1, 4, 4)}])
def test_region_is_found_first_and_is_the_last_channel(kind: dict) -> None:
    inputs = scans()
    inputs[Phase.VENOUS][8:12, 24:28, 20:24] = 500  # one clear region with a cavity, beside small ones
    inputs[Phase.VENOUS][6:14, 20:32, 16:28] = 550
    inputs[Phase.VENOUS][9:11, 25:27, 21:23] = -100
    segmentor = toy(region=True, **kind)
    region = region_of(inputs[Phase.VENOUS])
    assert region[9:11, 25:27, 21:23].all()
    labels = run(segmentor, tile=(8, 16, 16), inputs=inputs)[Phase.VENOUS]
    agree(labels, whole(toy(region=True, **kind), inputs, Phase.VENOUS, region), region)
    assert (labels[~region] == 0).all()
    assert all(shape[1] == 3 for shape in segmentor.seen)
    everywhere = toy(**kind)
    run(everywhere, tile=(8, 16, 16), inputs=inputs)
    assert len(segmentor.seen) < len(everywhere.seen) or segmentor.traits.divisor[0] == 1


def test_an_empty_region_gives_an_empty_result() -> None:
    inputs = {phase: np.minimum(hu, 100) for phase, hu in scans().items()}
    segmentor = toy(region=True, reads="pair")
    labels = run(segmentor, inputs=inputs)[Phase.VENOUS]
    assert not labels.any()
    assert len(segmentor.seen) == 1  # that which asks for the number of classes


def test_context_repeats_the_outermost_slices() -> None:
    segmentor = toy(context_vox=1)
    run(segmentor, tile=(16, 56, 60))
    assert {shape[2:] for shape in segmentor.seen} == {(6, 4, 4), (18, 56, 60)}


def test_slices_that_do_not_see_each_other_are_run_whole_a_few_at_a_time() -> None:
    segmentor = toy(divisor=(1, 16, 16))
    run(segmentor, inputs={Phase.VENOUS: scans()[Phase.VENOUS]})
    assert [shape[2:] for shape in segmentor.seen[1:]] == [(8, 64, 64)] * 3


def test_stepping_down_halves_slices_first_where_they_are_apart() -> None:
    settings = choose_settings(
        toy(divisor=(1, 16, 16)).traits, CPU, torch.float32, None, (1, 64, 64), (40, 96, 80), 0.25, 2
    )
    assert (settings.tile, settings.flat) == ((8, 96, 80), True)
    steps = []
    while settings is not None:
        steps.append((settings.batch, *settings.tile))
        settings = settings.smaller()
    assert steps == [
        (2, 8, 96, 80),
        (1, 8, 96, 80),
        (1, 4, 96, 80),
        (1, 2, 96, 80),
        (1, 1, 96, 80),
        (1, 1, 48, 80),
        (1, 1, 48, 32),
    ]  # fmt: skip


def test_stepping_down_keeps_to_the_divisor_of_each_axis() -> None:
    settings: Settings | None = Settings(CPU, torch.float32, (32, 48, 96), 0.25, 1, (4, 16, 32))
    tiles = []
    while settings is not None:
        tiles.append(settings.tile)
        settings = settings.smaller()
    assert tiles == [(32, 48, 96)]  # 96 halves to 32, which is less than twice its divisor
    settings = Settings(CPU, torch.float32, (64, 64, 128), 0.25, 1, (4, 16, 32)).smaller()
    assert settings is not None
    assert settings.tile == (64, 64, 64)


def test_standardising_a_constant_scan_is_finite() -> None:
    segmentor = toy(standardise=True)
    labels = run(segmentor, inputs={Phase.VENOUS: np.full(GRID.shape, 40, np.int16)})[Phase.VENOUS]
    assert len(np.unique(labels)) == 1


def test_mean_and_std_are_numpys() -> None:
    hu = scans()[Phase.VENOUS]
    x = normalise(hu, WINDOW_HU).astype(np.float64)
    assert mean_and_std(hu, WINDOW_HU) == pytest.approx((x.mean(), x.std()), abs=1e-9)


def test_classes_are_the_networks() -> None:
    assert max(labels.max() for labels in run(toy()).values()) < CLASSES
