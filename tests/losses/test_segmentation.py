"""Closed-form values of the segmentation loss, and what must not reach its gradient."""

import pytest
import torch

from napari_multiphase.losses.segmentation import LEAST_HELD_VOX, BinaryDiceLoss, DiceCrossEntropyLoss, hold_loss

LOSS = DiceCrossEntropyLoss()


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    """(D, H, W) probability of class 1 -> two-class logits (1, 2, D, H, W), float64."""
    p = probability.double()
    return torch.stack([torch.log1p(-p), torch.log(p)])[None]


def half_on() -> torch.Tensor:
    target = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    target[0, 0] = 1
    return target


def test_undecided_with_half_the_voxels_on_is_one_half():
    terms = LOSS(logits_of(torch.full((2, 2, 2), 0.5)), half_on())
    assert terms["dice"].item() == pytest.approx(0.5, abs=1e-6)
    assert terms["cross_entropy"].item() == pytest.approx(0.6931471806, abs=1e-9)


def test_perfect_prediction_costs_nothing():
    target = half_on()
    probability = target[0].double().clamp(1e-12, 1 - 1e-12)
    terms = LOSS(logits_of(probability), target)
    assert sum(terms.values()).item() == pytest.approx(0.0, abs=1e-6)


def test_nothing_but_background_has_no_dice_term_but_a_finite_gradient():
    logits = torch.zeros(1, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    terms = LOSS(logits, torch.zeros(1, 2, 2, 2, dtype=torch.int64))
    assert terms["dice"].item() == 0.0
    sum(terms.values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_ignored_voxels_change_nothing_and_get_no_gradient():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (1, 4, 4, 4))
    target[:, 2:] = 255
    loss = sum(LOSS(logits, target).values())
    loss.backward()
    assert torch.count_nonzero(logits.grad[:, :, 2:]) == 0
    cropped = sum(LOSS(logits[:, :, :2], target[:, :2]).values())
    assert loss.item() == pytest.approx(cropped.item(), abs=1e-12)


def test_what_is_held_costs_nothing_where_it_stays_and_its_distance_where_it_moves():
    unknown = torch.full((1, 2, 2, 4), 255)
    was, now = logits_of(torch.full((2, 2, 4), 0.5)), logits_of(torch.full((2, 2, 4), 0.25))
    assert hold_loss(was, unknown, was, [1]).item() == pytest.approx(0, abs=1e-12)
    assert hold_loss(now, unknown, was, [1]).item() == pytest.approx(0.25 / 0.75)  # 16 x 0.25 / (16 x 0.25 + 16 x 0.5)
    unknown[:, 1] = 1  # known there: 8 voxels count as volume, not as a distance
    expected = 8 * 0.25 / (16 * 0.25 + 8 * 0.5 + 8)
    assert hold_loss(now, unknown, was, [1]).item() == pytest.approx(expected)


def test_each_structure_that_is_held_counts_as_one_of_those_that_are_known():
    target = torch.tensor([1, 2, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255]).reshape(1, 1, 2, 6)
    was = torch.zeros(1, 5, 1, 2, 6, dtype=torch.float64)
    now = was.clone()
    now[:, 4] = 1.0
    alone = hold_loss(now, torch.full_like(target, 255)[..., :1], was[..., :1], [4])
    assert alone.item() == 0, "of two voxels nothing is held"
    p, q = now.softmax(1)[0, 4].flatten(), torch.full((12,), 0.2, dtype=torch.float64)
    q[:3] = 0
    assert q.sum() < LEAST_HELD_VOX
    big = [x.repeat(1, 1, 4, 1, 1) for x in (now, was)]
    expected = (p - 0.2).abs()[3:].sum() / (p.sum() + q.sum()) / 3
    found = hold_loss(big[0], target.repeat(1, 4, 1, 1), big[1], [4])
    assert found.item() == pytest.approx(expected.item())


def test_holding_moves_neither_what_is_known_nor_what_is_hardly_there():
    torch.manual_seed(3)
    now = torch.randn(1, 3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    was = torch.randn(1, 3, 4, 4, 4, dtype=torch.float64)
    nothing = hold_loss(now, torch.zeros(1, 4, 4, 4, dtype=torch.int64), was, [1, 2])
    assert nothing.item() == 0 and nothing.requires_grad
    gone = was.clone()
    gone[:, 2] = -20  # so it does not say that channel 2 is anywhere
    target = torch.full((1, 4, 4, 4), 254)
    assert hold_loss(now, target, gone, [1, 2]).item() == pytest.approx(hold_loss(now, target, gone, [1]).item())
    assert gone.softmax(1)[:, 2].sum() < LEAST_HELD_VOX < gone.softmax(1)[:, 1].sum()


def test_the_least_of_what_is_held_is_what_was_said_before():
    """Of soft labels the soft Dice is least at p = 1, wherever they are."""
    target, q = torch.full((1, 2, 4, 4), 255), 0.3
    said = [0.05 * step for step in range(1, 20)]
    was, *now = (logits_of(torch.full((2, 4, 4), p, dtype=torch.float64)) for p in (q, *said))
    losses = [hold_loss(logits, target, was, [1]).item() for logits in now]
    assert said[losses.index(min(losses))] == pytest.approx(q) and max(losses) > 0.5
    dice = [1 - 2 * p * q / (p + q) for p in said]
    assert dice.index(min(dice)) == len(said) - 1


def test_gradient_matches_finite_differences():
    torch.manual_seed(1)
    logits = torch.randn(1, 3, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (1, 2, 2, 3))
    target[0, 0, 0, 0] = 255
    assert torch.autograd.gradcheck(lambda x: sum(LOSS(x, target).values()), logits)


# --- soft Dice of items --------------------------------------------------------------------------------------------

ITEMS = BinaryDiceLoss()


@pytest.mark.parametrize(
    ("p", "y", "loss"),
    [
        ([1.0, 0.0, 1.0, 0.0], [1, 0, 1, 0], 0.0),
        ([0.0] * 4, [0] * 4, 0.0),
        ([0.5] * 4, [1, 0, 1, 0], 0.5),
        ([0.0] * 4, [1, 0, 0, 0], 1.0),
    ],
)
def test_soft_dice_of_one_item(p, y, loss):
    p, y = torch.tensor(p, dtype=torch.float64), torch.tensor(y)
    assert ITEMS(p.view(1, 1, 2, 2), y.view(1, 1, 2, 2)).item() == pytest.approx(loss, abs=1e-5)


def test_items_count_alike_however_large_and_channels_count_together():
    p = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).view(2, 2, 1, 2)
    y = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]).view(2, 2, 1, 2)
    expected = 1 - (2 * 3 / 7 + 2 * 1 / 3) / 2
    assert ITEMS(p, y).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_of_soft_dice_is_the_closed_form_and_finite_differences_agree():
    torch.manual_seed(0)
    p = torch.rand(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    y = (torch.rand(1, 3, 2, 4) > 0.5).double()
    (grad,) = torch.autograd.grad(ITEMS(p, y), p)
    total, overlap = (p + y).sum(), (p * y).sum()
    assert torch.allclose(grad, -(2 * y * total - 2 * overlap) / total**2, atol=1e-6)
    known = torch.rand(1, 3, 2, 4) > 0.3
    assert torch.autograd.gradcheck(lambda q: ITEMS(q, y, known), p)


def test_what_is_not_known_does_not_count():
    torch.manual_seed(0)
    p, y = torch.rand(2, 3, 4, 4, dtype=torch.float64), torch.rand(2, 3, 4, 4) > 0.5
    known = torch.ones(2, 3, 4, 4, dtype=torch.bool)
    known[..., 2:] = False
    assert ITEMS(p, y, known).item() == pytest.approx(ITEMS(p[..., :2], y[..., :2]).item(), abs=1e-9)


def test_a_voxel_of_weight_three_counts_like_three_voxels():
    torch.manual_seed(3)
    logits, target = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64), torch.randint(0, 3, (1, 2, 2, 2))
    weight = torch.ones(1, 2, 2, 2)
    weight[0, 1] = 3.0
    repeated = torch.cat([logits, logits[:, :, 1:], logits[:, :, 1:]], dim=2)
    twice = torch.cat([target, target[:, 1:], target[:, 1:]], dim=1)
    for name, value in LOSS(repeated, twice).items():
        assert LOSS(logits, target, weight)[name].item() == pytest.approx(value.item(), rel=1e-9)


def test_weights_that_are_all_alike_change_nothing_and_what_is_unknown_has_none():
    torch.manual_seed(4)
    logits, target = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64), torch.randint(0, 3, (1, 2, 2, 2))
    target[0, 0, 0, 0] = 255
    for name, value in LOSS(logits, target).items():
        assert LOSS(logits, target, torch.full(target.shape, 4.0))[name].item() == pytest.approx(value.item(), rel=1e-6)
