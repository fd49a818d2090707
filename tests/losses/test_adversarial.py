"""Closed-form values of the adversarial losses, and the history of generated images."""

import pytest
import torch

from napari_multiphase.losses.adversarial import ImagePool, cycle_loss, discriminator_loss, generator_loss


def scores(value: float, shape=(2, 1, 3, 4)) -> torch.Tensor:
    return torch.full(shape, value, dtype=torch.float64)


def test_an_undecided_discriminator_costs_both_sides_a_quarter():
    assert discriminator_loss(scores(0.5), scores(0.5)).item() == pytest.approx(0.25, abs=1e-12)
    assert generator_loss(scores(0.5)).item() == pytest.approx(0.25, abs=1e-12)


def test_a_fooled_discriminator_costs_the_generator_nothing_and_itself_a_half():
    assert generator_loss(scores(1)).item() == 0
    assert discriminator_loss(scores(1), scores(1)).item() == pytest.approx(0.5, abs=1e-12)
    assert discriminator_loss(scores(1), scores(0)).item() == 0


def test_the_cycle_is_a_mean_over_voxels_however_many_there_are():
    x = torch.randn(2, 1, 4, 5, 6, dtype=torch.float64)
    assert cycle_loss(x, x).item() == 0
    assert cycle_loss(x + 0.25, x).item() == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("loss", [generator_loss, lambda s: discriminator_loss(s, s), lambda s: cycle_loss(s, s * 0)])
def test_gradients_match_finite_differences(loss):
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(loss, torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True))


def images(first: int, count: int = 1) -> torch.Tensor:
    return torch.arange(first, first + count).float()[:, None, None, None].expand(-1, 1, 2, 3).clone()


def draws(step: int, count: int = 1):
    return iter(torch.Generator().manual_seed(1000 * step + item) for item in range(count))


def test_the_pool_gives_its_input_back_until_it_holds_50():
    pool = ImagePool(50, (1, 2, 3))
    for step in range(50):
        given = pool.exchange(images(step).requires_grad_(), draws(step))
        assert torch.equal(given, images(step)) and not given.requires_grad
    assert int(pool.count) == 50
    assert torch.equal(pool.images, images(0, 50))


def test_a_full_pool_gives_an_older_image_half_of_the_time_and_keeps_the_new_one_instead():
    pool = ImagePool(50, (1, 2, 3))
    pool.exchange(images(0, 50), draws(0, 50))
    older = 0
    for step in range(50, 450):
        before = pool.images[:, 0, 0, 0].tolist()
        given = pool.exchange(images(step), draws(step))[0, 0, 0, 0].item()
        after = pool.images[:, 0, 0, 0].tolist()
        if given == step:
            assert after == before
        else:
            older += 1
            assert given in before and after == [step if value == given else value for value in before]
    assert 160 < older < 240


def test_the_pool_is_all_in_its_buffers_and_its_choices_in_the_given_generators():
    one, other = ImagePool(3, (1, 2, 3)), ImagePool(3, (1, 2, 3))
    one.exchange(images(0, 3), draws(0, 3))
    other.load_state_dict(one.state_dict())
    for step in range(3, 20):
        torch.manual_seed(step)
        a = one.exchange(images(step), draws(step))
        torch.manual_seed(99)
        assert torch.equal(a, other.exchange(images(step), draws(step)))
    assert torch.equal(one.images, other.images)


def test_a_batch_goes_through_the_pool_item_by_item():
    whole, single = ImagePool(2, (1, 2, 3)), ImagePool(2, (1, 2, 3))
    for step in range(10):
        batch = images(4 * step, 4)
        apart = torch.cat(
            [single.exchange(item[None], iter([g])) for item, g in zip(batch, draws(step, 4), strict=True)]
        )
        assert torch.equal(whole.exchange(batch, draws(step, 4)), apart)
    assert torch.equal(whole.images, single.images)
