"""Patches: where they come from, and that they depend on nothing but their number."""

import numpy as np
import torch

from napari_multiphase.config import RunConfig
from napari_multiphase.methods.base import Stage
from napari_multiphase.training.augment import augment
from napari_multiphase.training.cases import PhaseCase, _anchors
from napari_multiphase.training.loop import draw_batch
from napari_multiphase.training.sampling import draw_patch
from napari_multiphase.volume import Phase


def case(shape=(20, 30, 40), phase=Phase.ARTERIAL, seed=0) -> PhaseCase:
    channels = np.zeros(shape, np.uint8)
    channels[2:5, 3:6, 4:7] = 1
    if shape[0] > 10:
        channels[10, 20, 30] = 2
    hu = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return PhaseCase(seed, phase, hu, channels, _anchors(channels, 3, seed))


def test_image_and_labels_of_a_patch_are_cut_at_the_same_place():
    one = case()
    rng = np.random.default_rng(0)
    for _ in range(50):
        _, hu, channels = draw_patch([one], (8, 8, 8), rng)
        z, y, x = np.unravel_index(int(hu[0, 0, 0]), one.hu.shape)
        assert np.array_equal(channels, one.channels[z : z + 8, y : y + 8, x : x + 8])


def test_a_single_voxel_structure_is_seen_as_often_as_a_large_one():
    rng = np.random.default_rng(1)
    seen = np.zeros(3)
    for _ in range(400):
        _, _, channels = draw_patch([case()], (8, 8, 8), rng)
        seen[np.unique(channels)] += 1
    assert seen[2] > 0.25 * 400 and seen[1] > 0.25 * 400


def test_a_case_smaller_than_the_patch_is_padded_with_air():
    _, hu, channels = draw_patch([case((4, 30, 40))], (8, 8, 8), np.random.default_rng(2))
    assert hu.shape == channels.shape == (8, 8, 8)
    assert (hu[4:] == -1024).all() and (channels[4:] == 0).all()


def test_a_batch_depends_on_its_number_alone():
    run = RunConfig(patch_vox=(8, 8, 8), batch=2)
    stage = Stage("shared", 4, tuple(Phase), "arterial")
    cases = {phase: [case(phase=phase)] for phase in Phase}
    first = draw_batch(run, stage, 0, 3, cases)
    draw_batch(run, stage, 0, 1, cases)
    again, other = draw_batch(run, stage, 0, 3, cases), draw_batch(run, stage, 0, 2, cases)
    assert torch.equal(first[1], again[1]) and torch.equal(first[2], again[2])
    assert first[0] is Phase.VENOUS and other[0] is Phase.ARTERIAL
    assert first[1].shape == (2, 1, 8, 8, 8) and first[2].shape == (2, 8, 8, 8)
    assert first[1].abs().max() <= 1


def test_augmentation_moves_image_and_labels_together():
    channels = torch.zeros(1, 24, 24, 24, dtype=torch.int64)
    channels[:, 6:16, 8:20, 5:14] = 1
    hu = torch.where(channels == 1, 1000.0, 0.0)[None]
    moved = 0
    for seed in range(12):
        image, labels = augment(hu.clone(), channels.clone(), np.random.default_rng(seed))
        bright = image[0, 0] > 500
        inside = labels[0] == 1
        dice = 2 * (bright & inside).sum() / (bright.sum() + inside.sum())
        assert dice > 0.9
        moved += int(not torch.equal(labels, channels))
    assert 2 <= moved <= 10
