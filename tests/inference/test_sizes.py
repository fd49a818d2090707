"""Tiles looked at in several sizes: where things lie, what is averaged, and what a plan says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inference_cases import pointwise

from napari_multiphase.config import RunConfig, SegmentOptions, check_run
from napari_multiphase.errors import UserError
from napari_multiphase.inference import plan as plan_room
from napari_multiphase.inference.plan import make_plan, prepare
from napari_multiphase.inference.segment import segment
from napari_multiphase.inference.sizes import in_sizes
from napari_multiphase.inference.tiles import shapes_of
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase

SIZES = (0.85, 1.18)


def test_a_tile_in_other_sizes_is_the_nearest_that_the_network_takes() -> None:
    assert shapes_of((80, 96, 112), SIZES, (16, 16, 16)) == ((80, 96, 112), (64, 80, 96), (96, 112, 128))
    assert shapes_of((64, 64, 64), (0.9, 0.95), (16, 16, 16)) == ((64, 64, 64),), (
        "a size that changes nothing is no size"
    )
    assert shapes_of((32, 16, 16), (0.5,), (16, 16, 16)) == ((32, 16, 16), (32, 32, 32)), "one voxel has no variance"


@given(
    tile=st.tuples(*[st.integers(2, 12)] * 3),
    further=st.lists(st.floats(0.5, 2.0), max_size=4),
    divisor=st.sampled_from([1, 4, 16]),
)
def test_every_size_is_a_multiple_and_the_first_is_the_tile_s_own(
    tile: tuple[int, int, int], further: list[float], divisor: int
) -> None:
    own = tuple(n * divisor for n in tile)
    shapes = shapes_of(own, further, (divisor,) * 3)  # type: ignore[arg-type]
    assert shapes[0] == own and len(set(shapes)) == len(shapes) <= 1 + len(further)
    assert all(n % divisor == 0 and n > 0 for shape in shapes for n in shape)


def test_what_is_seen_in_another_size_is_put_where_it_was() -> None:
    """A slope keeps its values under linear interpolation, so that only a shift or a stretch could change them."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (16, 24, 32)), indexing="ij")
    image = (0.3 * z - 0.8 * y + 0.5 * x)[None, None]
    seen = in_sizes(pointwise, SIZES, (4, 4, 4))(image).softmax(1)
    inner = (slice(None), slice(None), *[slice(2, -2)] * 3)
    assert torch.allclose(seen[inner], pointwise(image).softmax(1)[inner], atol=1e-3)
    moved = pointwise(image.roll(1, dims=4)).softmax(1)
    assert (seen[inner] - moved[inner]).abs().max() > 1e-2, "a voxel's shift would be seen"


def test_the_mean_is_of_probabilities_and_the_tile_s_own_size_is_half_of_it() -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        logit = torch.full((1, 1, *x.shape[2:]), float(len(seen)))
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

    p = in_sizes(network, SIZES, (4, 4, 4))(torch.zeros(1, 1, 16, 24, 32)).softmax(1)[0, 1]
    assert seen == [(16, 24, 32), (12, 20, 28), (20, 28, 36)]
    own, smaller, larger = torch.sigmoid(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.allclose(p, (own / 2 + (smaller + larger) / 4).expand(16, 24, 32), atol=1e-6)
    assert in_sizes(network, (), (4, 4, 4)) is network


def _in_sizes(model: Model, sizes: tuple[float, ...] = (0.75, 1.25)) -> Model:
    return replace(model, card=model.card.model_copy(update={"further_sizes": sizes}))


def test_a_model_s_sizes_are_run_unless_the_user_asks_for_one(small_model: Model, pair: Study) -> None:
    plain, several = SegmentOptions(device="cpu"), _in_sizes(small_model)
    once = segment(pair, small_model, plain)
    mean = segment(pair, several, plain)
    fast = segment(pair, several, plain.model_copy(update={"further_sizes": ()}))
    for phase in Phase:
        np.testing.assert_array_equal(fast.phases[phase].labels, once.phases[phase].labels)
        assert (mean.phases[phase].labels != once.phases[phase].labels).any()


def test_a_plan_says_the_sizes_and_counts_them(
    small_model: Model, pair: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_room, "process_bytes", lambda: 0)
    monkeypatch.setattr(plan_room, "speed_vox_s", lambda *_of: 1e4)
    options = SegmentOptions(device="cpu")
    plain, several = (make_plan(model, pair, options) for model in (small_model, _in_sizes(small_model)))
    assert "Looks at every tile in its own size and in 0.75 and 1.25 of it." in several.sentences
    assert not any("own size" in sentence for sentence in plain.sentences)
    assert several.tiles == plain.tiles and several.tile_vox == plain.tile_vox
    settings = prepare(_in_sizes(small_model), pair, options).settings
    assert settings.looks_vox == (16 * 32 * 32, 12 * 24 * 24, 20 * 40 * 40)
    further_s = plain.tiles * sum(settings.looks_vox[1:]) / 1e4
    assert several.seconds - plain.seconds == pytest.approx(further_s, abs=0.11), "both are told to a tenth"
    assert several.ram_mb > plain.ram_mb


def test_slices_are_not_looked_at_in_several_sizes() -> None:
    with pytest.raises(UserError, match="slice by slice"):
        check_run(RunConfig(method="pcn", patch_vox=(8, 64, 64), further_sizes=(0.9,), method_config={"form": "rstn"}))
    with pytest.raises(ValueError, match=r"from 0.5 to 2"):
        RunConfig(further_sizes=(0.9, 3.0))
