"""A synthetic image against the real scan of its phase: figures with a closed form, the transform, the S-score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inference_cases import trunk_hu

from napari_multiphase.config import SegmentOptions
from napari_multiphase.errors import UserError
from napari_multiphase.imaging.body import find_body
from napari_multiphase.inference.comparison import compare_translation, in_words_of, judge_translation, labels_for
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.images import write_on_source
from napari_multiphase.study import PhaseTransform, Study, Translation
from napari_multiphase.volume import Grid, Phase, Volume

A, V = Phase.ARTERIAL, Phase.VENOUS
SHIFT_VOX = 2


@pytest.fixture
def shifted() -> Study:
    """A venous scan and the same lying 8 mm further left as the arterial one, registered."""
    grid = Grid((12, 48, 52), (4.0, 4.0, 4.0))
    hu = trunk_hu(grid, 1)
    moved = np.full_like(hu, -1000)
    moved[:, :, SHIFT_VOX:] = hu[:, :, :-SHIFT_VOX]
    volumes = {A: Volume.from_array(moved, grid.spacing_mm), V: Volume.from_array(hu, grid.spacing_mm)}
    matrix = np.eye(4)
    matrix[0, 3] = SHIFT_VOX * 4.0
    return Study("study-1", volumes, transform=PhaseTransform(matrix, "rigid"))


def synthetic(study: Study, image: np.ndarray, source: Phase = A) -> Translation:
    return Translation(study.id, "toy", source, image.astype(np.int16), (), {"window_hu": [-200.0, 600.0]})


def test_the_real_scan_is_brought_along_the_transform(shifted: Study) -> None:
    """Through the transform both are one image, so an offset of 20 HU is all the error there is."""
    arterial = shifted.volumes[A].data
    figures, difference = compare_translation(shifted, synthetic(shifted, arterial + 20))
    assert figures["synthetic"]["mae_hu"] == pytest.approx(20)
    assert figures["untranslated"]["mae_hu"] == 0
    assert figures["data_range_hu"] == 800
    counts = find_body(arterial, shifted.volumes[A].grid).on(shifted.volumes[A].grid)
    counts[:, :, :SHIFT_VOX] = False  # the venous scan begins there
    assert figures["synthetic"]["voxels"] == counts.sum()
    np.testing.assert_array_equal(difference, np.where(counts, -20, 0))
    assert difference.dtype == np.int16
    assert "rigid transform" in figures["aligned"]["sentence"] and "adds to the error" in figures["aligned"]["sentence"]
    apart = compare_translation(replace(shifted, transform=None), synthetic(shifted, arterial + 20))[0]
    assert apart["synthetic"]["mae_hu"] > 25, "misalignment adds to the error"
    assert apart["aligned"]["method"] == "identity" and "not registered" in apart["aligned"]["sentence"]


def test_structures_are_told_for_every_image(shifted: Study) -> None:
    arterial = shifted.volumes[A].data
    labels = {phase: (volume.data > 0).astype(np.uint8) * 2 for phase, volume in shifted.volumes.items()}
    translation = synthetic(shifted, arterial + 20)
    (row,) = compare_translation(shifted, translation, labels)[0]["structures"]["rows"]
    assert row["name"] == "spleen"
    means = {key: entry["mean_hu"] for key, entry in row["hu"].items()}
    assert means["synthetic venous"] == pytest.approx(means["real arterial"] + 20, abs=0.01)
    assert set(means) == {"real arterial", "real venous", "synthetic venous"}
    own = compare_translation(shifted, translation, {A: labels[A]})[0]["structures"]
    assert own["labels_of"] == ["arterial"]
    carried = own["rows"][0]["hu"]["real venous"]
    assert carried["mean_hu"] == pytest.approx(means["real arterial"], abs=1)
    assert len(carried["share"]) == len(own["edges_hu"]) - 1 == 80


def test_a_long_scan_is_compared_in_a_file(shifted: Study, tmp_path: Path) -> None:
    _, difference = compare_translation(shifted, synthetic(shifted, shifted.volumes[A].data), scratch=tmp_path)
    assert isinstance(difference, np.memmap)
    assert not difference.any()


def test_what_cannot_be_compared_is_one_sentence(shifted: Study) -> None:
    translation = synthetic(shifted, shifted.volumes[A].data)
    with pytest.raises(UserError, match="no real venous scan to compare with"):
        compare_translation(replace(shifted, volumes={A: shifted.volumes[A]}), translation)
    with pytest.raises(UserError, match="belongs to study study-1, not other"):
        compare_translation(replace(shifted, id="other"), translation)
    far = np.eye(4)
    far[0, 3] = 5000.0
    with pytest.raises(UserError, match="does not reach the body"):
        compare_translation(shifted.with_transform(PhaseTransform(far, "rigid")), translation)


def test_the_s_score_of_an_untouched_image_is_the_judges_own_dice(shifted: Study, small_model) -> None:
    """PAPERS 4.5: with an identity generator, Dice of the judge on the source."""
    arterial = shifted.volumes[A]
    alone = Study("study-1", {V: arterial})
    found = segment(alone, small_model, SegmentOptions(device="cpu")).phases[V].labels
    judged = judge_translation(shifted, synthetic(shifted, arterial.data), small_model, found)
    assert judged["s_score"] == 1.0
    assert judged["judge"] == "small random" and judged["independent"]
    assert judge_translation(
        shifted, replace(synthetic(shifted, arterial.data), model_name="small random"), small_model, found
    )["independent"] is False  # fmt: skip


def test_a_judge_has_nothing_to_say_of_a_scan_that_comes_alone(shifted: Study, small_model, monkeypatch) -> None:
    monkeypatch.setattr("napari_multiphase.inference.plan.with_synthetic_branch", lambda: ["a model with two branches"])
    arterial, told, judged = shifted.volumes[A], [], []
    alone = Study("study-1", {V: arterial})
    labels = segment(alone, small_model, SegmentOptions(device="cpu"), on_event=told.append).phases[V].labels
    assert any("would segment a synthetic arterial image" in event.message for event in told)
    translation = synthetic(shifted, arterial.data)
    judge_translation(shifted, translation, small_model, labels, on_event=judged.append)
    assert {event.kind for event in judged} == {event.kind for event in told} - {"warning"}


def test_labels_of_another_grid_are_refused(shifted: Study, tmp_path: Path) -> None:
    labels = np.ones(shifted.volumes[A].shape, np.uint8)
    write_on_source(tmp_path / "labels.nii.gz", labels, shifted.volumes[A], kind="labels")
    np.testing.assert_array_equal(labels_for(shifted, A, tmp_path / "labels.nii.gz"), labels)
    small = Volume.from_array(labels[:4], (4.0, 4.0, 4.0))
    with pytest.raises(UserError, match="does not lie on the grid of the arterial scan"):
        labels_for(shifted, A, small)


def test_figures_in_words(shifted: Study) -> None:
    figures, _ = compare_translation(shifted, synthetic(shifted, shifted.volumes[A].data))
    words = " ".join(in_words_of(figures, "venous", "arterial"))
    assert "MAE 0.0 HU" in words and "PSNR not defined dB" in words and "untranslated" in words
