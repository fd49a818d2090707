"""The sliding window against answers worked out without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inference_cases import LABELS, WINDOW_HU, everywhere, make_scan, place_dependent, pointwise, run, settings_for
from scipy import ndimage

from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.imaging.body import MARGIN_MM
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.inference.emit import half_pixel, two_best
from napari_multiphase.inference.engine import Networks, predict
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.slab import RollingSlab
from napari_multiphase.inference.tiles import SHELL_MM, body_tiles, gaussian_weight
from napari_multiphase.study import PhasePrediction
from napari_multiphase.volume import Grid

GRID = Grid((40, 56, 60), (4.0, 4.0, 4.0))


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def untiled(scan: Scan) -> np.ndarray:
    """Probabilities of `pointwise` over the whole scan at once, (K, D, H, W)."""
    x = torch.from_numpy(normalise(scan.images_hu[0], WINDOW_HU))[None, None]
    return softmax(pointwise(x)[0].numpy().astype(np.float64))


def full_accumulation(network, scan: Scan, tile: tuple[int, int, int], overlap: float) -> np.ndarray:
    """Mean probabilities by the textbook: sums over the whole volume, every tile."""
    sums, weights = np.zeros((len(LABELS), *scan.network_grid.shape)), np.zeros(scan.network_grid.shape)
    weight = gaussian_weight(tile).astype(np.float64)
    for z0, places in body_tiles(scan.network_grid, everywhere(scan.network_grid), tile, overlap).rows:
        for y0, x0 in places:
            part = tuple(slice(a, a + t) for a, t in zip((z0, y0, x0), tile, strict=True))
            x = torch.from_numpy(normalise(scan.images_hu[0][part], WINDOW_HU))[None, None]
            sums[(slice(None), *part)] += softmax(network(x)[0].numpy().astype(np.float64)) * weight
            weights[part] += weight
    return sums / weights


def agrees(prediction: PhasePrediction, p: np.ndarray, where: np.ndarray) -> None:
    """The stored two best classes are those of probabilities p (K, D, H, W), but for ties within float32."""
    order = np.sort(p, axis=0)
    clear = where & (order[-1] - order[-2] > 1e-4)
    assert clear.sum() > 0.98 * where.sum()
    np.testing.assert_array_equal(prediction.labels[clear], np.asarray(LABELS)[p.argmax(0)][clear])
    best = prediction.two_best
    for stored, exact in ((best.p_first, order[-1]), (best.p_second, order[-2])):
        assert np.abs(stored[where] / 255 - exact[where]).max() < 0.5 / 255 + 1e-4
    expected = encode_confidence(order[-1] / order[-2]).astype(int)
    assert np.abs(prediction.confidence.astype(int) - expected)[where].max() <= 1
    clear_second = clear & (order[-2] - order[-3] > 1e-4)
    second = np.asarray(LABELS)[np.argsort(p, axis=0)[-2]]
    np.testing.assert_array_equal(best.second[clear_second], second[clear_second])


@pytest.mark.parametrize("tile", [(40, 56, 60), (16, 24, 24), (13, 17, 19)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_pointwise_network_is_the_same_tiled_or_not(tile: tuple[int, int, int], overlap: float) -> None:
    scan = make_scan(GRID)
    agrees(run(pointwise, scan, settings_for(tile, overlap)), untiled(scan), scan.body.on(GRID))


@pytest.mark.parametrize("overlap", [0.25, 0.6])
def test_rolling_slab_is_the_full_accumulation_without_seams(overlap: float) -> None:
    scan, tile = make_scan(GRID), (16, 24, 24)
    p = full_accumulation(place_dependent, scan, tile, overlap)
    agrees(run(place_dependent, scan, settings_for(tile, overlap)), p, scan.body.on(GRID))


def test_leaving_out_tiles_changes_nothing_but_in_the_shell_of_the_body() -> None:
    grid = Grid((24, 96, 100), (4.0, 4.0, 4.0))
    scan, full = make_scan(grid), make_scan(grid, body=everywhere(grid))
    counts = {}
    settings = settings_for((16, 16, 16))
    part = run(place_dependent, scan, settings, on_tiles=lambda done, of: counts.update(part=of))
    whole = run(place_dependent, full, settings, on_tiles=lambda done, of: counts.update(whole=of))
    assert counts["part"] < 0.9 * counts["whole"]
    inside = scan.body.on(grid)
    depth_mm = ndimage.distance_transform_edt(np.pad(inside, ((9, 9), (0, 0), (0, 0)), "edge"), sampling=4.0)[9:-9]
    deep = depth_mm > SHELL_MM + MARGIN_MM
    assert deep.sum() > 0.3 * inside.sum()
    for name in ("first", "second", "p_first", "p_second"):
        mine, other = getattr(part.two_best, name), getattr(whole.two_best, name)
        np.testing.assert_array_equal(mine[deep], other[deep])
    assert (part.labels[inside] == whole.labels[inside]).mean() > 0.95
    assert (part.labels[~inside] == 0).all()
    assert (part.confidence[~inside] == 255).all()
    assert (part.two_best.p_first[~inside] == 255).all()


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_batches_and_files_change_nothing(batch: int, tmp_path: Path) -> None:
    scan = make_scan(GRID)
    one = run(place_dependent, scan, settings_for((16, 24, 24)))
    many = run(place_dependent, scan, settings_for((16, 24, 24), batch=batch), scratch=tmp_path)
    assert isinstance(many.labels, np.memmap)
    np.testing.assert_array_equal(one.labels, many.labels)
    for name in ("p_first", "p_second"):
        difference = getattr(one.two_best, name).astype(int) - getattr(many.two_best, name)
        assert np.abs(difference).max() <= 1


def test_finer_scans_get_smooth_borders_interpolated_from_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((31, 112, 118), (2.5, 1.6, 1.7))
    scan = make_scan(grid, spacing_mm=(4.0, 4.0, 4.0))
    assert scan.network_grid.shape == (19, 45, 50)
    p = untiled(scan)
    axes = [half_pixel(n, m) for n, m in zip(grid.shape, scan.network_grid.shape, strict=True)]
    for axis, (lower, share) in enumerate(axes):
        upper = np.minimum(lower + 1, p.shape[axis + 1] - 1)
        share = share.reshape([-1 if a == axis + 1 else 1 for a in range(4)])
        p = (1 - share) * np.take(p, lower, axis + 1) + share * np.take(p, upper, axis + 1)
    inside = scan.body.on(grid)
    whole = run(pointwise, scan, settings_for((16, 24, 24)))
    agrees(whole, p, inside)
    monkeypatch.setattr("napari_multiphase.inference.emit.CHUNK_FLOATS", 1)
    sliced = run(pointwise, scan, settings_for((16, 24, 24)))
    np.testing.assert_array_equal(whole.labels, sliced.labels)
    np.testing.assert_array_equal(whole.confidence, sliced.confidence)


def test_coarser_scans_are_read_off_at_their_own_voxels() -> None:
    grid = Grid((9, 30, 32), (9.0, 6.0, 6.0))
    scan = make_scan(grid, spacing_mm=(4.0, 4.0, 4.0))
    result = run(pointwise, scan, settings_for((16, 24, 24)))
    assert result.labels.shape == grid.shape
    inside = scan.body.on(grid)
    assert len(np.unique(result.labels[inside])) > 1


def test_a_constant_network_says_the_same_everywhere() -> None:
    scan = make_scan(GRID)
    logits = torch.tensor([0.0, np.log(3), np.log(4), 0.0]).view(1, -1, 1, 1, 1)
    result = run(lambda x: logits.expand(len(x), -1, *x.shape[2:]), scan, settings_for((16, 24, 24)))
    inside = scan.body.on(GRID)
    assert (result.labels[inside] == 2).all()
    assert (result.two_best.second[inside] == 1).all()
    assert (result.two_best.p_first[inside] == round(255 * 4 / 9)).all()
    assert (result.confidence[inside] == encode_confidence(np.array([4 / 3]))[0]).all()


@pytest.mark.parametrize("shape", [(1, 20, 20), (5, 7, 9), (33, 12, 40), (1, 1, 1)])
def test_scans_smaller_than_a_tile(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, (4.0, 4.0, 4.0))
    scan = make_scan(grid, body=everywhere(grid))
    agrees(run(pointwise, scan, settings_for((32, 32, 32), divisor=16)), untiled(scan), np.ones(shape, bool))


def test_cancel_between_tiles_leaves_nothing(tmp_path: Path) -> None:
    cancel, seen = Cancel(), []

    def stop_at_three(done: int, of: int) -> None:
        seen.append(done)
        if done == 3:
            cancel.set()

    with pytest.raises(Cancelled):
        run(
            pointwise,
            make_scan(GRID),
            settings_for((16, 24, 24)),
            scratch=tmp_path,
            cancel=cancel,
            on_tiles=stop_at_three,
        )
    assert seen == [1, 2, 3]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")]
)
def test_out_of_memory_steps_down_and_says_so(error: Exception, tmp_path: Path) -> None:
    def greedy(x: torch.Tensor) -> torch.Tensor:
        if x.numel() > 16 * 16 * 32:
            raise error
        return place_dependent(x)

    scan, events = make_scan(GRID), list[Event]()
    told = settings_for((16, 32, 32), batch=4)
    prediction, settings = predict(
        Networks((greedy,)),
        scan,
        told,
        on_event=events.append,
        on_tiles=lambda d, o: None,
        cancel=Cancel(),
        scratch=tmp_path,
    )
    assert (settings.batch, settings.tile) == (1, (16, 16, 32))
    assert [e.kind for e in events] == ["warning"] * len(events)
    assert "memory ran out" in events[0].message
    expected = run(place_dependent, scan, settings)
    np.testing.assert_array_equal(prediction.labels, expected.labels)
    assert len(list(tmp_path.iterdir())) == 5


def test_when_nothing_helps_memory_error_is_raised_and_other_errors_are_not_hidden() -> None:
    def full(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory")

    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("sizes do not match")

    scan = make_scan(GRID)
    with pytest.raises(MemoryError, match="even tiles of"):
        run(full, scan, settings_for((32, 32, 32), batch=2))
    with pytest.raises(RuntimeError, match="sizes"):
        run(broken, scan, settings_for((32, 32, 32)))


def test_a_network_that_gives_no_numbers_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a number"):
        run(lambda x: pointwise(x) * np.nan, make_scan(GRID), settings_for((16, 24, 24)), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_slab_memory_does_not_grow_with_the_scan() -> None:
    sizes = []
    for depth in (40, 4000):
        grid = Grid((depth, 56, 60), (4.0, 4.0, 4.0))
        slab = RollingSlab(24, body_tiles(grid, everywhere(grid), (16, 24, 24), 0.25), torch.device("cpu"))
        sizes.append(slab._sums.numel())
    assert sizes == [24 * 16 * 56 * 60] * 2


def test_two_best_is_sorting() -> None:
    p = torch.rand(9, 5, 6, generator=torch.Generator().manual_seed(0))
    first, second, high, low = two_best(p)
    values, order = p.sort(0, descending=True)
    assert torch.equal(first.long(), order[0])
    assert torch.equal(second.long(), order[1])
    torch.testing.assert_close(high, values[0], rtol=4e-6, atol=0)
    torch.testing.assert_close(low, values[1], rtol=4e-6, atol=0)


def test_two_best_ties_go_to_the_lower_channel() -> None:
    first, second, high, low = two_best(torch.full((4, 1), 0.25))
    assert (first.item(), second.item(), high.item(), low.item()) == (0, 1, 0.25, 0.25)
    certain = two_best(torch.tensor([0.0, 1.0, 0.0])[:, None])
    assert [v.item() for v in certain] == [1, 0, 1.0, 0.0]


def test_half_precision_stays_within_its_stated_tolerance(small_model) -> None:
    from dataclasses import replace

    from napari_multiphase.methods import method
    from napari_multiphase.volume import Phase

    segmentor = method("pcn").load(small_model, torch.device("cpu"))
    scan, full = make_scan(GRID), settings_for((16, 32, 32), divisor=2)

    def network(x: torch.Tensor) -> torch.Tensor:
        return segmentor.logits(Phase.ARTERIAL, x)

    exact, rough = (run(network, scan, replace(full, precision=p)) for p in (torch.float32, torch.bfloat16))
    inside = scan.body.on(GRID)
    difference = np.abs(exact.two_best.p_first.astype(int) - rough.two_best.p_first)[inside]
    same = (exact.labels == rough.labels)[inside].mean()
    print(f"bfloat16: probability off by at most {difference.max() / 255:.3f}, {same:.2%} of labels equal")
    assert difference.max() / 255 < 0.03
    assert same > 0.97


def test_same_labels_as_monai() -> None:
    """The peer, given the same network, tile, overlap and weights, says the same."""
    inferers = pytest.importorskip("monai.inferers", reason="waits for MONAI (the bench extra) to compare with")
    scan, tile = make_scan(GRID), (16, 24, 24)
    x = torch.from_numpy(normalise(scan.images_hu[0], WINDOW_HU))[None, None]
    theirs = inferers.sliding_window_inference(
        x, tile, 1, lambda t: torch.softmax(place_dependent(t), 1), overlap=0.25, mode="gaussian", sigma_scale=0.125
    )
    agrees(run(place_dependent, scan, settings_for(tile)), theirs[0].numpy(), scan.body.on(GRID))
