"""What a partly corrected label map teaches: exact maps, and rules that hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_multiphase.errors import UserError
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.imaging.training_labels import SURE_RATIO, near_mistakes, training_labels
from napari_multiphase.labels import IGNORE, UNKNOWN

SHAPE = (1, 2, 4)
LABELS = np.array([0, 0, 1, 1, 6, 6, 2, 2], np.uint8).reshape(SHAPE)
REVIEWED = np.array([1, 0, 1, 0, 0, 0, 0, 0], bool).reshape(SHAPE)
SURE = int(encode_confidence(np.array([SURE_RATIO]))[0])
CONFIDENCE = np.array([0, 255, 0, SURE - 1, 0, 0, SURE, SURE - 1], np.uint8).reshape(SHAPE)


def flat(*arguments, **options):
    return training_labels(LABELS, REVIEWED, *arguments, **options).ravel().tolist()


def test_what_is_sure_stands_in_for_a_label_and_the_rest_teaches_nothing():
    assert flat({6}, CONFIDENCE, "sure") == [0, 0, 1, 255, 6, 6, 2, 255]


def test_unknown_is_254_and_ignored_is_255():
    assert flat({6}, CONFIDENCE, "unknown") == [0, 254, 1, 254, 6, 6, 254, 254]
    assert flat({6}, CONFIDENCE, "ignore") == [0, 255, 1, 255, 6, 6, 255, 255]


def test_nothing_is_sure_without_a_confidence():
    assert flat({6}, None, "sure") == flat({6}, None, "ignore")


def test_a_structure_that_is_not_annotated_counts_only_where_it_was_reviewed():
    assert flat((), CONFIDENCE, "sure", left_out={2}) == [0, 0, 1, 255, 255, 255, 255, 255]
    assert flat((), CONFIDENCE, "sure", left_out={1})[2] == 1


def test_a_complete_scan_counts_everywhere_and_is_a_copy():
    for unreviewed in ("sure", "unknown", "ignore"):
        taught = training_labels(LABELS, REVIEWED, {1, 2, 6}, None, unreviewed, whole=True)
        assert np.array_equal(taught, LABELS)
        assert not np.shares_memory(taught, LABELS)


def test_a_doubted_prediction_teaches_nothing_and_what_is_known_stays():
    assert flat({6}, CONFIDENCE, "sure", doubted=np.ones(SHAPE, bool)) == [0, 255, 1, 255, 6, 6, 255, 255]
    assert flat((), CONFIDENCE, "sure", doubted=LABELS == 6) == [0, 0, 1, 255, 255, 255, 2, 255]


def test_the_same_prediction_beside_a_corrected_mistake_is_doubted():
    predicted = np.array([[[0, 0, 0, 0, 0, 0, 2, 0]]], np.uint8)
    labels, reviewed = predicted.copy(), np.zeros(predicted.shape, bool)
    labels[0, 0, 4], reviewed[0, 0, 3:5] = 3, True  # background at 4 was kidney, at 3 it was right
    near = near_mistakes(labels, reviewed, predicted, (5.0, 5.0, 2.0), reach_mm=5.0)
    assert np.flatnonzero(near).tolist() == [2, 5]  # two voxels to each side, but neither the spleen nor what was seen
    assert near_mistakes(labels, reviewed, predicted, (5.0, 5.0, 2.0), reach_mm=7.0)[0, 0, 7]
    assert not near_mistakes(predicted, reviewed, predicted, (5.0, 5.0, 2.0)).any()
    assert not near_mistakes(labels, np.zeros_like(reviewed), predicted, (5.0, 5.0, 2.0)).any()


@given(
    labels=hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 23)),
    reviewed=hnp.arrays(bool, (2, 3, 4)),
    confidence=hnp.arrays(np.uint8, (2, 3, 4)),
    complete=st.sets(st.integers(1, 23)),
    unreviewed=st.sampled_from(["sure", "unknown", "ignore"]),
)
def test_what_counts_is_never_changed_and_reviewing_never_takes_away(
    labels, reviewed, confidence, complete, unreviewed
):
    taught = training_labels(labels, reviewed, complete, confidence, unreviewed)
    known = taught < UNKNOWN
    assert np.array_equal(taught[known], labels[known])
    assert known[reviewed | np.isin(labels, list(complete))].all()
    assert set(np.unique(taught[~known])) <= {UNKNOWN if unreviewed == "unknown" else IGNORE}
    more = training_labels(labels, np.ones_like(reviewed), complete, confidence, unreviewed)
    assert np.array_equal(more, labels)


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(UserError, match="choose one of sure, unknown, ignore"):
        training_labels(LABELS, REVIEWED, (), None, "maybe")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="shape"):
        training_labels(LABELS, REVIEWED[:, :1], (), None)
