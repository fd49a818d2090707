"""One suite that every method passes, over its own presets: shapes, flow, fitting one batch, precision, saving."""

import numpy as np
import pytest
import torch

from napari_multiphase.config import PRESETS, RunConfig, method_config, preset
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import write_model
from napari_multiphase.methods import METHODS, method
from napari_multiphase.methods.base import Batch, Draw, Stage
from napari_multiphase.training.card import card_of, model_tensors
from napari_multiphase.training.optimise import make_optimiser, only, turn_parameters
from napari_multiphase.volume import Phase

LARGE = [(name, kind) for name in METHODS for kind in PRESETS[name] if not kind.startswith("smoke")]
SMOKE = [(name, kind) for name in METHODS for kind in PRESETS[name] if kind.startswith("smoke")]


def built(name: str, kind: str):
    """The preset's networks and objective, on patches that a test can afford."""
    torch.manual_seed(0)
    run = preset(name, kind)
    divisor = method_config(name, run.method_config).traits.divisor
    least = [2 * d if d > 1 else 1 for d in divisor]
    patch = [min(p, max(n, 16)) if d > 1 else p for p, n, d in zip(run.patch_vox, least, divisor, strict=True)]
    run = run.model_copy(update={"patch_vox": tuple(patch)})
    return run, method(name).objective(run).train()


def batch_of(run: RunConfig, draw: Draw, seed: int = 0) -> Batch:
    """Images whose brightness tells the class: boxes of every structure on a background."""
    rng = np.random.default_rng(seed)
    shape, classes = (run.batch, *(draw.patch_vox or run.patch_vox)), len(run.labels)
    y = np.zeros(shape, np.int64)
    rows = np.array_split(np.arange(shape[2]), classes)
    for channel in range(1, classes):
        y[:, :, rows[channel]] = channel
    x = 2 * (y + 0.5) / classes - 1 + rng.normal(0, 0.02, shape)
    partial = draw.annotation in ("mixed", "partial")
    annotated = np.ones((run.batch, classes), bool)
    if partial:
        annotated[3::4] = False
        annotated[3::4, 1] = True
        y[3::4] = np.where(y[3::4] == 1, 1, 254)
    phases = draw.phases[:1] if draw.pairing == "single" else tuple(Phase)
    images = {p: torch.from_numpy(x.astype(np.float32))[:, None] for p in phases}
    also = draw.also and batch_of(run, draw.also, seed + 1)
    return Batch(images, {p: torch.from_numpy(y) for p in phases}, torch.from_numpy(annotated), 7, 0, run.batch, also)


def started(objective, stage: Stage, run: RunConfig) -> None:
    objective.begin(stage, lambda step: batch_of(run, stage.draw, step))
    objective.before_step(stage, 0)


@pytest.mark.parametrize(("name", "kind"), SMOKE)
def test_each_turn_moves_what_it_names_and_nothing_else(name, kind):
    run, objective = built(name, kind)
    for stage in objective.stages():
        started(objective, stage, run)
        for turn in stage.turns:
            own = turn_parameters(objective, turn)
            objective.zero_grad(set_to_none=True)
            with only(objective, own):
                sum(objective.terms(stage, turn, batch_of(run, stage.draw)).values()).backward()
            moved = {n for n, p in objective.named_parameters() if p.grad is not None}
            assert moved == set(own), f"{stage.name}: {sorted(moved ^ set(own))[:5]}"


@pytest.mark.parametrize(("name", "kind"), SMOKE)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_one_batch_can_be_overfitted_and_half_precision_stays_finite(name, kind, precision):
    run, objective = built(name, kind)
    for stage in objective.stages()[:2]:
        started(objective, stage, run)
        turn, batch = stage.turns[0], batch_of(run, stage.draw)
        own = turn_parameters(objective, turn)
        optimiser = make_optimiser(turn.optimiser.model_copy(update={"kind": "adamw", "lr": 3e-3}), list(own.values()))
        losses = []
        for _ in range(4 if precision == torch.bfloat16 else 36):
            with only(objective, own):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                    terms = objective.terms(stage, turn, batch)
                optimiser.zero_grad()
                sum(terms.values()).backward()
            optimiser.step()
            losses.append(sum(term.item() for term in terms.values()))
        assert np.isfinite(losses).all()
        if precision == torch.float32:
            # Terms may be negative (a correlation) or have a floor (a prior): it is the fall that counts.
            assert min(losses[-5:]) < losses[0] - 0.3 * abs(losses[0]), f"{stage.name}: {losses}"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "kind"), SMOKE)
def test_a_step_on_the_gpu_says_what_the_processor_says(name, kind):
    run, objective = built(name, kind)
    for stage in objective.stages():
        started(objective, stage, run)
        batch = batch_of(run, stage.draw)
        here = sum(objective.terms(stage, stage.turns[0], batch).values()).item()
        there = sum(objective.cuda().terms(stage, stage.turns[0], batch.to(torch.device("cuda"))).values()).item()
        objective.cpu()
        assert abs(here - there) < 1e-2 * max(1, abs(here))


def tile_input(run: RunConfig, traits, device: str = "cpu") -> torch.Tensor:
    """What the engine gives a segmentor: the smallest tile of the patch's proportions."""
    sides = [max(d, p // 2 // d * d) for d, p in zip(traits.divisor, run.patch_vox, strict=True)]
    return torch.randn(1, traits.channels, sides[0] + 2 * traits.context_vox, *sides[1:], device=device)


@pytest.mark.parametrize(("name", "kind"), SMOKE)
def test_a_saved_model_says_the_same_and_refuses_other_shapes(name, kind, tmp_path):
    run, objective = built(name, kind)
    model = write_model(tmp_path / "model", card_of(run), model_tensors(objective))
    segmentor = method(name).load(model, torch.device("cpu"))
    config = method_config(name, run.method_config)
    stored = {key: torch.from_numpy(w).float() for key, w in model_tensors(objective).items()}
    objective.nets.load_state_dict(stored, strict=False)
    traits = config.traits
    same, x = method(name).segmentor(config, objective.nets.eval()), tile_input(run, traits)
    for phase in (Phase.VENOUS,) if traits.reads == "pair" else tuple(Phase):
        for member in range(traits.members):
            logits = segmentor.logits(phase, x, member)
            assert logits.shape[:2] == (1, len(run.labels))
            assert logits.shape[2:] == (x.shape[2] - 2 * traits.context_vox, *x.shape[3:])
            assert torch.equal(logits, same.logits(phase, x, member))
    wrong = model_tensors(objective)
    largest = max(wrong, key=lambda key: wrong[key].size)
    wrong[largest] = wrong[largest][..., :1]
    other = write_model(tmp_path / "other", card_of(run), wrong)
    with pytest.raises(UserError, match="the card"):
        method(name).load(other, torch.device("cpu"))


@pytest.mark.parametrize(("name", "kind"), SMOKE)
def test_combining_keeps_probabilities(name, kind):
    run, objective = built(name, kind)
    config = method_config(name, run.method_config)
    members = [torch.softmax(torch.randn(len(run.labels), 2, 5, 5) * 3, 0) for _ in range(config.traits.members)]
    combined = method(name).segmentor(config, objective.nets).combine(members)
    assert combined.shape == members[0].shape
    assert torch.allclose(combined.sum(0), torch.ones(2, 5, 5), atol=1e-5) and (combined >= 0).all()


@pytest.mark.parametrize(("name", "kind"), LARGE)
def test_large_presets_build_and_give_the_right_shapes(name, kind):
    """On the meta device: nothing is computed, nothing is allocated."""
    run = preset(name, kind)
    config = method_config(name, run.method_config)
    with torch.device("meta"):
        nets = method(name).nets(config, len(run.labels)).eval()
    segmentor, traits = method(name).segmentor(config, nets), config.traits
    assert all(p % d == 0 for p, d in zip(run.patch_vox, traits.divisor, strict=True))
    x = tile_input(run, traits, "meta")
    logits = segmentor.logits(Phase.VENOUS, x)
    assert logits.shape == (1, len(run.labels), x.shape[2] - 2 * traits.context_vox, *x.shape[3:])
    parameters = sum(p.numel() for p in nets.parameters())
    most = 6e8 if name == "pcn" else 2e8  # the four FCN-8s of PCN's paper form have 134 million each
    assert 1e6 < parameters < most


def test_an_unknown_method_or_preset_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match="pcn"):
        method("nonesuch")
    with pytest.raises(UserError, match="smoke"):
        preset("hpn", "nonesuch")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_presets(name):
    assert {"paper", "workstation", "smoke"} <= set(PRESETS[name])
