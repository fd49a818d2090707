"""Patches: where they come from, and that they depend on nothing but their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_multiphase.config import AugmentConfig, RunConfig, Traits
from napari_multiphase.config.base import NO_AUGMENT
from napari_multiphase.errors import UserError
from napari_multiphase.methods.base import Draw
from napari_multiphase.training.augment import draw_move
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.sampling import check_draws, draw_batch
from napari_multiphase.volume import Phase

WIDE = (-1024.0, 30000.0)
TURNS = AugmentConfig(share=1.0, gain=0.0, offset_hu=0.0, noise_hu=0.0, blur_share=0.0)


def scan(shape=(20, 30, 40), unit=1) -> PhaseArrays:
    channels = np.zeros(shape, np.uint8)
    channels[2:5, 3:6, 4:7] = 1
    if shape[0] > 10:
        channels[10, 20, 30] = 2
    hu = (np.arange(np.prod(shape)) * unit).astype(np.int16).reshape(shape)
    return PhaseArrays(hu, channels, anchors(channels), mean=0.25, std=0.5)


def anchors(channels):
    return tuple(np.argwhere(channels == c).astype(np.int32)[:512] for c in range(3))


def case(shape=(20, 30, 40), name="a", complete=True, pair=True) -> TrainingCase:
    scans = {phase: scan(shape) for phase in Phase}
    annotated = np.array([complete, True, complete])
    return TrainingCase(name, name, scans, scans if pair else None, annotated, (2.0, 1.0, 1.0))


def run(**changes) -> RunConfig:
    return RunConfig(**{"patch_vox": (8, 8, 8), "batch": 4, "window_hu": WIDE, **changes})


def draw(**changes) -> Draw:
    return Draw(**{"phases": (Phase.VENOUS,), "augment": NO_AUGMENT, **changes})


def hu_of(x: torch.Tensor) -> np.ndarray:
    low, high = WIDE
    return np.rint((x.numpy() + 1) / 2 * (high - low) + low).astype(int)


def blob(shape=(24, 32, 32)) -> TrainingCase:
    """A bright box whose labels are the box."""
    channels = np.zeros(shape, np.uint8)
    channels[tuple(slice(n // 4, 2 * n // 3) for n in shape)] = 1
    one = PhaseArrays(channels.astype(np.int16) * 1000, channels, anchors(channels), 0.0, 1.0)
    scans = dict.fromkeys(Phase, one)
    return TrainingCase("blob", "blob", scans, scans, np.ones(3, bool), (2.0, 1.0, 1.0))


def dice(image: torch.Tensor, labels: torch.Tensor) -> float:
    bright, inside = image > 0, labels == 1
    return float(2 * (bright & inside).sum() / (bright.sum() + inside.sum()))


def test_image_and_labels_of_a_patch_are_cut_at_the_same_place():
    one = case()
    for step in range(12):
        batch = draw_batch(run(), Traits(), draw(), [one], 0, step)
        for x, y in zip(batch.x[Phase.VENOUS], batch.y[Phase.VENOUS], strict=True):
            start = np.unravel_index(hu_of(x[0, 0, 0, 0]), (20, 30, 40))
            window = tuple(slice(s, s + 8) for s in start)
            assert np.array_equal(hu_of(x[0]), one.scans[Phase.VENOUS].hu[window])
            assert np.array_equal(y, one.scans[Phase.VENOUS].channels[window])


def test_a_single_voxel_structure_is_seen_as_often_as_a_large_one():
    seen = np.zeros(3)
    for step in range(100):
        for y in draw_batch(run(), Traits(), draw(), [case()], 0, step).y[Phase.VENOUS]:
            seen[np.unique(y)] += 1
    assert seen[2] > 0.25 * 400 and seen[1] > 0.25 * 400


@pytest.mark.parametrize(("complete", "outside"), [(True, 0), (False, 254)])
def test_beyond_a_case_lies_air_that_is_background_only_where_all_is_annotated(complete, outside):
    batch = draw_batch(run(), Traits(), draw(), [case((4, 30, 40), complete=complete)], 0, 0)
    assert (hu_of(batch.x[Phase.VENOUS])[:, :, 4:] == -1024).all()
    assert (batch.y[Phase.VENOUS][:, 4:] == outside).all()


def test_a_batch_depends_on_its_number_alone():
    both = Draw(phases=tuple(Phase))
    first = draw_batch(run(), Traits(), both, [case(), case(name="b")], 0, 3)
    draw_batch(run(), Traits(), both, [case(), case(name="b")], 0, 1)
    again = draw_batch(run(), Traits(), both, [case(), case(name="b")], 0, 3)
    other = draw_batch(run(), Traits(), both, [case(), case(name="b")], 0, 2)
    assert torch.equal(first.x[Phase.VENOUS], again.x[Phase.VENOUS])
    assert torch.equal(first.y[Phase.VENOUS], again.y[Phase.VENOUS])
    assert first.phase is Phase.VENOUS and other.phase is Phase.ARTERIAL and first.seed != other.seed
    assert first.x[Phase.VENOUS].shape == (4, 1, 8, 8, 8) and first.y[Phase.VENOUS].shape == (4, 8, 8, 8)
    assert first.y[Phase.VENOUS].dtype == torch.int64 and first.annotated.shape == (4, 3)
    assert first.x[Phase.VENOUS].abs().max() <= 1


@pytest.mark.parametrize("pairing", ["single", "pair", "unpaired"])
def test_any_division_of_a_batch_gives_the_same_items(pairing):
    wanted = Draw(pairing, phases=(Phase.VENOUS,))
    cases = [case(name=name) for name in "abc"]
    whole = draw_batch(run(), Traits(), wanted, cases, 1, 5)
    parts = [draw_batch(run(), Traits(), wanted, cases, 1, 5, part) for part in (range(0, 1), range(1, 4))]
    assert torch.equal(torch.cat([p.x[Phase.VENOUS] for p in parts]), whole.x[Phase.VENOUS])
    assert torch.equal(torch.cat([p.y[Phase.VENOUS] for p in parts]), whole.y[Phase.VENOUS])
    assert [(p.first, p.size, p.seed) for p in parts] == [(0, 4, whole.seed), (1, 4, whole.seed)]
    drawn = [g.initial_seed() for p in parts for g in p.draws()]
    assert drawn == [g.initial_seed() for g in whole.draws()]


def test_a_pair_is_cut_and_turned_at_one_place_while_noise_differs():
    one = draw_batch(run(), Traits(), draw(pairing="pair", augment=TURNS), [case()], 0, 0)
    assert torch.equal(one.x[Phase.ARTERIAL], one.x[Phase.VENOUS])
    assert torch.equal(one.y[Phase.ARTERIAL], one.y[Phase.VENOUS])
    noisy = draw_batch(run(), Traits(), draw(pairing="pair", augment=AugmentConfig(share=1.0)), [case()], 0, 0)
    assert not torch.equal(noisy.x[Phase.ARTERIAL], noisy.x[Phase.VENOUS])
    assert torch.equal(noisy.y[Phase.ARTERIAL], noisy.y[Phase.VENOUS])


def apart(count: int) -> list[TrainingCase]:
    """Cases that their HU tell apart, which lie in disjoint ranges; labels differ between the phases."""
    cases = []
    for number in range(count):
        one = case(name=str(number))
        scans = {phase: replace(scan(), hu=np.full((20, 30, 40), 100 * number, np.int16)) for phase in Phase}
        scans[Phase.VENOUS].channels[scans[Phase.VENOUS].channels == 1] = 2
        cases.append(replace(one, scans=scans, pair=None))
    return cases


def drawn_cases(wanted: Draw, cases: list[TrainingCase], steps: int = 40) -> dict[Phase, list[int]]:
    found: dict[Phase, list[int]] = {phase: [] for phase in Phase}
    for step in range(steps):
        for phase, x in draw_batch(run(), Traits(), wanted, cases, 0, step).x.items():
            found[phase] += [int(hu_of(item).max()) // 100 for item in x]
    return found


def test_unpaired_items_are_of_cases_and_places_of_their_own_with_their_phase_s_labels():
    wanted, cases = Draw("unpaired", augment=NO_AUGMENT, focus_share=1.0), apart(3)
    found = drawn_cases(wanted, cases)
    assert {(a, v) for a, v in zip(*found.values(), strict=True)} == {(a, v) for a in range(3) for v in range(3)}
    batch = draw_batch(run(), Traits(), wanted, cases, 0, 0)
    assert set(batch.x) == set(batch.y) == set(Phase) and batch.annotated.shape == (4, 3)
    assert not torch.equal(batch.y[Phase.ARTERIAL] > 0, batch.y[Phase.VENOUS] > 0)
    assert not (batch.y[Phase.VENOUS] == 1).any() and (batch.y[Phase.ARTERIAL] == 1).any()


def test_unpaired_phases_need_no_case_that_has_both_and_the_smaller_one_comes_round_more_often():
    cases = apart(4)
    lone = [replace(c, scans={Phase.ARTERIAL: c.scans[Phase.ARTERIAL]}) for c in cases[:3]]
    lone.append(replace(cases[3], scans={Phase.VENOUS: cases[3].scans[Phase.VENOUS]}))
    found = drawn_cases(Draw("unpaired", augment=NO_AUGMENT), lone)
    assert set(found[Phase.ARTERIAL]) == {0, 1, 2} and set(found[Phase.VENOUS]) == {3}
    part = replace(lone[3], annotated=np.array([False, True, False]))
    batch = draw_batch(run(), Traits(), Draw("unpaired", augment=NO_AUGMENT), [*lone[:3], part], 0, 0)
    assert batch.annotated.tolist() == [[False, True, False]] * 4
    with pytest.raises(UserError, match="the venous scan with labels"):
        check_draws(run(), [Draw("unpaired")], lone[:3])


def test_shares_are_the_first_arterial_and_the_last_venous_cases_one_at_least():
    shares = {Phase.ARTERIAL: 0.5, Phase.VENOUS: 0.01}
    found = drawn_cases(Draw("unpaired", shares=shares, augment=NO_AUGMENT), apart(4))
    assert set(found[Phase.ARTERIAL]) == {0, 1} and set(found[Phase.VENOUS]) == {3}
    single = drawn_cases(draw(phases=tuple(Phase), shares=shares), apart(4))
    assert set(single[Phase.ARTERIAL]) == {0, 1} and set(single[Phase.VENOUS]) == {3}


def test_phases_whose_labels_nobody_reads_need_none():
    bare = np.empty((0, 3), np.int32)
    cases = apart(3)
    for one in cases:  # annotated, but not in the arterial scan
        arterial = replace(one.scans[Phase.ARTERIAL], anchors=(bare,) * len(one.scans[Phase.ARTERIAL].anchors))
        one.scans[Phase.ARTERIAL] = arterial
    with pytest.raises(UserError, match="the arterial scan with labels"):
        check_draws(run(), [Draw("unpaired")], cases)
    wanted = Draw("unpaired", unlabelled=(Phase.ARTERIAL,), augment=NO_AUGMENT)
    check_draws(run(), [wanted], cases)
    assert set(drawn_cases(wanted, cases)[Phase.ARTERIAL]) == {0, 1, 2}
    part = [replace(one, annotated=np.array([False, True, False])) for one in cases]
    with pytest.raises(UserError, match="lacks"):
        check_draws(run(labels=(0, 1, 2)), [wanted], part)
    check_draws(run(), [replace(wanted, unlabelled=tuple(Phase))], part)
    nobody = [replace(one, annotated=np.zeros(3, bool)) for one in cases]
    lone = [replace(one, scans={Phase.ARTERIAL: one.scans[Phase.ARTERIAL]}) for one in nobody]
    labelled = [replace(one, scans={Phase.VENOUS: one.scans[Phase.VENOUS]}) for one in cases]
    batch = draw_batch(run(), Traits(), wanted, [*lone, *labelled], 0, 0)
    assert batch.annotated.all()  # what is read is


def test_a_further_draw_has_items_of_its_own_however_the_batch_is_divided():
    few = Draw("unpaired", shares=dict.fromkeys(Phase, 0.25), augment=NO_AUGMENT)
    wanted, cases = replace(few, shares={}, also=few), [case(name=name) for name in "abcd"]
    whole = draw_batch(run(), Traits(), wanted, cases, 1, 5)
    parts = [draw_batch(run(), Traits(), wanted, cases, 1, 5, part) for part in (range(0, 1), range(1, 4))]
    assert not torch.equal(whole.also.x[Phase.VENOUS], whole.x[Phase.VENOUS])
    assert torch.equal(torch.cat([p.also.x[Phase.VENOUS] for p in parts]), whole.also.x[Phase.VENOUS])
    assert torch.equal(whole.to(torch.device("cpu")).also.y[Phase.ARTERIAL], whole.also.y[Phase.ARTERIAL])
    part = [replace(c, annotated=np.array([False, True, False])) for c in cases[1:]]
    check_draws(run(labels=(0, 1, 2)), [replace(few, shares={})], [cases[0], *part])
    with pytest.raises(UserError, match="lacks spleen"):
        check_draws(run(labels=(0, 1, 2)), [replace(wanted, also=few)], [cases[0], *part])


def test_mixed_takes_every_fourth_item_from_a_partly_annotated_case():
    cases = [case(name="full"), case(name="part", complete=False)]
    for step in range(5):
        batch = draw_batch(run(batch=8), Traits(), draw(annotation="mixed"), cases, 0, step)
        assert batch.annotated[:, 0].tolist() == [True, True, True, False] * 2
    with pytest.raises(UserError, match="batch is 2"):
        draw_batch(run(batch=2), Traits(), draw(annotation="mixed"), cases, 0, 0)


@pytest.mark.parametrize(("annotation", "complete"), [("full", True), ("partial", False)])
def test_a_stage_can_ask_for_one_kind_of_annotation(annotation, complete):
    cases = [case(name="full"), case(name="part", complete=False)]
    batch = draw_batch(run(), Traits(), draw(annotation=annotation), cases, 0, 0)
    assert (batch.annotated[:, 0] == complete).all()


def test_cases_without_what_is_needed_are_passed_over_and_none_left_is_one_sentence():
    lone = replace(case(name="lone"), scans={Phase.ARTERIAL: scan()}, pair=None)
    batch = draw_batch(run(), Traits(), draw(), [lone, case()], 0, 0)
    assert batch.x[Phase.VENOUS].shape[0] == 4
    with pytest.raises(UserError, match="no case to learn from has the venous scan"):
        draw_batch(run(), Traits(), draw(), [lone], 0, 0)
    with pytest.raises(UserError, match="both scans with venous labels"):
        draw_batch(run(), Traits(), draw(pairing="pair"), [lone], 0, 0)
    with pytest.raises(UserError, match="annotated in part"):
        draw_batch(run(), Traits(), draw(annotation="partial"), [case()], 0, 0)
    empty = replace(scan(), anchors=(np.empty((0, 3), np.int32),) * 3)
    with pytest.raises(UserError, match="with labels"):
        draw_batch(run(), Traits(), draw(), [replace(case(), scans={Phase.VENOUS: empty})], 0, 0)


def test_focus_chooses_what_patches_are_centred_on():
    wanted = draw(focus=(2,), focus_share=1.0)
    for step in range(10):
        assert (
            (draw_batch(run(), Traits(), wanted, [case()], 0, step).y[Phase.VENOUS] == 2).any(-1).any(-1).any(-1).all()
        )


def test_standardised_inputs_use_the_whole_scan():
    plain = draw_batch(run(), Traits(), draw(), [case()], 0, 0).x[Phase.VENOUS]
    standard = draw_batch(run(), Traits(standardise=True), draw(), [case()], 0, 0).x[Phase.VENOUS]
    assert torch.allclose(standard, (plain - 0.25) / 0.5)


@pytest.mark.parametrize("patch_vox", [(24, 32, 32), (3, 32, 32), (1, 32, 32)])
def test_turning_moves_image_and_labels_together_and_smears_no_border(patch_vox):
    wanted = draw(augment=TURNS, patch_vox=patch_vox, focus_share=1.0)
    still = draw(patch_vox=patch_vox, focus_share=1.0)
    changed = 0
    for step in range(4):
        batch = draw_batch(run(window_hu=(0, 1000)), Traits(), wanted, [blob()], 0, step)
        plain = draw_batch(run(window_hu=(0, 1000)), Traits(), still, [blob()], 0, step)
        for x, y, y0 in zip(batch.x[Phase.VENOUS], batch.y[Phase.VENOUS], plain.y[Phase.VENOUS], strict=True):
            assert dice(x[0], y) > 0.9
            changed += not torch.equal(y, y0)
    assert changed >= 12


def test_thin_patches_are_turned_in_plane_only():
    tall = case((30, 40, 40))
    tall.scans[Phase.VENOUS].channels[:] = np.arange(30, dtype=np.uint8)[:, None, None]
    wanted = draw(augment=TURNS, patch_vox=(3, 16, 16))
    for y in draw_batch(run(), Traits(), wanted, [tall], 0, 0).y[Phase.VENOUS]:
        assert all(len(np.unique(plane[plane > 0])) <= 1 for plane in y)  # 0 lies beyond the case


def test_a_rotation_turns_millimetres_not_voxels():
    config = AugmentConfig(share=1.0, rotate_deg=(0, 0, 90), one_sided=True, scale=(1, 1))
    move = draw_move(config, (32, 32, 32), (4.0, 1.0, 2.0), np.random.default_rng(0))
    spacing = np.diag([4.0, 1.0, 2.0])
    turn = spacing @ move.matrix @ np.linalg.inv(spacing)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.isclose(np.linalg.det(turn), 1) and turn[2, 2] == 1
    assert not np.allclose(turn, np.eye(3))


def test_enlarging_by_two_shows_twice_the_size():
    config = TURNS.model_copy(update={"rotate_deg": (0.0, 0.0, 0.0), "scales": (2.0,)})
    one = blob((32, 32, 32))
    wanted = draw(augment=config, patch_vox=(32, 32, 32))
    y = draw_batch(run(batch=1), Traits(), wanted, [one], 0, 0).y[Phase.VENOUS][0]
    # The box is 13 voxels wide, from 8 to 20; the centre is 15.5.
    assert y[16, 16].nonzero().flatten().tolist() == list(range(26))


def test_a_pair_is_learned_from_by_its_venous_labels():
    bare = replace(scan(), anchors=anchors(np.full((1, 1, 1), 255)))
    one = replace(case(), pair={Phase.ARTERIAL: scan(), Phase.VENOUS: bare})
    with pytest.raises(UserError, match="both scans with venous labels"):
        check_draws(run(), [Draw("pair")], [one])


def test_what_some_stage_lacks_is_said_before_the_first_step():
    full, part = case(), case(name="b", complete=False)
    check_draws(run(), [draw(annotation="mixed")], [full, part])
    with pytest.raises(UserError, match="annotated in part has the venous scan"):
        check_draws(run(), [draw(), draw(annotation="mixed")], [full])
    lone = replace(full, scans={Phase.VENOUS: scan()}, pair=None)
    with pytest.raises(UserError, match="the arterial scan with labels"):
        check_draws(run(), [draw(phases=tuple(Phase))], [lone])


def test_without_a_case_annotated_in_full_nobody_shows_background():
    part = case(name="b", complete=False)
    with pytest.raises(UserError, match="even 'b' lacks spleen"):
        check_draws(run(labels=(0, 1, 2)), [draw()], [part])
    check_draws(run(labels=(0, 1, 2)), [draw(knows_background=True)], [part])


def corrected(where=(6, 7, 8)) -> TrainingCase:
    """A prediction of which a person looked at one voxel, of background."""
    whole = scan((20, 40, 40))
    reviewed = np.zeros(whole.hu.shape, bool)
    reviewed[where] = True
    shown = np.where(reviewed, whole.channels, 255)
    one = replace(whole, anchors=anchors(shown), reviewed=reviewed)
    scans = dict.fromkeys(Phase, one)
    return TrainingCase("seen", "seen", scans, scans, np.array([False, False, False]), (2.0, 1.0, 1.0))


def test_patches_of_a_corrected_case_lie_where_somebody_looked():
    for step in range(20):
        batch = draw_batch(run(), Traits(), draw(focus_share=1.0, reviewed_weight=5.0), [corrected()], 0, step)
        weight = batch.weight[Phase.VENOUS]
        assert weight.shape == batch.y[Phase.VENOUS].shape and set(weight.unique().tolist()) <= {1.0, 5.0}
        assert [int((item == 5).sum()) for item in weight] == [1] * 4  # each patch holds the voxel
        at = int(np.ravel_multi_index((6, 7, 8), (20, 40, 40)))
        assert set(hu_of(batch.x[Phase.VENOUS])[weight.numpy()[:, None] == 5].tolist()) == {at}


def test_turned_patches_turn_what_was_looked_at_with_the_labels():
    whole = blob()
    reviewed = np.asarray(whole.scans[Phase.VENOUS].channels == 1)
    scans = {phase: replace(one, reviewed=reviewed) for phase, one in whole.scans.items()}
    turned = replace(whole, scans=scans, pair=scans)
    batch = draw_batch(run(patch_vox=(16, 16, 16)), Traits(), draw(augment=TURNS, reviewed_weight=2.0), [turned], 0, 1)
    assert torch.equal(batch.weight[Phase.VENOUS] == 2, batch.y[Phase.VENOUS] == 1)


def test_ordinary_cases_count_everywhere_as_what_was_drawn():
    batch = draw_batch(run(), Traits(), draw(reviewed_weight=5.0), [case()], 0, 0)
    assert (batch.weight[Phase.VENOUS] == 5).all()
    assert not draw_batch(run(), Traits(), draw(), [case()], 0, 0).weight


def test_background_that_somebody_looked_at_tells_what_background_is():
    check_draws(run(), [draw()], [corrected()])
    nothing = corrected((2, 3, 4))  # a voxel of structure 1 alone
    with pytest.raises(UserError, match="what is background"):
        check_draws(run(labels=(0, 1, 2)), [draw()], [nothing])
