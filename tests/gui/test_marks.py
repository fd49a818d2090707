"""Which letter stands at which border, for every view."""

from __future__ import annotations

import pytest

from napari_multiphase.gui.marks import letters, upright


@pytest.mark.parametrize(
    ("displayed", "expected"),
    [
        ((1, 2), {"top": "A", "bottom": "P", "left": "R", "right": "L"}),  # axial: the radiological view
        ((0, 2), {"top": "S", "bottom": "I", "left": "R", "right": "L"}),  # coronal: head up
        ((0, 1), {"top": "S", "bottom": "I", "left": "A", "right": "P"}),  # sagittal: head up, face left
    ],
)
def test_upright_views_read_as_a_radiologist_expects(displayed, expected):
    assert letters(displayed, upright(displayed)) == expected


def test_turning_the_camera_swaps_the_letters():
    down = letters((1, 2), ("down", "right"))
    up = letters((1, 2), ("up", "left"))
    assert (up["top"], up["bottom"]) == (down["bottom"], down["top"])
    assert (up["left"], up["right"]) == (down["right"], down["left"])


def test_no_letters_in_three_dimensions():
    assert set(letters((0, 1, 2), ("down", "right")).values()) == {""}
