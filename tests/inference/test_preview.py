"""One slice at once: the same as the whole volume where the slab says so, near it elsewhere, and cheap to scroll."""

from __future__ import annotations

import numpy as np
import pytest
import translators
from translators import ToyTranslatorConfig, write_toy

from napari_multiphase.config import METHOD_CONFIGS, TranslateOptions, TranslatorTraits
from napari_multiphase.errors import UserError
from napari_multiphase.inference import preview
from napari_multiphase.inference.preview import Slabs, plan_slabs, preview_slice
from napari_multiphase.inference.translate import translate
from napari_multiphase.methods import METHODS
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS
CPU = TranslateOptions(device="cpu")


@pytest.fixture
def make_model(tmp_path, monkeypatch):
    """A toy model that translates, and no scene of another test."""
    monkeypatch.setitem(METHODS, "toy-translator", translators.METHOD)
    monkeypatch.setitem(METHOD_CONFIGS, "toy-translator", ToyTranslatorConfig)
    monkeypatch.setattr(preview, "_scene", [])
    return lambda gain=1.0, **config: write_toy(tmp_path / "model", ToyTranslatorConfig(**config), None, gain)


def worst_of(study: Study, model, shown) -> int:
    """Largest difference in HU of previews from the whole volume."""
    whole = translate(study, model, V, CPU).image
    worst = 0
    for view in shown:
        y0, y1, x0, x1 = view["box"]
        apart = view["synthetic"].astype(int) - whole[view["index"], y0:y1, x0:x1]
        worst = max(worst, int(np.abs(apart).max()))
    return worst


@pytest.mark.parametrize("config", [{"kind": "identity"}, {"kind": "unet", "norm": "instance"}, {"kind": "slices"}])
def test_a_scan_in_one_slab_is_the_whole_volume(make_model, pair: Study, config) -> None:
    model = make_model(gain=20.0, **config)
    shown = [preview_slice(pair, V, model, z, CPU) for z in (0, 9, 18)]
    assert all(view["exact"] for view in shown)
    assert worst_of(pair, model, shown) <= 1


@pytest.mark.parametrize("reach", [16, 0])
def test_a_slab_is_exact_where_it_reaches_far_enough(make_model, pair: Study, monkeypatch, reach: int) -> None:
    model = make_model(gain=60.0, kind="unet", norm="none")
    monkeypatch.setattr(preview, "plan_slabs", lambda *_: Slabs(8, reach, reach > 0))
    shown = [preview_slice(pair, V, model, z, CPU) for z in (3, 9, 18)]
    assert [view["exact"] for view in shown] == [reach > 0] * 3
    assert (worst_of(pair, model, shown) <= 1) is (reach > 0)


def test_the_real_scan_lies_beside_it_through_the_transform(make_model, pair: Study) -> None:
    model = make_model(kind="identity")
    matrix = np.eye(4)
    matrix[:3, 3] = (8.0, 0.0, 4.0)  # venous + this = arterial
    registered = pair.with_transform(PhaseTransform(matrix, "rigid"))
    view = preview_slice(registered, V, model, 9, CPU)
    y0, y1, x0, x1 = view["box"]
    arterial, venous = pair.volumes[A], pair.volumes[V]
    np.testing.assert_array_equal(view["source"], arterial.data[9, y0:y1, x0:x1])
    # Arterial slice 9 lies at 40 mm: 36 mm of the venous scan, its slice 9, two voxels further right.
    expected = venous.data[9, y0:y1, max(0, x0 - 2) : x1 - 2]
    np.testing.assert_array_equal(view["real"][:, max(0, 2 - x0) :], expected)
    alone = preview_slice(Study("one", {A: arterial}), V, model, 9, CPU)
    assert alone["real"] is None


def test_scrolling_within_a_slab_runs_no_network(make_model, pair: Study, monkeypatch) -> None:
    model = make_model(kind="unet", norm="none")
    ran = []
    translated = preview._Scene._translate
    monkeypatch.setattr(preview._Scene, "_translate", lambda s, n: ran.append(n) or translated(s, n))
    monkeypatch.setattr(preview, "plan_slabs", lambda *_: Slabs(8, 8, False))
    for z in (1, 2, 3, 9, 2, 1):
        preview_slice(pair, V, model, z, CPU)
    assert len(ran) <= 3 and len(set(ran)) == len(ran)
    first = preview._scene[0].translator
    preview_slice(pair, A, model, 3, CPU)
    assert preview._scene[0].to is A
    preview_slice(pair, V, model, 99, CPU)
    assert preview._scene[0].translator is not None and first is not None


def test_what_cannot_be_previewed_is_one_sentence(make_model, pair: Study) -> None:
    venous = Study("one", {V: pair.volumes[V]})
    with pytest.raises(UserError, match="open the arterial scan, or translate to arterial"):
        preview_slice(venous, V, make_model(kind="identity"), 0, CPU)
    with pytest.raises(UserError, match="does not translate"):
        preview_slice(pair, V, make_model(kind="none"), 0, CPU)


def test_slabs_take_what_they_may() -> None:
    unet, slices = TranslatorTraits("volume", (8, 8, 8), (61, 61, 61)), TranslatorTraits("slices", (1, 4, 4), (2, 0, 0))
    plane = 120 * 120
    assert plan_slabs((40, 120, 120), unet, 1.0, 40 * plane) == Slabs(40, 0, True)
    assert plan_slabs((96, 120, 120), unet, 1.0, 40 * plane) == Slabs(96, 0, True), "once, then every slice is there"
    assert plan_slabs((104, 120, 120), unet, 1.0, 40 * plane) == Slabs(8, 16, False)
    assert plan_slabs((600, 120, 120), unet, 1.0, 200 * plane) == Slabs(72, 64, True)
    assert plan_slabs((64, 120, 120), unet, 1.0, 0.0) == Slabs(8, 0, False)
    assert plan_slabs((64, 120, 120), slices, 1.0, 0.0) == Slabs(1, 2, True)
    assert plan_slabs((64, 120, 120), slices, 1.0, 10 * plane) == Slabs(6, 2, True)
