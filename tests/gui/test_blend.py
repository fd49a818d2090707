"""Two slices in one picture: exact values."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.gui.blend import as_rgb, beyond, checkers, difference_rgb, edges, fade, grey, pick, seen


def test_grey_clips_at_the_windows_ends():
    hu = np.array([[-3024, -160, 40, 240, 3000]], np.int16)
    np.testing.assert_array_equal(grey(hu, (-160.0, 240.0)), [[0, 0, 127, 255, 255]])


def test_fade_goes_from_one_to_the_other():
    first, second = np.full((2, 3), 40, np.uint8), np.full((2, 3), 240, np.uint8)
    np.testing.assert_array_equal(fade(first, second, 0.0), first)
    np.testing.assert_array_equal(fade(first, second, 1.0), second)
    np.testing.assert_array_equal(fade(first, second, 0.5), 140)


@pytest.mark.parametrize(("axis", "line"), [(0, 1), (1, 2), (1, 0), (1, 9)])
def test_swipe_shows_the_second_image_from_the_line_on(axis, line):
    first, second = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    expected = np.zeros((3, 4), np.uint8)
    if axis == 0:
        expected[line:] = 1
    else:
        expected[:, line:] = 1
    np.testing.assert_array_equal(pick(first, second, beyond((3, 4), line, axis)), expected)


def test_checkers_are_squares_in_millimetres():
    """20 mm squares on voxels of 5 x 10 mm: 4 rows, 2 columns."""
    mask = checkers((8, 4), (5.0, 10.0), 20.0)
    expected = np.kron([[0, 1], [1, 0]], np.ones((4, 2))).astype(bool)
    np.testing.assert_array_equal(mask, expected)


def test_checkers_start_where_they_are_told_and_never_vanish():
    np.testing.assert_array_equal(checkers((1, 4), (1.0, 1.0), 2.0, (0.0, 1.0)), [[True, False, False, True]])
    np.testing.assert_array_equal(checkers((1, 4), (5.0, 5.0), 2.0), [[False, True, False, True]])


def test_equal_is_black_and_the_sign_has_a_colour():
    rgb = difference_rgb(np.array([[0.0, 500.0, -500.0]], np.float32), 200.0)
    np.testing.assert_array_equal(rgb[0, 0], 0)
    assert rgb[0, 1, 0] > rgb[0, 1, 2]
    assert rgb[0, 2, 2] > rgb[0, 2, 0]


def test_edges_are_where_labels_meet_something_else():
    labels = np.zeros((5, 5), np.uint8)
    labels[1:4, 1:4] = 7
    found = edges(labels)
    assert found.sum() == 8
    assert not found[2, 2]
    assert not found[0].any()


def test_what_lies_outside_is_nothing():
    values = np.arange(1, 5, dtype=np.uint8).reshape(2, 2)
    rows, columns = np.array([-1, 0, 1]), np.array([1, -1])
    np.testing.assert_array_equal(seen(values, rows, columns), [[0, 0], [2, 0], [4, 0]])


def test_colours_and_grey_can_be_laid_over_each_other():
    assert as_rgb(np.zeros((2, 3), np.uint8)).shape == (2, 3, 3)


def test_composing_a_slice_takes_a_fraction_of_a_frame():
    import time

    rng = np.random.default_rng(0)
    first, second = rng.integers(-1000, 1000, (2, 512, 512)).astype(np.int16)
    spent = []
    for _ in range(7):
        began = time.thread_time()
        a, b = grey(first, (-160, 240)), grey(second, (-160, 240))
        fade(a, b, 0.4)
        pick(a, b, beyond((512, 512), 200, 1))
        pick(a, b, checkers((512, 512), (0.7, 0.7), 30.0))
        spent.append(1000 * (time.thread_time() - began))
    print(f"two slices windowed, faded, swiped and chequered: {np.median(spent):.1f} ms")
    assert np.median(spent) < 50
