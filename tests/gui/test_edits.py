"""The undo stack: on arrays, and on a napari layer without a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_multiphase.gui.edits import Edits, follow

SHAPE = (6, 9, 11)


def box_of(draw) -> tuple[slice, slice, slice]:
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE]
    return tuple(slice(a, b) for a, b in ends)


@st.composite
def steps(draw):
    """Edits of random boxes, marks, undos and redos."""
    made = []
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["apply", "apply", "mark", "undo", "redo"]))
        made.append((kind, box_of(draw), draw(st.integers(0, 2**32 - 1))))
    return made


@settings(deadline=None, max_examples=80)
@given(steps())
def test_undo_and_redo_go_through_exactly_the_states_that_were(work):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, SHAPE, np.uint8)
    reviewed = np.zeros(SHAPE, bool)
    edits = Edits(labels, reviewed)
    states, at = [(labels.copy(), reviewed.copy())], 0
    for kind, box, seed in work:
        values = np.random.default_rng(seed).integers(0, 3, labels[box].shape, np.uint8)
        if kind == "undo":
            at -= edits.undo() is not None
        elif kind == "redo":
            at += edits.redo() is not None
        else:
            outside = labels.copy()
            changed = values != labels[box]
            was = reviewed.copy()
            edit = edits.apply(box, values, "x") if kind == "apply" else edits.mark(box, values > 0)
            outside[box] = labels[box]
            np.testing.assert_array_equal(outside, labels)
            if kind == "apply":
                was[box] |= changed
            else:
                was[box] |= values > 0
            np.testing.assert_array_equal(reviewed, was)
            if edit is not None:
                states, at = [*states[: at + 1], (labels.copy(), reviewed.copy())], at + 1
        np.testing.assert_array_equal(labels, states[at][0])
        np.testing.assert_array_equal(reviewed, states[at][1])
    while edits.undo() is not None:
        pass
    np.testing.assert_array_equal(labels, states[0][0])
    assert not reviewed.any()


def test_memory_is_bounded_and_the_newest_edit_always_stays():
    labels = np.zeros((10, 20, 20), np.uint8)
    edits = Edits(labels, most_bytes=30_000)
    whole = (slice(0, 10), slice(0, 20), slice(0, 20))
    for value in (1, 2, 3, 4):
        edits.apply(whole, np.full(labels.shape, value, np.uint8), f"to {value}")
        assert edits.bytes <= 30_000
    assert edits.can_undo == "to 4"
    edits.undo()
    assert (labels == 3).all()
    assert edits.can_undo == ""
    assert edits.can_redo == "to 4"
    assert edits.apply(whole, labels.copy(), "nothing") is None
    assert edits.can_redo == "to 4", "what changes nothing is no edit"


def test_a_wrong_shape_is_refused():
    edits = Edits(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="the box holds"):
        edits.apply((slice(0, 2), slice(0, 2), slice(0, 2)), np.ones((1, 1, 1), np.uint8), "x")


@pytest.fixture
def layer():
    from napari.layers import Labels

    made = Labels(np.zeros((8, 24, 24), np.uint8))
    made.brush_size = 5
    return made


def test_napari_strokes_become_edits_and_its_own_history_stays_empty(layer):
    reviewed = np.zeros(layer.data.shape, bool)
    told = []
    edits = Edits(layer.data, reviewed, told.append)
    follow(layer, edits)
    with layer.block_history():  # what napari does from press to release
        for x in range(5, 15):
            layer.paint((0, 10, x), 3)
        layer.paint((0, 10, 9), 7)
    assert [edit.what for edit in told] == ["paint"]
    after_stroke = layer.data.copy()
    assert set(np.unique(after_stroke)) == {0, 3, 7}
    np.testing.assert_array_equal(reviewed, after_stroke > 0)

    layer.mode = "fill"
    layer.fill((0, 10, 9), 2)
    layer.mode = "polygon"
    layer.paint_polygon([(0, 15, 2), (0, 15, 8), (0, 20, 8), (0, 20, 2)], 4)
    layer.data_setitem((np.array([0, 0]), np.array([1, 2]), np.array([1, 1])), 9)
    layer.mode = "erase"
    layer.paint((0, 10, 12), 0)
    assert [edit.what for edit in told] == ["paint", "fill", "polygon", "polygon", "erase"]
    assert not layer._undo_history
    last = layer.data.copy()

    tool = (slice(2, 4), slice(0, 5), slice(0, 5))
    edits.apply(tool, np.full((2, 5, 5), 6, np.uint8), "a tool")
    for _ in range(2):
        layer.undo()
    np.testing.assert_array_equal(layer.data[0, 10, 12], 3)
    layer.redo()
    np.testing.assert_array_equal(layer.data, last)
    for _ in range(4):
        layer.undo()
    np.testing.assert_array_equal(layer.data, after_stroke)
    layer.undo()
    assert not layer.data.any()
    assert not reviewed.any()
    layer.undo()
    while edits.redo() is not None:
        pass
    assert (layer.data[tool] == 6).all()


def test_keys_of_the_layer_lead_to_the_stack(layer):
    from napari.utils.key_bindings import KeymapHandler

    edits = Edits(layer.data)
    follow(layer, edits)
    keys = KeymapHandler()
    keys.keymap_providers = [layer]
    layer.paint((0, 10, 10), 3)
    keys.press_key("Control-Z")
    assert not layer.data.any()
    keys.press_key("Control-Shift-Z")
    assert layer.data.any()
    keys.press_key("Control-Z")
    keys.press_key("Control-Y")
    assert (layer.data == 3).sum() > 10
