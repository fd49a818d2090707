"""What a phantom can be asked for, and how the rest is refused."""

from typing import Any

import pytest

from napari_multiphase.errors import UserError
from napari_multiphase.phantom import PhantomSpec


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shape": (47, 64, 64)}, "at least 48"),
        ({"shape": (64, 64)}, "three whole numbers"),
        ({"shape": (64.0, 64, 64)}, "three whole numbers"),
        ({"shape": (752, 512, 512)}, "512 x 512 x 751"),
        ({"shape": (751, 513, 48)}, "512 x 512 x 751"),
        ({"spacing_mm": (3.0, 0.0, 2.0)}, "spacing"),
        ({"spacing_mm": (3.0, 2.0, float("nan"))}, "spacing"),
        ({"spacing_mm": (3.0, 2.0, 40.0)}, "spacing"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"pathology": "kidney"}, "none, liver, pancreas"),
        ({"motion_mm": -1.0}, "motion_mm"),
        ({"motion_mm": float("inf")}, "motion_mm"),
        ({"noise_hu": -2.0}, "noise_hu"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_in_one_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        PhantomSpec(**settings)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(751, 512, 512), (512, 751, 512), (512, 512, 751), (48, 48, 48)])
def test_the_limits_hold_in_any_order(shape: tuple[int, int, int]) -> None:
    assert PhantomSpec(shape=shape).shape == shape


def test_the_grid_is_centred_on_the_abdomen() -> None:
    grid = PhantomSpec(shape=(96, 192, 160), spacing_mm=(3.0, 2.0, 1.5)).grid
    first, last = grid.affine_mm @ [0, 0, 0, 1], grid.affine_mm @ [95, 191, 159, 1]
    assert first[:3] + last[:3] == pytest.approx([0, 0, 0])
    assert last[:3] - first[:3] == pytest.approx([159 * 1.5, 191 * 2.0, 95 * 3.0])
