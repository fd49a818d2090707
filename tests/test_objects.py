"""The objects: events, labels, grids, sources, model cards and settings."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_multiphase.config import METHOD_CONFIGS, RunConfig, SegmentOptions, method_config
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.labels import IGNORE, STRUCTURES, ids_of_group, name_of
from napari_multiphase.model import ModelCard
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Grid, Phase, Source, Volume

CARD = {
    "name": "m",
    "method": "pcn",
    "config": {},
    "labels": (0, 1),
    "phases": ("arterial",),
    "window_hu": (-200, 600),
    "spacing_mm": (3, 2, 2),
    "tile_vox": (64, 96, 96),
    "overlap": 0.25,
    "summary": "",
    "training_data": "",
    "phantoms_only": True,
    "licence": "BSD-3-Clause",
    "weights_sha256": "0" * 64,
}


def test_an_event_survives_its_line_of_json():
    event = Event("metric", 'tile "3"\nof 9', 0.25, 4.5, {"dice": 0.7})
    assert "\n" not in event.to_json()
    assert Event.from_json(event.to_json()) == event


def test_cancel_raises_only_after_it_was_asked_for():
    cancel = Cancel()
    cancel.check()
    cancel.set()
    with pytest.raises(Cancelled):
        cancel.check()


def test_label_table_is_the_settled_one():
    assert list(STRUCTURES) == list(range(1, 24))
    assert len({s.colour for s in STRUCTURES.values()}) == 23
    assert ids_of_group(1) == (1, 21)
    assert ids_of_group(6) == (6, 22, 23)
    assert name_of(4) == "left kidney" and name_of(40) == "label 40" and IGNORE not in STRUCTURES


sizes = st.tuples(*[st.integers(1, 50)] * 3)
spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)


@given(sizes, spacings, origins, st.tuples(*[st.integers(0, 49)] * 3))
def test_affine_sends_an_index_to_its_lps_point(shape, spacing, origin, index):
    grid = Grid(shape, spacing, origin)
    expected = [o + i * s for o, i, s in zip(origin, index, spacing, strict=True)][::-1]
    assert np.allclose(grid.affine_mm @ [*index, 1], [*expected, 1])
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


def test_a_millimetre_at_the_far_corner_tells_two_grids_apart():
    grid = Grid((10, 10, 11), (1, 1, 1))
    assert grid.matches(Grid((10, 10, 11), (1, 1, 1 + 1e-6)))
    assert not grid.matches(Grid((10, 10, 11), (1, 1, 1.1)))
    assert not grid.matches(Grid((10, 10, 12), (1, 1, 1)))


def test_source_and_transform_survive_json():
    volume = Volume.from_array(np.zeros((2, 3, 4), np.int16), (1, 2, 3))
    source = Source.from_dict(json.loads(json.dumps(volume.source.to_dict())))
    assert source.shape == (2, 3, 4) and np.array_equal(source.affine_mm, volume.affine_mm)
    transform = PhaseTransform.from_dict(json.loads(json.dumps(PhaseTransform.identity().to_dict())))
    assert np.array_equal(transform.venous_to_arterial_mm, np.eye(4))


def test_a_volume_refuses_data_of_another_shape():
    volume = Volume.from_array(np.zeros((2, 3, 4), np.int16), (1, 2, 3))
    with pytest.raises(ValueError, match="shape"):
        volume.with_data(np.zeros((2, 3, 5)))


def test_phases_are_each_other():
    assert Phase.ARTERIAL.other is Phase.VENOUS and Phase.VENOUS.other is Phase.ARTERIAL


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": (1, 2)},
        {"labels": (0, 1, 1)},
        {"labels": (0, 99)},
        {"window_hu": (5, 5)},
        {"spacing_mm": (0, 1, 1)},
        {"tile_vox": (0, 96, 96)},
        {"tile_vox": (8, 8, 96)},
        {"weights_sha256": "abc"},
        {"surprise": 1},
    ],
)
def test_a_card_that_makes_no_sense_is_refused(wrong):
    assert ModelCard(**CARD).phases == (Phase.ARTERIAL,)
    with pytest.raises(ValidationError):
        ModelCard(**{**CARD, **wrong})


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError):
        SegmentOptions(phase_weight=1.5)
    with pytest.raises(ValidationError):
        RunConfig(labels=(1, 2))
    with pytest.raises(UserError, match=", ".join(METHOD_CONFIGS)):
        method_config("unheard-of", {})


def test_the_objects_bring_no_torch():
    code = "import sys, napari_multiphase.config, napari_multiphase.study, napari_multiphase.model;"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'napari', 'qtpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
