"""Colours and places of layers, without a window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_multiphase.gui.layers import (
    MOST_OPAQUE,
    add_confidence,
    add_labels,
    confidence_rgba,
    hidden_colormap,
    labels_colormap,
    placement,
    writable,
)
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.volume import Grid


def test_confidence_is_transparent_where_sure_and_warm_where_not():
    rgba = confidence_rgba()
    sure, unsure = (int(code) for code in encode_confidence(np.array([1000.0, 1.0])))
    assert rgba[sure, 3] == pytest.approx(0.0, abs=1e-6)
    assert rgba[unsure, 3] == pytest.approx(MOST_OPAQUE)
    assert rgba[unsure, 0] > 3 * rgba[unsure, 2], "the unsure end is red"
    assert (np.diff(rgba[:, 3]) <= 0).all(), "opacity never grows with confidence"


def test_opacity_follows_equation_3():
    ratio = 2.0
    encoded = int(encode_confidence(np.array([ratio]))[0])
    assert confidence_rgba()[encoded, 3] == pytest.approx(MOST_OPAQUE * np.exp(1 - ratio), rel=0.03)


def test_labels_have_the_tables_colours():
    mapped = labels_colormap().map(np.array([0, *STRUCTURES]))
    np.testing.assert_allclose(mapped[0], 0)
    expected = np.array([s.colour for s in STRUCTURES.values()]) / 255
    np.testing.assert_allclose(mapped[1:, :3], expected, atol=1e-3)


def test_hidden_structures_are_transparent_and_others_are_not():
    mapped = hidden_colormap(frozenset({1, 5})).map(np.array([1, 2, 5]))
    assert mapped[0, 3] == mapped[2, 3] == 0
    assert mapped[1, 3] == 1


def test_placement_is_axis_aligned_millimetres():
    grid = Grid((4, 5, 6), (3.0, 0.7, 0.8), (-100.0, 20.0, 30.0))
    place = placement(grid)
    assert place["scale"] == (3.0, 0.7, 0.8)
    assert place["translate"] == (-100.0, 20.0, 30.0)
    assert place["units"] == "mm"


def test_painting_on_a_mapped_result_leaves_the_file_alone(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.ones((3, 4, 5), np.uint8))
    mapped = np.load(path, mmap_mode="r")
    layer_data = writable(mapped)
    layer_data[1] = 7
    assert (layer_data[1] == 7).all()
    assert (np.load(path) == 1).all()
    assert (layer_data[0] == 1).all()


def test_a_result_that_arrives_is_not_chosen():
    from napari.components import ViewerModel

    viewer, grid = ViewerModel(), Grid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    mine = viewer.add_points(np.zeros((1, 3)))
    zeros = np.zeros(grid.shape, np.uint8)
    made = [
        add_labels(viewer, zeros, grid, "labels", kind="labels"),
        add_confidence(viewer, zeros, grid, "confidence", kind="confidence"),
    ]
    assert viewer.layers.selection == {mine}
    assert set(made) < set(viewer.layers)
    assert viewer.add_points(np.zeros((1, 3))) in viewer.layers.selection, "napari's own way is as it was"
